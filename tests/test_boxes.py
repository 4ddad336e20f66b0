import pytest
import torch

from biopart.grid import Boxes, cut, grid_boxes, random_boxes

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("shape", "size"), GRIDS)
@pytest.mark.parametrize("scale", [(1, 1), (0.5, 2), (0.5, 0.5)])
def test_random_boxes_stay_inside(shape, size, scale):
    boxes = random_boxes(50, 20, shape, size, scale=scale, generator=seeded())
    assert boxes.start.shape == boxes.size.shape == (50, 20, len(shape))
    assert boxes.start.dtype == boxes.size.dtype == torch.int64
    assert (boxes.start >= 0).all()
    assert (boxes.start + boxes.size <= torch.tensor(shape)).all()


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_sides_stay_between_the_two_scales(shape, size):
    boxes = random_boxes(50, 40, shape, size, scale=(0.5, 2), generator=seeded())
    for axis, side in enumerate(size):
        drawn = boxes.size[..., axis]
        assert drawn.min() == (side + 1) // 2  # half a side, rounded
        assert drawn.max() == 2 * side


def test_starts_are_uniform_over_every_place():
    boxes = random_boxes(1000, 100, (14,), (5,), generator=seeded())
    counts = torch.bincount(boxes.start.flatten(), minlength=10)
    assert counts.shape == (10,)
    chi2 = ((counts - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 27.9  # 99.9 % quantile of chi-squared with 9 degrees of freedom


def test_sides_are_log_uniform():
    boxes = random_boxes(400, 100, (400,), (100,), scale=(0.5, 2), generator=seeded())
    logs = torch.log2(boxes.size.double() / 100)
    assert logs.mean().abs() < 0.01  # as many below P as above it
    assert (logs.var() - 4 / 12).abs() < 0.01  # uniform over [-1, 1]


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_an_axis_of_extent_1_changes_no_draw(shape, size):
    plain = random_boxes(3, 7, shape, size, scale=(0.5, 1.5), generator=seeded(3))
    flat = random_boxes(3, 7, (1, *shape), (1, *size), scale=(0.5, 1.5), generator=seeded(3))
    assert torch.equal(flat.start[..., 1:], plain.start)
    assert torch.equal(flat.size[..., 1:], plain.size)
    assert (flat.start[..., 0] == 0).all()
    assert (flat.size[..., 0] == 1).all()


def test_a_patch_as_long_as_the_grid_starts_at_0():
    boxes = random_boxes(4, 3, (10,), (10,), generator=seeded())
    assert (boxes.start == 0).all()


def test_same_generator_gives_the_same_boxes():
    one = random_boxes(2, 3, (99, 50), (4, 4), generator=seeded(5))
    two = random_boxes(2, 3, (99, 50), (4, 4), generator=seeded(5))
    assert torch.equal(one.start, two.start)


def test_boxes_go_to_the_device_asked_for():
    boxes = random_boxes(2, 3, (9,), (4,), generator=seeded(), device="cpu")
    assert boxes.start.device == torch.device("cpu")


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_grid_boxes_tile_the_grid_row_major(shape, size):
    boxes = grid_boxes(shape, size)
    seen = torch.zeros(shape, dtype=torch.int64)
    for start in boxes.start.tolist():
        seen[tuple(slice(s, s + p) for s, p in zip(start, size, strict=True))] += 1
    assert (seen == 1).all()
    assert boxes.start.tolist() == sorted(boxes.start.tolist())


def test_centre_is_start_plus_half_the_size():
    boxes = Boxes(torch.tensor([[0, 3]]), torch.tensor([[4, 5]]))
    assert boxes.centre.tolist() == [[2.0, 5.5]]


def test_boxes_of_unequal_shape_are_refused():
    with pytest.raises(ValueError, match="both the shape"):
        Boxes(torch.zeros(2, 1), torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid_boxes((10,), (3,)), "whole number of patches"),
        (lambda: grid_boxes((10,), (3, 3)), "1 axes but the patch"),
        (lambda: random_boxes(1, 1, (10,), (11,)), "does not fit"),
        (lambda: random_boxes(1, 1, (10,), (6,), scale=(0.5, 2)), "does not fit"),
        (lambda: random_boxes(1, 1, (10,), (6,), scale=(2, 1)), "smallest <= largest"),
    ],
)
def test_wrong_sizes_are_refused_with_the_figures(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scale", [(1, 1), (0.5, 2), (2, 2), (0.3, 0.3)])
def test_boxes_say_the_range_of_their_sides(scale):
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(50, 40, (1, 64, 30), (1, 8, 6), scale=scale, generator=generator)
    low, high = boxes.size.flatten(0, 1).aminmax(dim=0)
    assert boxes.sides is not None
    # 2,000 log-uniform draws reach both ends: 4 and 16 samples of 8, 3 and 12 of 6.
    assert [int(x) for x in low] == [smallest for smallest, _ in boxes.sides]
    assert [int(x) for x in high] == [largest for _, largest in boxes.sides]
    values = torch.randn(50, 2, 1, 64, 30, generator=generator)
    unsaid = Boxes(boxes.start, boxes.size)
    torch.testing.assert_close(cut(values, boxes, (1, 8, 6)), cut(values, unsaid, (1, 8, 6)))
