"""The contract of every objective: a new file in objectives/ is tested without being named here."""

import importlib
import pkgutil

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import biopart.objectives
import biopart.recipe
from biopart.data import Batch, Context, DenseBatch, View
from biopart.experiment.stored import build_objective
from biopart.nn import Encoder, Model, ViT, building
from biopart.nn.model import load
from biopart.nn.weights import load_tensors
from biopart.recipe import resolve
from biopart.settings import Strict
from biopart.verbs.evaluate import evaluate
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain
from biopart.verbs.probe import probe

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]
FOUND = [module.name for module in pkgutil.iter_modules(biopart.objectives.__path__)]
NAMES = [name for name in FOUND if name != "detect"]  # of images with objects: test_detect.py
SETTINGS = [
    found
    for found in vars(biopart.recipe).values()
    if isinstance(found, type) and issubclass(found, Strict) and "name" in found.model_fields
]
CLASSIFIERS = ("classify", "segment", "sequence")
PRETRAININGS = [name for name in NAMES if name not in CLASSIFIERS]
SMALL = {  # where there are such settings
    **{"decoder_dim": 48, "decoder_depth": 2, "decoder_heads": 4},
    **{"context": 3, "dropout": 0.0},
    **{"pyramid": 16, "channels": 8},
    **{"prototypes": 32, "hidden": 48, "out": 16, "queue": 24, "heads": 4},
}
TAUGHT = ("dino", "byol", "moby", "selfpatch", "cossl", "sum")  # more in test_teachers.py


def members(name):
    module = importlib.import_module(f"biopart.objectives.{name}")
    found = [getattr(module, member) for member in module.__all__]
    objective = [m for m in found if issubclass(m, nn.Module)]
    settings = [m for m in SETTINGS if m.model_fields["name"].default == name]
    assert len(objective) == len(found) == 1, f"{name}: __all__ is one nn.Module"
    assert len(settings) == 1, f"{name}: its settings stand in biopart.recipe"
    return objective[0], settings[0]


def build(name, shape, patch, seed=0):
    torch.manual_seed(seed)
    objective, settings = members(name)
    return objective(ViT(shape, patch, 2, 24, 2, 4, position="sincos"), small(settings()))


def small(settings):
    """Return settings of small sizes, also of the objectives inside."""
    own = {key: value for key, value in SMALL.items() if key in type(settings).model_fields}
    if hasattr(settings, "image"):
        own["image"] = small(settings.image)
    if hasattr(settings, "parts"):
        parts = [p.model_copy(update={"objective": small(p.objective)}) for p in settings.parts]
        own["parts"] = parts
    return settings.model_copy(update=own)


def batch(shape, size=6, name=None):
    around = (3,) if name == "sequence" else ()
    values = torch.randn(size, *around, 2, *shape, generator=torch.Generator().manual_seed(0))
    context = None
    if around:
        label = torch.arange(3 * size).reshape(size, 3) % 5
        context = Context(torch.ones(size, 3, dtype=torch.bool), label)
    label = torch.arange(size) % 5
    if name == "segment":
        dense = torch.randint(-1, 5, (size, *shape), generator=torch.Generator().manual_seed(1))
        return DenseBatch(values, label, ["p"] * size, ["r:0"] * size, dense=dense)
    return Batch(values, label, ["p"] * size, ["r:0"] * size, context=context)


def loss(objective, data, seed=0):
    return objective(data, torch.Generator().manual_seed(seed), 0.5).loss


@pytest.mark.parametrize("name", FOUND)
def test_a_file_of_an_objective_holds_one_and_its_settings(name):
    objective, settings = members(name)
    assert settings().name == name
    assert hasattr(objective, "encoder") or "encoder" in objective.__init__.__annotations__


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_loss_is_finite_and_the_same_seed_gives_the_same(name, shape, patch):
    objective, data = build(name, shape, patch), batch(shape, name=name)
    first = loss(objective, data)
    assert torch.isfinite(first)
    assert torch.equal(first, loss(objective, data))
    assert torch.equal(first, loss(build(name, shape, patch), data))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_gradient_reaches_every_trainable_weight(name, shape, patch):
    objective = build(name, shape, patch)
    loss(objective, batch(shape, name=name)).backward()
    for weight, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, weight
            assert torch.isfinite(parameter.grad).all(), weight
            assert parameter.grad.any(), weight


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_ten_steps_on_one_batch_lower_the_loss(name, shape, patch):
    objective, data = build(name, shape, patch), batch(shape, name=name)
    if name in TAUGHT:  # of equal views a teacher's target is the student's own at first
        other = torch.randn(data.values.shape, generator=torch.Generator().manual_seed(2))
        none = torch.zeros(len(other), len(shape)).long()
        data.views = [View(values, none, none, none[:, 0] > 0) for values in (data.values, other)]
    # Adam's first steps turn DINO's unit vectors far: trainings warm up, here the rate is small.
    rate = 1e-5 if name == "dino" else 3e-3
    optimiser = torch.optim.AdamW(objective.parameters(), lr=rate)
    first = loss(objective, data)
    for _ in range(10):
        optimiser.zero_grad()
        loss(objective, data).backward()
        optimiser.step()
    assert loss(objective, data) < first


class Reads(TorchDispatchMode):
    """Count the operations whose result the host must read before it can go on."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "masked_select")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.NAMES:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_reads_no_value_so_that_a_gpu_need_not_be_waited_for(name, shape, patch):
    objective, data = build(name, shape, patch), batch(shape, name=name)
    with Reads() as reads:
        loss(objective, data).backward()
    assert reads.seen == []
    with reads:
        torch.ones(1).item()  # what would have been found
    assert len(reads.seen) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_state_goes_round(name):
    data = batch((30,), name=name)
    one, two = build(name, (30,), (6,)), build(name, (30,), (6,), seed=1)
    assert not torch.equal(loss(one, data), loss(two, data))
    two.load_state_dict(one.state_dict())
    assert torch.equal(loss(one, data), loss(two, data))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TAUGHT])
def test_samples_do_not_see_each_other(name):
    objective, data = build(name, (30,), (6,)), batch((30,), size=3, name=name)
    data.values.requires_grad_()
    heads = [
        m for n, m in objective.named_modules() if n.endswith(("head", "final_layer", "leave"))
    ]
    seen = []
    heads[-1].register_forward_hook(lambda _, __, outputs: seen.append(outputs))
    objective(data, torch.Generator().manual_seed(0), 0.5)
    weights = torch.randn(seen[0][0].shape, generator=torch.Generator().manual_seed(1))
    (seen[0][0] * weights).sum().backward()
    assert data.values.grad[0].any()
    assert not data.values.grad[1:].any()


CHANCE = [((3000,), (100,)), ((32, 32), (4, 4)), ((12, 12, 12), (4, 4, 4))]


@pytest.mark.parametrize("name", [name for name in PRETRAININGS if name not in TAUGHT])
@pytest.mark.parametrize(("shape", "patch"), CHANCE)
def test_the_loss_starts_at_its_chance_value(name, shape, patch):
    torch.manual_seed(0)
    objective, settings = members(name)
    built = objective(ViT(shape, patch, 2, 96, 2, 4, position="sincos"), settings())
    with torch.no_grad():
        output = built(batch(shape, 32), torch.Generator().manual_seed(0), 0.0)
    assert output.loss.item() == pytest.approx(output.metrics["chance_loss"].item(), rel=0.05)


@pytest.mark.parametrize("name", PRETRAININGS)
def test_an_image_of_height_one_gives_the_signals_loss(name):
    signal, image = batch((30,)), batch((30,))
    image.values = image.values[:, :, None]
    torch.manual_seed(0)
    objective, settings = members(name)
    flat = objective(ViT((30,), (6,), 2, 24, 2, 4, position="sincos"), small(settings()))
    tall = objective(ViT((1, 30), (1, 6), 2, 24, 2, 4, position="sincos"), small(settings()))
    state = {
        key: value.reshape(tall.state_dict()[key].shape) for key, value in flat.state_dict().items()
    }
    tall.load_state_dict(state)
    assert loss(flat, signal).item() == pytest.approx(loss(tall, image).item(), rel=1e-5)


@pytest.mark.parametrize("name", PRETRAININGS)
def test_a_recipe_can_name_every_pretraining_objective(name):
    objective, settings = members(name)
    recipe = resolve({"pretrain": {"objective": {"name": name}}}, [], "test")
    assert recipe.pretrain.objective == settings()
    encoder = ViT((30,), (6,), 2, 24, 1, 4, position="sincos")
    assert type(build_objective(encoder, recipe.pretrain.objective)) is objective


def test_which_objectives_give_patches_their_positions():
    used = {name: members(name)[1]().uses_positions for name in PRETRAININGS}
    expected = {"droppos": True, "mae": True, "mp3": False, "part": False}
    assert {name: used[name] for name in expected} == expected


class StubEncoder(Encoder):
    """Twenty lines that are all an encoder needs: the mean of a patch, one linear layer."""

    name = "stub"

    def __init__(self, shape, patch, channels, dim, *, position="none", **_):
        super().__init__()
        self.shape, self.patch, self.channels = tuple(shape), tuple(patch), channels
        self.dim, self.position = dim, "none"
        self.project = nn.Linear(channels, dim)

    @property
    def arguments(self):
        grid = {"shape": list(self.shape), "patch": list(self.patch), "channels": self.channels}
        return {"name": self.name, **grid, "dim": self.dim}

    def layers(self):
        return [list(self.parameters())]

    def forward(self, patches, positions=None, context=None, *, unknown=None):
        tokens = self.project(patches.flatten(3).mean(-1) if patches.dim() > 3 else patches)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


def test_a_stub_encoder_is_pretrained_tuned_probed_saved_and_staged_like_any_other(
    simulated_store, tmp_path, monkeypatch
):
    monkeypatch.setitem(building.ENCODERS, "stub", StubEncoder)
    monkeypatch.setitem(building.ENCODERS, "vit", StubEncoder)  # the recipe's only name
    values = {
        "data": {"store": str(simulated_store)},
        "split": {"test_persons": 1, "validation_persons": 1},
        "encoder": {"patch": [100], "dim": 16, "depth": 1, "heads": 2},
        "pretrain": {"objective": {"name": "part", "patches": 6, "pairs": 8}, "steps": 2},
        "finetune": {"subjects": 1, "steps": 2, "layer_decay": 0.5},
        "compute": {"precision": "float32", "threads": 1},
    }
    run = pretrain(resolve(values, (), "stub"), out=tmp_path / "run", latest=False)
    assert Model.load(run).encoder.arguments["name"] == "stub"
    tuned = finetune(run)
    result = tuned.result()
    found = evaluate(tuned, simulated_store, result["test_persons"])
    assert found["confusion"] == result["confusion"]
    probed = probe(run, features=["pretrained_mean", "untrained_mean"])
    assert probed["pretrained_mean"]["n_windows"] == result["n_windows"]
    _, about = load_tensors(tuned.model)
    assert about["encoder"]["name"] == "stub"
    values = torch.zeros(2, 6, 3000, dtype=torch.int16)
    assert load(tuned)(values).shape == (2, 5)
