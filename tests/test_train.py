import copy
import math

import pytest
import torch
from torch import nn

from biopart.compute import open_fabric
from biopart.data import Batch, Metrics, StepOutput, open_cohort
from biopart.grid import patchify
from biopart.nn import ViT
from biopart.objectives import Classify, Part
from biopart.recipe import (
    ClassifySettings,
    ComputeSettings,
    FinetuneSettings,
    MaeSettings,
    Optimisation,
    PartSettings,
    PretrainSettings,
)
from biopart.run import Run
from biopart.train import (
    Training,
    clip,
    fit,
    learning_rate,
    loop,
    measure,
    parameter_groups,
    predict,
)
from biopart.train.checkpoints import restore
from biopart.train.checks import Begun, Checks
from biopart.train.live import Live
from biopart.verbs.pretrain import exported

CPU = ComputeSettings(device="cpu", precision="float32", threads=1)


def part(drop_path=0.0):
    torch.manual_seed(0)
    encoder = ViT((120,), (20,), 2, 16, 2, 2, position="sincos", drop_path=drop_path)
    return Part(encoder, PartSettings(patches=8, pairs=16, position_hint=0.5))


def task(store, objective=None, **settings):
    options = {"batch": 16, "steps": 12, "warmup_epochs": 0.5, **settings}
    source = open_cohort(store).source()
    return Training(objective or part(), source, Optimisation(**options), "window", 0)


def weights(objective):
    return {name: value.clone() for name, value in objective.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


class Sampled(list):
    """A source of which only the length is asked for."""

    def __init__(self, count):
        super().__init__(range(count))


def mae_layer(name, blocks):
    """The layer of a parameter by MAE's rule: 0 below the blocks, then i + 1, then the top."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else blocks + 1


def test_all_152_layers_of_a_base_vit_are_those_of_mae():
    encoder = ViT((224, 224), (16, 16), 3, 24, 12, 12, position="learned")  # narrow: same names
    objective = Classify(encoder, ClassifySettings(classes=1000, pool="mean"))
    settings = FinetuneSettings().of_method(MaeSettings().protocol)
    training = Training(objective, Sampled(100), settings.loop_settings, "none", 0)
    names = {id(p): n for n, p in objective.model.named_parameters()}
    scales = {
        names[id(p)].removeprefix("encoder."): (group["scale"], group["weight_decay"])
        for group in parameter_groups(training)
        for p in group["params"]
    }
    assert len(scales) == 152
    shapes = {n.removeprefix("encoder."): p.ndim for n, p in objective.model.named_parameters()}
    for name, (scale, decay) in scales.items():
        assert scale == pytest.approx(0.75 ** (13 - mae_layer(name, 12)))
        decays = shapes[name] > 1 and name not in ("cls_token", "pos_embed")
        assert decay == (0.05 if decays else 0.0)


def test_new_positions_are_trained_at_the_whole_rate():
    encoder = ViT((30,), (6,), 2, 24, 2, 4, position="learned")
    objective = Classify(encoder, ClassifySettings(classes=2))
    settings = FinetuneSettings(layer_decay=0.5).of_method(PartSettings().protocol)
    fresh = tuple(encoder.positions())
    training = Training(objective, Sampled(10), settings.loop_settings, "none", 0, fresh=fresh)
    scale = {id(p): g["scale"] for g in parameter_groups(training) for p in g["params"]}
    assert scale[id(encoder.pos_embed)] == 1.0
    assert scale[id(encoder.patch_embed.proj.weight)] == 0.125


def test_the_rate_falls_in_steps_where_they_are_given():
    pace = {"steps": 20, "lr": 1e-3, "warmup_epochs": 0, "decay_at": [0.5, 0.9]}
    encoder = ViT((30,), (6,), 2, 24, 1, 4)
    objective = Part(encoder, PartSettings(patches=4))
    training = Training(objective, Sampled(10), Optimisation(**pace), "none", 0)
    rates = [learning_rate(training, step) for step in (0, 9, 10, 17, 18, 19)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_the_cosine_ends_at_the_final_rate():
    settings = PretrainSettings(steps=10, lr=1e-3, final_lr=1e-5, warmup_epochs=0).loop_settings
    encoder = ViT((30,), (6,), 2, 24, 1, 4)
    training = Training(Part(encoder, PartSettings(patches=4)), Sampled(10), settings, "none", 0)
    assert learning_rate(training, 0) == pytest.approx(1e-3)
    assert learning_rate(training, 5) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(training, 10) == pytest.approx(1e-5)


def test_learning_rate_by_hand(small_store):
    # 9 records x 24 epochs / batch 16 = 14 steps an epoch; warm-up of half an epoch = 7 steps.
    job = task(small_store, steps=107, lr=1.0)
    rates = [learning_rate(job, step) for step in (0, 3, 6, 7, 57, 106)]
    last = (1 + math.cos(math.pi * 0.99)) / 2
    assert rates == pytest.approx([1 / 7, 4 / 7, 1, 1, 0.5, last])


def test_layers_decay_as_in_maes_fine_tuning(small_store):
    torch.manual_seed(0)
    objective = Classify(ViT((120,), (20,), 2, 16, 2, 2), ClassifySettings(classes=3))
    groups = parameter_groups(task(small_store, objective, layer_decay=0.5, weight_decay=0.1))
    scale = {id(p): g["scale"] for g in groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    vit = objective.encoder
    assert scale[id(vit.pos_embed)] == scale[id(vit.cls_token)] == 0.125
    assert scale[id(vit.patch_embed.proj["weight"])] == 0.125
    assert scale[id(vit.blocks[0].mlp.fc1.weight)] == 0.25
    assert scale[id(vit.blocks[1].norm1.weight)] == 0.5
    assert scale[id(vit.norm.weight)] == scale[id(objective.model.final_layer.weight)] == 1
    assert decay[id(vit.pos_embed)] == decay[id(vit.cls_token)] == decay[id(vit.norm.weight)] == 0
    assert decay[id(objective.model.final_layer.weight)] == 0.1
    assert len(scale) == sum(1 for _ in objective.parameters())


def test_fixed_positions_are_not_trained(small_store):
    job = task(small_store)
    before = job.objective.encoder.pos_embed.clone()
    fit(job, open_fabric(CPU))
    assert torch.equal(job.objective.encoder.pos_embed, before)


@pytest.mark.parametrize("stop", [1, 5, 14, 15, 29])
@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_a_resumed_training_equals_one_that_ran_through(small_store, tmp_path, stop, drop_path):
    through = watched(small_store, drop_path)
    fit(through, open_fabric(CPU), Run(tmp_path))
    halted, run = watched(small_store, drop_path), Run(tmp_path / "halted")
    run.path.mkdir()
    halt_at(halted, stop)
    with pytest.raises(KeyboardInterrupt):
        fit(halted, open_fabric(CPU), run)
    again = watched(small_store, drop_path)
    fit(again, open_fabric(CPU), run)
    assert same(weights(through.objective), weights(again.objective))
    rows = [[{**r, "windows_per_second": 0} for r in x.metrics()] for x in (Run(tmp_path), run)]
    assert rows[0] == rows[1]


def watched(store, drop_path):
    """A task of 30 steps in epochs of 14 whose held-out figures are logged."""
    job, fabric = task(store, part(drop_path), steps=30), open_fabric(CPU)

    def validate():
        return measure(job.objective, job.source, fabric, "window", count=20)

    return Training(job.objective, job.source, job.settings, "window", 0, validate)


def halt_at(job, stop):
    """Write a checkpoint after every step and be interrupted inside a step."""
    forward, calls = job.objective.forward, []

    def failing(*args):
        calls.append(1)
        if len(calls) > stop:
            raise KeyboardInterrupt
        return forward(*args)

    job.objective.forward = failing


@pytest.fixture(autouse=True)
def checkpoints_at_every_step(monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)


def test_the_seed_decides_everything(small_store):
    results = []
    for seed in (0, 0, 1):
        job = task(small_store)
        job = Training(job.objective, job.source, job.settings, "window", seed)
        fit(job, open_fabric(CPU))
        results.append(weights(job.objective))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_resident_cohort_trains_to_the_same_weights(small_store):
    mapped, held = task(small_store), task(small_store)
    held = Training(held.objective, held.source.resident("cpu"), held.settings, "window", 0)
    for job in (mapped, held):
        fit(job, open_fabric(CPU))
    assert same(weights(mapped.objective), weights(held.objective))


def test_betas_are_the_settings(small_store):
    for betas in ((0.9, 0.95), (0.9, 0.999)):
        job = task(small_store, betas=betas)
        optimiser = loop.make_optimiser(job, job.objective, torch.device("cpu"))
        assert {group["betas"] for group in optimiser.param_groups} == {betas}


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ViT((120,), (20,), 2, 16, 1, 2)
        self.computed = 0

    def figures(self):
        self.computed += 1
        assert not torch.is_grad_enabled()
        return {"computed": torch.tensor(float(self.computed))}

    def forward(self, batch, generator, progress):
        return StepOutput(self.encoder.cls_token.sum(), Metrics(self.figures))


def test_figures_are_computed_in_the_steps_that_are_logged(small_store):
    job = task(small_store, Counting(), steps=23)
    rows = fit(job, open_fabric(CPU))
    assert [row["step"] for row in rows] == [1, 10, 20, 23]
    assert [row["train/computed"] for row in rows] == [1, 2, 3, 4]


def test_a_fault_is_named_a_step_late_where_flags_are_still_on_their_way():
    # What a GPU does: the flags of a step are read when the next one is added, or at the end.
    batch = Batch(torch.zeros(2, 1, 4), torch.zeros(2), ["p", "q"], ["r:0", "s:1"])
    checks, one = Checks(), torch.ones(())
    checks._begun = Begun(torch.tensor([False, True, False]), batch.key, one, one)
    with pytest.raises(ValueError, match="windows s:1 have missing samples"):
        checks.settle()
    checks.settle()  # said once
    checks._begun = Begun(torch.tensor([False, False, True]), batch.key, one, one * math.inf)
    with pytest.raises(ValueError, match=r"loss is 1.0 and its gradient inf on windows of r, s"):
        checks.settle()


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ViT((120,), (20,), 2, 16, 1, 2)
        self.calls = 0

    def forward(self, batch, generator, progress):
        self.calls += 1
        loss = self.encoder.cls_token.sum() * (float("nan") if self.calls == 4 else 1.0)
        return StepOutput(loss)


def test_a_loss_that_is_no_number_stops_and_names_the_records(small_store, tmp_path):
    run = Run(tmp_path)
    with pytest.raises(ValueError, match=r"the loss is nan and its gradient nan on windows of n\d"):
        fit(task(small_store, Broken()), open_fabric(CPU), run)
    fresh = task(small_store, Broken())
    optimiser = torch.optim.AdamW(parameter_groups(fresh))
    assert restore(run, Live(fresh.objective, None), optimiser) == 3  # the last good checkpoint


def test_missing_samples_stop_and_name_the_window(tiny_store):
    source = open_cohort(tiny_store).source(keep_bad=True)
    torch.manual_seed(0)
    objective = Part(ViT((30,), (6,), 3, 16, 1, 2, position="sincos"), PartSettings(patches=4))
    job = Training(objective, source, Optimisation(batch=64, steps=2), "window", 0)
    with pytest.raises(ValueError, match="windows r2:2 have missing samples"):
        fit(job, open_fabric(CPU))


def test_patience_stops_and_the_best_weights_stay(small_store):
    job = task(small_store, steps=140)
    kappas = iter([0.1, 0.7, 0.3, 0.2, 0.9])
    states = []

    def validate():
        states.append(weights(job.objective))
        return {"kappa": next(kappas)}

    patient = Training(
        job.objective, job.source, job.settings, "window", 0, validate, select="kappa", patience=2
    )
    rows = fit(patient, open_fabric(CPU))
    assert len(states) == 4
    assert rows[-1]["step"] == 4 * 14
    assert same(weights(job.objective), states[1])


def test_measuring_is_repeatable_and_changes_nothing(small_store):
    job = task(small_store)
    before = weights(job.objective)
    fabric = open_fabric(CPU)
    one, two = (measure(job.objective, job.source, fabric, "window", count=40) for _ in range(2))
    assert one == two
    assert same(before, weights(job.objective))
    assert one["chance_mse"] == pytest.approx((101**2 - 1) / (6 * 400))


def test_predictions_come_in_the_order_of_the_source(small_store):
    source = open_cohort(small_store).source()
    means = predict(
        lambda values: values.flatten(1)[:, :3], source, open_fabric(CPU), "none", batch=50
    )
    expected = source.__getitems__(range(len(source))).values.flatten(1)[:, :3].float()
    assert means.tolist() == expected.tolist()


def test_a_batch_reaches_the_objective_normalised(small_store):
    seen = {}

    class Spy(Broken):
        def forward(self, batch: Batch, generator, progress):
            seen.update(values=batch.values, progress=progress)
            return super().forward(batch, generator, progress)

    fit(task(small_store, Spy(), steps=2), open_fabric(CPU))
    assert seen["values"].dtype == torch.float32
    torch.testing.assert_close(seen["values"].mean(-1), torch.zeros(16, 2), rtol=0, atol=1e-4)
    assert seen["progress"] == 0.5


@pytest.mark.parametrize(("each", "after"), [(False, [0.6, 0.8]), (True, [1.0, 1.0])])
def test_the_norm_is_clipped_as_a_whole_or_tensor_by_tensor(small_store, each, after):
    given = task(small_store, clip=1.0, clip_each=each)
    weights = [p for p in given.objective.parameters() if p.requires_grad][:2]
    for weight, norm in zip(weights, (3.0, 4.0), strict=True):
        weight.grad = torch.zeros_like(weight)
        weight.grad.view(-1)[0] = norm
    assert clip(given.settings, given.objective).item() == pytest.approx(5.0)
    assert [w.grad.norm().item() for w in weights] == pytest.approx(after, rel=1e-4)


def test_clipping_bounds_the_gradient(small_store):
    rows = fit(task(small_store, clip=1e-3, steps=3), open_fabric(CPU))
    assert rows[0]["train/gradient_norm"] > 1e-3
    assert fit(task(small_store, clip=None, steps=1), open_fabric(CPU))[0][
        "train/gradient_norm"
    ] == pytest.approx(rows[0]["train/gradient_norm"])


class TwoViews(nn.Module):
    """A stub objective: a student predicts its teacher's [CLS] of another view."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = ViT((120,), (20,), 2, 16, 1, 2, position="sincos")
        self.exported = copy.deepcopy(self.encoder).requires_grad_(False)
        self.register_buffer("followed", torch.zeros((), dtype=torch.int64))

    def forward(self, batch, generator, progress):
        noise = 0.1 * torch.randn(batch.values.shape, generator=generator)
        one, two = (patchify(view, (20,)) for view in (batch.values + noise, -batch.values))
        with torch.no_grad():
            target = self.exported(two)[:, 0]
        return StepOutput((self.encoder(one)[:, 0] - target).square().mean())

    def after_step(self, progress):
        self.followed += 1
        pairs = zip(self.exported.parameters(), self.encoder.parameters(), strict=True)
        for teacher, student in pairs:
            teacher.data.lerp_(student.data, 0.1)


def test_two_views_and_a_teacher_train_through_the_same_loop(small_store):
    objective, name = TwoViews(), "blocks.0.mlp.fc1.weight"
    before = objective.exported.state_dict()[name].clone()
    fit(task(small_store, objective, steps=1, warmup_epochs=0), open_fabric(CPU))
    state = objective.state_dict()
    # The teacher moves a tenth of the way to where the student is after its step.
    assert not torch.equal(state[f"encoder.{name}"], before)
    expected = 0.9 * before + 0.1 * state[f"encoder.{name}"]
    torch.testing.assert_close(state[f"exported.{name}"], expected)
    assert all(weight.grad is None for weight in objective.exported.parameters())
    assert exported(objective) is objective.exported
    assert exported(plain := part()) is plain.encoder


def test_a_teacher_is_resumed_bit_for_bit(small_store, tmp_path):
    through, halted, again = (task(small_store, TwoViews(), steps=9) for _ in range(3))
    fit(through, open_fabric(CPU))
    halt_at(halted, 4)
    with pytest.raises(KeyboardInterrupt):
        fit(halted, open_fabric(CPU), Run(tmp_path))
    fit(again, open_fabric(CPU), Run(tmp_path))
    assert again.objective.followed == 9
    assert same(weights(through.objective), weights(again.objective))
