import pytest
import torch

from biopart.grid import (
    Boxes,
    asymmetry,
    chance_mse,
    grid_boxes,
    log_scale,
    place,
    random_boxes,
    spread,
    translation,
)

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]


def all_pairs(boxes):
    reference = Boxes(boxes.start[:, :, None], boxes.size[:, :, None])
    target = Boxes(boxes.start[:, None], boxes.size[:, None])
    return translation(reference, target)


def drawn(shape, size, scale=(1, 1), batch=4, count=7):
    generator = torch.Generator().manual_seed(0)
    return random_boxes(batch, count, shape, size, scale=scale, generator=generator)


def test_translation_by_hand():
    reference = Boxes(torch.tensor([10, 40]), torch.tensor([4, 8]))  # centres 12, 44
    target = Boxes(torch.tensor([20, 36]), torch.tensor([8, 4]))  # centres 24, 38
    assert translation(reference, target).tolist() == [3.0, -0.75]
    assert translation(target, reference).tolist() == [-1.5, 1.5]


def test_a_later_target_has_a_positive_translation():
    early, late = (Boxes(torch.tensor([s]), torch.tensor([100])) for s in (0, 2900))
    assert translation(early, late).item() == 29.0


def test_log_scale_is_antisymmetric():
    small, large = (Boxes(torch.tensor([0]), torch.tensor([s])) for s in (50, 200))
    assert log_scale(small, large).item() == pytest.approx(1.3862944)
    assert log_scale(large, small).item() == pytest.approx(-1.3862944)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((224, 224), (16, 16), 28.4375), ((32, 32), (4, 4), 8.75), ((3000,), (100,), 140.26)],
)
def test_chance_by_the_published_figures(shape, size, expected):
    assert chance_mse(shape, size).tolist() == pytest.approx([expected] * len(shape), abs=5e-3)


def test_chance_on_the_grid_of_30_patches_is_155():
    assert chance_mse((3000,), (100,), on_grid=True).tolist() == pytest.approx([155.0])


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_chance_equals_the_mean_over_every_pair_of_places(shape, size):
    for axis, (extent, side) in enumerate(zip(shape, size, strict=True)):
        start = torch.arange(extent - side + 1).double()
        expected = ((start[:, None] - start) / side).square().mean()
        assert chance_mse(shape, size)[axis] == pytest.approx(expected.item())


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_chance_on_the_grid_equals_the_mean_over_its_pairs(shape, size):
    boxes = grid_boxes(shape, size)
    pairs = all_pairs(Boxes(boxes.start[None], boxes.size[None]))[0]
    different = ~torch.eye(len(pairs), dtype=torch.bool)
    expected = pairs[different].double().square().mean(0)
    torch.testing.assert_close(chance_mse(shape, size, on_grid=True), expected.float())


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_places_from_true_relations_are_the_centres(shape, size):
    boxes = drawn(shape, size)
    centre = boxes.centre / torch.tensor(size)
    expected = centre - centre.mean(1, keepdim=True)
    torch.testing.assert_close(place(all_pairs(boxes)), expected.float(), rtol=0, atol=1e-5)
    seen = place(all_pairs(boxes), reference=2)
    torch.testing.assert_close(seen, (centre - centre[:, 2:3]).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_places_of_boxes_of_several_sizes(shape, size):
    boxes = drawn(shape, size, scale=(0.5, 1.5))
    expected = boxes.centre - boxes.centre.mean(1, keepdim=True)
    placed = place(all_pairs(boxes), size=boxes.size)
    torch.testing.assert_close(placed, expected.float(), rtol=0, atol=1e-4)
    seen = place(all_pairs(boxes), 0, boxes.size)
    torch.testing.assert_close(seen, (boxes.centre - boxes.centre[:, :1]).float())


@pytest.mark.parametrize("sized", [False, True])
def test_places_are_the_least_squares_of_a_general_solver(sized):
    count = 6
    generator = torch.Generator().manual_seed(0)
    relations = torch.randn(1, count, count, 1, generator=generator, dtype=torch.float64)
    size = torch.rand(1, count, 1, generator=generator, dtype=torch.float64) + 0.5
    side = size[0, :, 0] if sized else torch.ones(count, dtype=torch.float64)
    rows, values = [torch.ones(count, dtype=torch.float64)], [torch.tensor(0.0)]
    for r in range(count):
        for t in range(count):
            if r != t:
                row = torch.zeros(count, dtype=torch.float64)
                row[t], row[r] = 1 / side[r], -1 / side[r]
                rows.append(row)
                values.append(relations[0, r, t, 0])
    expected = torch.linalg.lstsq(torch.stack(rows), torch.stack(values)[:, None]).solution
    placed = place(relations, size=size if sized else None)
    torch.testing.assert_close(placed[0], expected)


def test_the_diagonal_is_not_read():
    relations = all_pairs(drawn((30,), (6,)))
    noisy = relations + 5 * torch.eye(7)[None, :, :, None]
    for function in (place, spread, asymmetry, lambda r: place(r, 3)):
        assert torch.equal(function(noisy), function(relations))


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_true_relations_have_no_spread_and_no_asymmetry(shape, size):
    relations = all_pairs(drawn(shape, size))
    assert spread(relations).abs().max() < 1e-5
    assert asymmetry(relations).max() < 1e-6
    assert asymmetry(relations).shape == (4, len(shape))


def test_spread_by_hand():
    # Seen from 0: places 0, 3 -> -1.5, 1.5. Seen from 1: places -1, 0 -> -0.5, 0.5.
    relations = torch.tensor([[[[0.0], [3.0]], [[-1.0], [0.0]]]])
    assert spread(relations).flatten().tolist() == [0.5, 0.5]
    doubled = spread(relations, size=torch.full((1, 2, 1), 2))
    assert doubled.flatten().tolist() == [1.0, 1.0]


def test_a_sign_error_shows_in_the_places():
    relations = all_pairs(drawn((30,), (6,)))
    assert torch.equal(place(-relations), -place(relations))


def test_relations_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"give \(B, K, K, N\)"):
        place(torch.zeros(2, 3, 1))
