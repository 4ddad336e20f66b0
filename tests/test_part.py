import math

import pytest
import torch

from biopart.data import Batch
from biopart.grid import Boxes, cut, draw_pairs, overlap, translation
from biopart.nn import ViT
from biopart.objectives import Part
from biopart.recipe import PartSettings

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]


def part(shape=(30,), patch=(6,), *, dim=24, seed=0, position="sincos", **settings):
    torch.manual_seed(seed)
    encoder = ViT(shape, patch, 2, dim, 2, 4, position=position)
    return Part(encoder, PartSettings(**{"patches": 8, "pairs": 20, **settings}))


def batch(shape=(30,), size=4, seed=0):
    values = torch.randn(size, 2, *shape, generator=torch.Generator().manual_seed(seed))
    return Batch(values, torch.full((size,), -1), ["p"] * size, ["r:0"] * size)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Zero(torch.nn.Module):
    """A relative encoder that always predicts no translation."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, tokens, pairs):
        return torch.zeros(*pairs.shape[:2], self.outputs)


class TrueTranslations(torch.nn.Module):
    """A relative encoder that knows: tokens are replaced by the centres of their boxes."""

    def __init__(self, objective):
        super().__init__()
        self.objective = objective

    def forward(self, tokens, pairs):
        centre = self.objective.drawn.centre / torch.tensor(self.objective.encoder.patch)
        rows = torch.arange(len(pairs))[:, None]
        moved = centre[rows, pairs[..., 1]] - centre[rows, pairs[..., 0]]
        return moved / self.objective.span


def knowing(objective):
    draw = objective.draw_boxes

    def remembered(values, source):
        objective.drawn = draw(values, source)
        return objective.drawn

    objective.draw_boxes = remembered
    objective.head = TrueTranslations(objective)
    return objective


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_true_translations_have_no_loss_and_all_signs_right(shape, patch):
    output = knowing(part(shape, patch))(batch(shape), generator())
    assert output.loss.item() == pytest.approx(0, abs=1e-10)
    for name in ("r2", "before_after_overlapping", "before_after_other"):
        assert output.metrics[name].item() == pytest.approx(1, abs=1e-5)
    assert output.metrics["error"].item() == pytest.approx(0, abs=1e-4)


def test_a_flipped_sign_is_not_hidden():
    objective = knowing(part())
    true = objective.head
    objective.head = type("Flipped", (torch.nn.Module,), {"forward": lambda s, t, p: -true(t, p)})()
    output = objective(batch(size=64), generator())
    assert output.metrics["before_after_other"].item() == 0
    assert output.metrics["r2"].item() == pytest.approx(-3, abs=0.3)  # error 2 t: 1 - 4 t^2 / t^2


def test_the_distance_along_each_axis_by_hand():
    # Two starts of n = S - P + 1 places lie (n^2 - 1) / (3 n) apart: n = 7 of sides 2, 4 of 3.
    objective = part((8, 6), (2, 3), pairs=400)
    objective.head = Zero(2)
    metrics = objective(batch((8, 6), size=256), generator()).metrics
    assert metrics["error_axis_0"].item() == pytest.approx(48 / 21 / 2, rel=0.03)
    assert metrics["error_axis_1"].item() == pytest.approx(15 / 12 / 3, rel=0.03)
    assert "error_axis_0" not in part()(batch(), generator()).metrics


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("on_grid", [False, True])
def test_predicting_zero_is_chance(shape, patch, on_grid):
    objective = part(shape, patch, on_grid=on_grid, pairs=200)
    objective.head = Zero(len(shape))
    output = objective(batch(shape, size=256), generator())
    assert output.metrics["r2"].item() == pytest.approx(0, abs=0.03)
    expected = output.metrics["chance_mse"].item()
    assert output.metrics["mse"].item() == pytest.approx(expected, rel=0.03)


def test_loss_is_the_error_over_the_range():
    # S = 30, P = 6: the range is 4 patches; chance (25^2 - 1) / (6 * 36) = 2.888..., scaled / 16.
    objective = part(pairs=200)
    torch.nn.init.zeros_(objective.head.out.weight)
    output = objective(batch(size=256), generator())
    assert output.metrics["chance_mse"].item() == pytest.approx(624 / 216)
    assert output.loss.item() == pytest.approx(624 / 216 / 16, rel=0.03)
    assert output.metrics["chance_loss"].item() == pytest.approx(624 / 216 / 16)


def test_chance_on_two_axes_is_the_mean_of_both_over_their_ranges():
    # 12 by 18 in patches of 4 by 6: (9^2 - 1) / (6 * 16) / 2^2 and (13^2 - 1) / (6 * 36) / 2^2.
    output = part((12, 18), (4, 6))(batch((12, 18)), generator())
    assert output.metrics["chance_loss"].item() == pytest.approx((80 / 96 + 168 / 216) / 4 / 2)


def test_predicting_zero_sizes_is_chance_too():
    objective = part(scale=(0.5, 1.5))
    torch.nn.init.zeros_(objective.head.out.weight)
    output = objective(batch(), generator())
    assert output.loss.item() == pytest.approx(output.metrics["chance_loss"].item())


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_an_untrained_objective_starts_near_chance(shape, patch):
    output = part(shape, patch)(batch(shape, size=128), generator())
    assert output.metrics["mse"].item() == pytest.approx(
        output.metrics["chance_mse"].item(), rel=0.1
    )


@pytest.mark.parametrize("head", ["cross_attention", "pairwise_mlp", "joint_mlp"])
@pytest.mark.parametrize("hint", [0.0, 0.8])
def test_wide_relative_encoders_start_at_chance(head, hint):
    settings = {"head": head, "position_hint": hint, "patches": 40, "pairs": 160}
    objective = part((32, 32), (4, 4), dim=512, **settings)
    with torch.no_grad():
        metrics = objective(batch((32, 32), size=16), generator()).metrics
    expected = metrics["chance_mse"].item()
    assert metrics["mse"].item() == pytest.approx(expected, rel=0.05)


def test_the_paper_s_eeg_setting_starts_near_one_sixth():
    torch.manual_seed(0)
    encoder = ViT((3000,), (100,), 6, 64, 1, 2, position="sincos")
    objective = Part(encoder, PartSettings(position_hint=0.8))
    values = torch.randn(32, 6, 3000, generator=generator())
    loss = objective(Batch(values, torch.zeros(32), [], []), generator()).loss
    assert loss.item() == pytest.approx(1 / 6, rel=0.05)


def test_hints_alone_explain_their_share():
    objective = part(patches=10, pairs=200, position_hint=0.4)
    seen = {}
    encode = objective.encode

    def watching(values, boxes, hinted, context):
        seen.update(boxes=boxes, hinted=hinted)
        return encode(values, boxes, hinted, context)

    objective.encode = watching

    class Hints(torch.nn.Module):
        def forward(self, tokens, pairs):
            start = (seen["boxes"].start[..., 0] - 12.0) * seen["hinted"] / 6
            rows = torch.arange(len(pairs))[:, None]
            moved = start[rows, pairs[..., 1]] - start[rows, pairs[..., 0]]
            return moved[..., None] / objective.span

    objective.head = Hints()
    with torch.no_grad():
        output = objective(batch(size=4096), generator())
    assert output.metrics["r2"].item() == pytest.approx(0.4, abs=0.02)
    assert output.metrics["r2_excess"].item() == pytest.approx(0, abs=0.02)
    assert output.metrics["r2_hinted_0"].item() == pytest.approx(0, abs=0.03)
    assert output.metrics["r2_hinted_1"].item() == pytest.approx(0.5, abs=0.03)
    assert output.metrics["r2_hinted_2"].item() == pytest.approx(1, abs=1e-4)


def test_the_share_of_hinted_patches_is_exact_in_every_grid():
    objective = part(patches=40, position_hint=0.8)
    hinted = objective._draw_hints(torch.zeros(7, 2, 30), generator(), 32)
    assert hinted.sum(1).tolist() == [32] * 7


def test_without_hints_no_position_reaches_the_encoder():
    objective = part()
    values = batch().values
    boxes = objective.draw_boxes(values, generator())
    patches = cut(values, boxes, (6,))
    bare = ViT((30,), (6,), 2, 24, 2, 4, position="none")
    state = objective.encoder.state_dict()
    bare.load_state_dict({k: v for k, v in state.items() if k != "pos_embed"})
    tokens = objective.encode(values, boxes, torch.zeros(4, 8, dtype=torch.bool))
    torch.testing.assert_close(tokens, bare(patches)[:, 1:])


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_relations_place_what_the_head_predicts(shape, patch):
    objective = part(shape, patch).eval()
    values = batch(shape).values
    objective = knowing(objective)
    boxes = objective.draw_boxes(values, generator())
    relations = objective.relations(values, boxes)
    reference = Boxes(boxes.start[:, :, None], boxes.size[:, :, None])
    expected = translation(reference, Boxes(boxes.start[:, None], boxes.size[:, None]))
    torch.testing.assert_close(relations, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"scale": (0.5, 1.5)}, {"focus": "energy"}])
@pytest.mark.parametrize("head", ["cross_attention", "pairwise_mlp", "joint_mlp"])
def test_a_height_1_image_gives_the_loss_of_the_signal(settings, head):
    signal = part(position="none", head=head, **settings)
    image = part((1, 30), (1, 6), position="none", head=head, **settings)
    one = batch()
    flat = Batch(one.values[:, :, None], one.label, one.person, one.key)
    first, second = signal(one, generator(3)), image(flat, generator(3))
    torch.testing.assert_close(first.loss, second.loss)


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_sizes_are_predicted_beside_translations(shape, patch):
    objective = part(shape, patch, scale=(0.5, 1.5), patches=6)
    assert objective.head.out.out_features == 2 * len(shape)
    output = objective(batch(shape, size=64), generator())
    assert output.metrics["scale_r2"].item() == pytest.approx(0, abs=0.2)
    assert math.isfinite(output.loss.item())


def test_pairs_are_uniform_over_all_ordered_pairs():
    pairs = draw_pairs(100, 4, 1200, generator()).flatten(0, 1)
    counts = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16).reshape(4, 4)
    assert counts.diagonal().sum() == 0
    off = counts[~torch.eye(4, dtype=torch.bool)].double()
    assert ((off - 10_000).square() / 10_000).sum() < 31.3  # chi-squared, 11 degrees, 99.9 %


def test_overlap_by_hand():
    first = Boxes(torch.tensor([[0, 0], [0, 0], [0, 0]]), torch.full((3, 2), 4))
    second = Boxes(torch.tensor([[3, 3], [4, 0], [0, 4]]), torch.full((3, 2), 4))
    assert overlap(first, second).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: part(position="none", position_hint=0.5), "needs position embeddings"),
        (lambda: part(on_grid=True, scale=(0.5, 2)), "on_grid patches have one size"),
        (lambda: part(focus="energy", on_grid=True), "focus energy draws patches of one size off"),
        (lambda: part(focus="energy", scale=(0.5, 2)), "focus energy draws patches of one size"),
        (lambda: part((6,), (6,), on_grid=True), "leaves only one patch, without relations"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("hint", "used"), [(0.0, False), (0.05, True)])
def test_positions_are_used_where_there_are_hints(hint, used):
    assert PartSettings(position_hint=hint).uses_positions is used


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_focused_patches_lie_where_the_energy_is(shape, patch):
    objective, drawn = part(shape, patch, focus="energy"), batch(shape)
    drawn.values[:] = 0
    drawn.values[(slice(None), 1, *[0] * len(shape))] = 5.0  # one corner, one channel
    boxes = objective.draw_boxes(drawn.values, generator())
    assert boxes.start.shape == (4, 8, len(shape))
    assert (boxes.start == 0).all()  # the only place that covers the corner


def test_chance_of_focused_patches_is_that_of_the_batch():
    objective = part(focus="energy")
    objective.head = Zero(1)
    output = objective(batch(), generator())
    assert output.metrics["r2"] == pytest.approx(0, abs=1e-6)
    assert output.loss == pytest.approx(output.metrics["chance_loss"].item())


def test_part_learns_on_a_volume():
    """Each axis of a volume is a ramp in a channel of its own, with noise: places can be told."""
    shape, patch = (8, 8, 8), (2, 2, 2)
    torch.manual_seed(0)
    objective = Part(ViT(shape, patch, 3, 48, 2, 4), PartSettings(patches=12, pairs=48))
    ramps = torch.stack(torch.meshgrid(*[torch.linspace(-1.5, 1.5, 8)] * 3, indexing="ij"))
    optimiser = torch.optim.AdamW(objective.parameters(), 2e-3)
    noise = generator(1)

    def look():
        values = ramps + 0.1 * torch.randn(16, *ramps.shape, generator=noise)
        return objective(Batch(values, torch.full((16,), -1), ["p"] * 16, ["k"] * 16), noise)

    before = look().metrics["r2"].item()
    for _ in range(50):
        optimiser.zero_grad()
        look().loss.backward()
        optimiser.step()
    after = look().metrics["r2"].item()
    assert abs(before) < 0.1
    assert after > 0.5


class Constant(torch.nn.Module):
    """Predict the same of every pair."""

    def __init__(self, *values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, tokens, pairs):
        return self.values.expand(*pairs.shape[:2], -1)


def loss_of(objective, *, size=256):
    with torch.no_grad():
        return objective(batch(size=size), generator()).loss.item()


def test_masked_patches_reach_no_other_token():
    objective = part(masked=0.5)
    values = batch().values
    boxes, hinted = objective.draw_boxes(values, generator()), torch.zeros(4, 8, dtype=torch.bool)
    context = objective._draw_context(batch(), generator())
    assert context.sum(1).tolist() == [4] * 4
    patches = cut(values, boxes, (6,))
    patches[~context] += 1
    moved = objective.encoder(patches, torch.full((4, 8, 1), math.nan), context)[:, 1:]
    before = objective.encode(values, boxes, hinted, context)
    assert torch.equal(moved[context], before[context])
    assert not torch.equal(moved[~context], before[~context])


def test_symmetry_adds_the_squared_sum_of_both_predictions():
    plain, symmetric = part(pairs=20), part(pairs=20, symmetry=0.5)
    plain.head = symmetric.head = Constant(0.3)
    assert loss_of(symmetric) - loss_of(plain) == pytest.approx(0.5 * (0.3 + 0.3) ** 2, rel=1e-4)


@pytest.mark.parametrize("form", ["linear", "log"])
def test_symmetry_of_sized_patches_is_in_samples(form):
    objective = part(scale=(0.5, 2), symmetry=1.0, target=form)

    class Truth(torch.nn.Module):
        def forward(self, tokens, pairs):
            reference, target = (
                Boxes(boxes.start[rows, pairs[..., side]], boxes.size[rows, pairs[..., side]])
                for side in (0, 1)
            )
            moved = objective.target.encode(translation(reference, target))
            return torch.cat([moved, torch.zeros_like(moved)], -1)

    drawn = {}
    rows = torch.arange(64)[:, None]
    draw = objective.draw_boxes
    objective.draw_boxes = lambda *args: drawn.setdefault("boxes", draw(*args))
    boxes = objective.draw_boxes(batch(size=64).values, generator())
    objective.head = Truth()
    with torch.no_grad():
        symmetric = objective(batch(size=64), generator()).loss
        objective.settings = objective.settings.model_copy(update={"symmetry": 0.0})
        plain = objective(batch(size=64), generator()).loss
    assert (symmetric - plain).abs() < 1e-10  # a true translation and its way back sum to 0


def test_far_pairs_weigh_less():
    objective = part(distance_weight="linear", patches=2, pairs=1)
    objective.head = Constant(0.0)
    objective.draw_boxes = lambda values, generator: Boxes(
        torch.tensor([[[0], [12]]]).expand(len(values), -1, -1),
        torch.full((len(values), 2, 1), 6),
    )
    # 12 of at most 24 samples apart: (12 / 24)^2, weight 1 - 12 / 24
    assert loss_of(objective, size=3) == pytest.approx(0.25 * 0.5)


@pytest.mark.parametrize(
    ("loss", "expected"), [("mse", 0.25), ("l1", 0.5), ("huber", 0.25 * (0.5 - 0.125))]
)
def test_losses_of_one_pair(loss, expected):
    objective = part(loss=loss, patches=2, pairs=1)
    objective.head = Constant(0.0)
    objective.draw_boxes = lambda values, generator: Boxes(
        torch.tensor([[[0], [12]]]).expand(len(values), -1, -1),
        torch.full((len(values), 2, 1), 6),
    )
    # Half of the largest translation; Huber's bend lies at 1 patch = 6 / 24 of it.
    assert loss_of(objective, size=3) == pytest.approx(expected)


def test_ratios_of_sizes_are_what_the_released_code_learns():
    objective = part(scale=(0.5, 2), size_target="ratio", sides="uniform", patches=2, pairs=50)
    objective.draw_boxes = lambda values, generator: Boxes(
        torch.zeros(len(values), 2, 1, dtype=torch.int64),
        torch.tensor([[[4], [12]]]).expand(len(values), -1, -1),
    )
    reference, target = (objective.draw_boxes(torch.zeros(1, 2, 30), None) for _ in range(2))
    target = Boxes(target.start, target.size.flip(1))
    ratios = 1 + objective._relative_size(reference, target) * objective.size_unit
    assert ratios.flatten().tolist() == pytest.approx([3.0, 1 / 3])
    with torch.no_grad():
        _, sizes = objective.relate(torch.randn(1, 2, 24))
    assert sizes.shape == (1, 2, 2, 1)


@pytest.mark.parametrize(("target", "given"), [("capped", {"target_cap": 2.0}), ("log", {})])
def test_relations_are_in_patch_sizes_whatever_is_learnt(target, given):
    objective = part(target=target, **given)
    objective.head = Constant(1.0)  # the largest target
    moved, _ = objective.relate(torch.randn(1, 8, 24))
    assert moved.unique().tolist() == pytest.approx([2.0 if target == "capped" else 4.0], rel=1e-4)


def test_hints_that_end_are_gone_in_validation():
    objective = part(position_hint=0.5, hint_until=0.5)
    first = objective(batch(), generator(), 0.0).metrics
    assert "r2_hinted_1" in first
    assert "r2_hinted_1" not in objective(batch(), generator(), 0.5).metrics
    assert not objective.settings.uses_positions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masked": 0.5, "head": "joint"}, "head joint reads all patches at once"),
        ({"hint_until": 0.5}, "hint_until needs hints to take away"),
        ({"near": 2.0, "pairs": None}, "near draws different patches"),
        ({"near": 2.0, "self_pairs": True}, "near draws different patches"),
        (
            {"symmetry": 1.0, "target": "capped", "scale": (0.5, 2)},
            "patches of several sizes with a capped target",
        ),
        ({"pairs": 57, "replacement": False}, "8 patches have 56 pairs, fewer than 57"),
    ],
)
def test_new_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        part(**settings)


@pytest.mark.parametrize("head", ["attention", "pairwise", "joint"])
def test_released_settings_learn_where_patches_are(head):
    """The released pairs: different ones of all K * K, the same for a batch."""
    objective = part(
        head=head, pairs=60, replacement=False, self_pairs=True, shared_pairs=True, symmetry=0.1
    )
    optimiser = torch.optim.AdamW(objective.parameters(), 3e-3, betas=(0.9, 0.999))
    data = batch(size=64)
    data.values = torch.linspace(-1, 1, 30).expand(64, 2, 30).contiguous()
    for step in range(60):
        output = objective(data, generator(step))
        output.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert output.metrics["r2"].item() > 0.8
