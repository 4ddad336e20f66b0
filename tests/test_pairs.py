import pytest
import torch

from biopart.grid import (
    Boxes,
    Target,
    draw_near_pairs,
    draw_pairs,
    pick,
    pointwise,
    random_boxes,
    translation,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("self_pairs", [False, True])
def test_pairs_without_replacement_are_all_different(self_pairs):
    pairs = draw_pairs(3, 6, 25, generator(), replacement=False, self_pairs=self_pairs)
    for grid in pairs:
        assert len({tuple(pair) for pair in grid.tolist()}) == 25
    assert not torch.equal(pairs[0], pairs[1])
    assert bool((pairs[..., 0] == pairs[..., 1]).any()) is self_pairs


def test_drawing_as_many_as_there_are_gives_all():
    every = {(r, t) for r in range(4) for t in range(4)}
    drawn = draw_pairs(1, 4, 16, generator(), replacement=False, self_pairs=True)
    assert {tuple(pair) for pair in drawn[0].tolist()} == every
    assert {tuple(pair) for pair in draw_pairs(1, 4, None, self_pairs=True)[0].tolist()} == every
    others = {pair for pair in every if pair[0] != pair[1]}
    assert {tuple(pair) for pair in draw_pairs(1, 4, None)[0].tolist()} == others


def test_shared_pairs_are_those_of_every_grid():
    pairs = draw_pairs(5, 6, 9, generator(), shared=True)
    assert pairs.shape == (5, 9, 2)
    assert torch.equal(pairs, pairs[:1].expand(5, -1, -1))


def test_more_pairs_than_there_are_is_refused():
    with pytest.raises(ValueError, match="4 patches have 12 pairs, fewer than 13; lower pairs"):
        draw_pairs(1, 4, 13, replacement=False)


def test_self_pairs_are_as_frequent_as_any_other():
    pairs = draw_pairs(1, 5, 50_000, generator(), self_pairs=True)[0]
    share = (pairs[:, 0] == pairs[:, 1]).float().mean().item()
    assert share == pytest.approx(1 / 5, abs=0.01)


def test_near_pairs_are_near_and_uniform_over_those_that_are():
    boxes = random_boxes(64, 12, (200, 300), (10, 20), generator=generator())
    pairs = draw_near_pairs(
        boxes, torch.tensor([10, 20]), near=4.0, pairs=400, generator=generator(1)
    )
    reference, target = (pick(boxes, pairs[..., side]) for side in (0, 1))
    away = translation(reference, target).abs().amax(-1)
    centre = boxes.centre / torch.tensor([10.0, 20.0])
    every = (centre[:, :, None] - centre[:, None]).abs().amax(-1)
    possible = (every <= 4) & ~torch.eye(12, dtype=torch.bool)
    has_some = possible.flatten(1).any(1)
    assert away[has_some].max() <= 4
    assert (pairs[..., 0] != pairs[..., 1]).all()
    # In a grid with n near pairs each is drawn 400 / n times on average.
    grid = int(possible.flatten(1).sum(1).argmax())
    drawn = torch.zeros(12, 12).index_put(
        (pairs[grid, :, 0], pairs[grid, :, 1]), torch.ones(400), accumulate=True
    )
    assert (drawn[~possible[grid]] == 0).all()
    expected = 400 / int(possible[grid].sum())
    assert (drawn[possible[grid]] - expected).abs().max() < 5 * expected**0.5


def test_a_grid_without_near_pairs_still_has_pairs():
    boxes = Boxes(torch.tensor([[[0], [50], [90]]]), torch.full((1, 3, 1), 2))
    pairs = draw_near_pairs(boxes, torch.tensor([2]), near=1.0, pairs=6, generator=generator())
    assert (pairs[..., 0] != pairs[..., 1]).all()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("linear", [-1.0, -0.25, 0.0, 0.5]),
        ("capped", [-1.0, -1.0, 0.0, 1.0]),
        ("log", [-1.0, -1.0986 / 2.1972, 0.0, 1.6094 / 2.1972]),
    ],
)
def test_targets_are_scaled_to_one(form, expected):
    target = Target(form, torch.tensor([8.0]), cap=2.0)
    scaled = target.encode(torch.tensor([[-8.0], [-2.0], [0.0], [4.0]]))
    torch.testing.assert_close(scaled[:, 0], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    back = target.decode(scaled)[:, 0].tolist()
    limits = [-2.0, -2.0, 0.0, 2.0] if form == "capped" else [-8.0, -2.0, 0.0, 4.0]
    assert back == pytest.approx(limits, abs=1e-4)


def test_hubers_loss_equals_torchs_own():
    error, delta = torch.linspace(-2, 2, 41), torch.tensor(0.7)
    expected = torch.nn.functional.huber_loss(error, torch.zeros(41), reduction="none", delta=0.7)
    torch.testing.assert_close(pointwise(error, "huber", delta), expected)


def test_uniform_ends_stay_inside_and_leave_the_log_of_sides_uneven():
    boxes = random_boxes(
        400, 50, (64,), (8,), scale=(0.5, 2), sides="uniform", generator=generator()
    )
    assert boxes.start.min() == 0
    assert (boxes.start + boxes.size).max() == 64
    assert (boxes.size.min(), boxes.size.max()) == (4, 16)
    # Where the start leaves room for all, sides 4 to 16 are equally likely: mean 10; log-uniform
    # sides would have the mean 12 / log(4) = 8.66.
    free = boxes.size[boxes.start <= 48].double()
    assert free.mean().item() == pytest.approx(10, abs=0.1)
