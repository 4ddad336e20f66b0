"""Boxes drawn from a density: its proportions by hand, uniform where it is flat."""

import pytest
import torch

from biopart.grid import Boxes, random_boxes
from biopart.grid.focus import covered, energy, focused_boxes, inside


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("shape", "size"), [((9,), (4,)), ((6, 5), (3, 2)), ((4, 3, 3), (2, 2, 1))]
)
def test_a_flat_density_draws_every_place_alike(
    shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    count = 60_000
    boxes = focused_boxes(torch.full((1, *shape), 7.0), count, size, generator=generator())
    assert (boxes.size == torch.tensor(size)).all()
    places, hits = boxes.start[0].unique(dim=0, return_counts=True)
    expected = torch.tensor([s - p + 1 for s, p in zip(shape, size, strict=True)]).prod()
    assert len(places) == expected
    share = 1 / expected
    assert ((hits / count - share).abs() < 5 * (share / count) ** 0.5).all()


def test_places_are_drawn_in_proportion_to_what_they_cover() -> None:
    density = torch.tensor([[0.0, 1.0, 3.0, 0.0], [5.0, 0.0, 0.0, 0.0]])
    boxes = focused_boxes(density, 40_000, (2,), generator=generator())
    first, second = boxes.start[..., 0]
    shares = torch.bincount(first, minlength=3) / 40_000
    torch.testing.assert_close(shares, torch.tensor([1, 4, 3]) / 8, rtol=0, atol=0.01)
    assert (second == 0).all()


def test_a_grid_where_nothing_counts_is_drawn_from_uniformly() -> None:
    boxes = focused_boxes(torch.zeros(2, 5, 5), 500, (2, 2), generator=generator())
    assert boxes.start.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(12,), (1, 12), (12, 1), (1, 12, 1)])
def test_an_axis_of_one_sample_changes_nothing(shape: tuple[int, ...]) -> None:
    density = torch.rand(3, 12, generator=generator(1))
    plain = focused_boxes(density, 8, (4,), generator=generator())
    size = tuple(4 if extent > 1 else 1 for extent in shape)
    boxes = focused_boxes(density.reshape(3, *shape), 8, size, generator=generator())
    assert torch.equal(boxes.start[..., shape.index(12)], plain.start[..., 0])
    assert boxes.start.sum() == plain.start.sum()


def test_what_a_box_covers_is_summed_over_all_axes() -> None:
    density = torch.rand(2, 4, 5, 3, generator=generator())
    found = covered(density, (2, 3, 1))
    assert found.shape == (2, 3, 3, 3)
    torch.testing.assert_close(found[1, 2, 0, 1], density[1, 2:4, 0:3, 1].sum())


def test_an_objects_boxes_are_the_density_of_their_union() -> None:
    boxes = Boxes(torch.tensor([[[0, 1], [1, 1]]]), torch.tensor([[[1, 2], [2, 1]]]))
    assert inside(boxes, (3, 3))[0].tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 0]]
    drawn = focused_boxes(inside(boxes, (3, 3)), 200, (1, 1), generator=generator())
    assert {tuple(p) for p in drawn.start[0].tolist()} == {(0, 1), (0, 2), (1, 1), (2, 1)}


def test_energy_is_the_mean_square_over_channels() -> None:
    values = torch.tensor([[[3.0, 0.0], [4.0, 1.0]]])
    assert energy(values).tolist() == [[12.5, 0.5]]


def test_the_same_generator_draws_the_same_boxes_and_never_outside() -> None:
    density = torch.rand(4, 9, 7, generator=generator(2)).square()
    one, two = (focused_boxes(density, 30, (3, 2), generator=generator(5)) for _ in range(2))
    assert torch.equal(one.start, two.start)
    assert (one.start >= 0).all()
    assert ((one.start + one.size) <= torch.tensor([9, 7])).all()
    assert random_boxes(4, 30, (9, 7), (3, 2)).start.shape == one.start.shape


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_density_that_is_none_is_refused(value: float) -> None:
    density = torch.ones(1, 5)
    density[0, 2] = value
    with pytest.raises(ValueError, match="the density of grid 0 has the value "):
        focused_boxes(density, 3, (2,))


def test_a_box_larger_than_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit into a grid"):
        focused_boxes(torch.ones(1, 5), 3, (6,))
