"""Benchmark: steps of methods with a teacher, beside each other and beside lightly's."""

import importlib
import importlib.util
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from biopart.data import Batch, View
from biopart.experiment.stored import build_objective
from biopart.nn import ViT
from biopart.recipe import (
    ByolSettings,
    CosslSettings,
    DinoSettings,
    Objective,
    SelfpatchSettings,
)
from biopart.studies.bench.objectives import seconds
from biopart.studies.bench.turns import Timing, in_turns

IMAGES = 16
SIDE, SMALL, PATCH = 32, 16, 4
LOCAL = 4  # small views of each image, beside two of the whole side
DINO, BYOL = DinoSettings(teacher_temperature=(0.04, 0.04)), ByolSettings()  # heads as published
PAIRS = {"selfpatch": "dino", "cossl": "byol"}
"""Methods on patches, and what they are built on."""


def bench_teachers(repeats: int, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Time steps of DINO, SelfPatch, BYOL and CO-BYOL in turns, on the same views and network.

    A step is forward, backward and the teacher's update, on images of random values: two views of
    32 x 32 and, for DINO and SelfPatch, four of 16 x 16, by a ViT of width 192 and depth 12 with
    patches of 4 x 4 and heads of the published sizes. If lightly is installed, its DINO and BYOL
    take turns with them, with our weights and views.

    Parameters
    ----------
    repeats : int
        Turns that count.
    say : callable
        Gets a line before each measurement.

    Returns
    -------
    dict
        Seconds of each; ``selfpatch_to_dino`` and ``cossl_to_byol``; with lightly
        ``dino_lightly_to_ours`` and ``byol_lightly_to_ours``, and both losses of each.
    """
    settings: dict[str, Objective] = {
        "dino": DINO,
        "selfpatch": SelfpatchSettings(image=DINO),
        "byol": BYOL,
        "cossl": CosslSettings(image=BYOL),
    }
    small = {"dino": LOCAL, "selfpatch": LOCAL}
    batches = {name: random_views(small.get(name, 0)) for name in settings}
    torch.manual_seed(0)
    encoder = ViT((SIDE, SIDE), (PATCH, PATCH), 3, 192, 12, 3, position="sincos")
    objectives = {name: build_objective(deepcopy(encoder), s) for name, s in settings.items()}
    calls: dict[str, Callable[[], object]] = {
        name: partial(step, objective, batches[name]) for name, objective in objectives.items()
    }
    losses = {}
    if importlib.util.find_spec("lightly") is not None:
        theirs = {
            "dino": lightly_dino(objectives["dino"], batches["dino"]),
            "byol": lightly_byol(objectives["byol"], batches["byol"]),
        }
        for name, call in theirs.items():
            with torch.no_grad():
                ours = objectives[name](batches[name], None, 0.5).loss
            losses[name] = {"ours": ours.item(), "lightly": call().item()}
            calls[f"{name}_lightly"] = call
    say(f"steps of {', '.join(calls)}, {IMAGES} images")
    timing = in_turns(calls, repeats)
    return {
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        **{name: seconds(timing, name) for name in calls},
        **ratios(timing),
        **({"losses": losses} if losses else {}),
    }


def ratios(timing: Timing) -> dict[str, float]:
    """Return seconds over those of the method that one is built on, and lightly's over ours."""
    found = {f"{one}_to_{other}": timing.ratio_of_turns(one, other) for one, other in PAIRS.items()}
    for name in ("dino", "byol"):
        if f"{name}_lightly" in timing.wall:
            ratio = timing.ratio_of_turns(f"{name}_lightly", name)
            found[f"{name}_lightly_to_ours"] = ratio
    return found


def random_views(local: int) -> Batch:
    """Draw views of normally distributed values: two global ones and so many local ones."""
    draws = torch.Generator().manual_seed(0)
    start, size = torch.zeros(IMAGES, 2).long(), torch.full((IMAGES, 2), SIDE)
    still = torch.zeros(IMAGES, dtype=torch.bool)
    views = [
        View(torch.randn(IMAGES, 3, side, side, generator=draws), start, size, still, side == SMALL)
        for side in [SIDE] * 2 + [SMALL] * local
    ]
    unknown = torch.full((IMAGES,), -1)
    values = views[0].values
    return Batch(values, unknown, ["nobody"] * IMAGES, ["random"] * IMAGES, views=views)


def step(objective: Any, batch: Batch) -> None:
    """Go forward and backward through an objective, and let its teacher follow."""
    objective.zero_grad(set_to_none=True)
    objective(batch, None, 0.5).loss.backward()
    objective.after_step(0.5)


class Backbone(nn.Module):
    """An encoder as lightly's examples have one: images to a vector."""

    def __init__(self, encoder: ViT) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, values: Tensor) -> Tensor:
        """Return [CLS]."""
        return self.encoder.encode(values)[:, 0]


def lightly_dino(objective: Any, batch: Batch) -> Callable[[], Tensor]:
    """Return a step of lightly's DINO with the weights of ours."""
    loss_of: Any = importlib.import_module("lightly.loss")
    modules: Any = importlib.import_module("lightly.models.modules")
    sizes = objective.settings
    arguments = (objective.encoder.dim, sizes.hidden, sizes.bottleneck, sizes.prototypes)
    student: Any
    teacher: Any
    student, teacher = (
        nn.Sequential(Backbone(deepcopy(encoder)), modules.DINOProjectionHead(*arguments))
        for encoder in (objective.encoder, objective.exported)
    )
    for network, head in ((student, objective.head), (teacher, objective.teacher["head"])):
        linear = [module for module in network[1].layers if isinstance(module, nn.Linear)]
        own = [module for module in head.mlp if isinstance(module, nn.Linear)]
        for theirs, ours in zip(linear, own, strict=True):
            theirs.load_state_dict(ours.state_dict())
        weight = torch.nn.functional.normalize(head.last.detach(), dim=-1)
        last = dict(network[1].last_layer.named_parameters())
        direction = [p for name, p in last.items() if p.shape == weight.shape]
        direction[0].data.copy_(weight)
    loss = loss_of.DINOLoss(sizes.prototypes)
    follow: Any = importlib.import_module("lightly.models.utils").update_momentum

    def call() -> Tensor:
        student.zero_grad(set_to_none=True)
        with torch.no_grad():
            targets = [teacher(view) for view in batch.global_views]
        outputs = [student(view) for view in [*batch.global_views, *batch.local_views]]
        value: Any = loss(targets, outputs, epoch=0)
        value.backward()
        follow(student, teacher, m=0.998)
        found: Tensor = value.detach()
        return found

    return call


def lightly_byol(objective: Any, batch: Batch) -> Callable[[], Tensor]:
    """Return a step of lightly's BYOL with the weights of ours."""
    modules: Any = importlib.import_module("lightly.models.modules")
    compare = importlib.import_module("lightly.loss").NegativeCosineSimilarity()
    follow: Any = importlib.import_module("lightly.models.utils").update_momentum
    sizes, dim = objective.settings, objective.encoder.dim
    student: Any = nn.Sequential(
        Backbone(deepcopy(objective.encoder)),
        modules.BYOLProjectionHead(dim, sizes.hidden, sizes.out),
    )
    predictor = modules.BYOLPredictionHead(sizes.out, sizes.hidden, sizes.out)
    teacher = deepcopy(student)
    for theirs, ours in (
        (student[1].layers, objective.projector),
        (teacher[1].layers, objective.teacher["projector"]),
        (predictor.layers, objective.predictor),
    ):
        give(theirs, ours)

    def call() -> Tensor:
        student.zero_grad(set_to_none=True)
        predictor.zero_grad(set_to_none=True)
        one, two = batch.global_views
        with torch.no_grad():
            targets = [teacher(two), teacher(one)]
        pairs = zip((one, two), targets, strict=True)
        losses = [compare(predictor(student(view)), target) for view, target in pairs]
        # Theirs is the negative cosine; ours 2 - 2 cos of both ways.
        value: Any = 2 * (2 + losses[0] + losses[1])
        value.backward()
        follow(student, teacher, m=0.998)
        found: Tensor = value.detach()
        return found

    return call


def give(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy linear layers and norms in their order; layers without a bias leave it out."""
    kinds = (nn.Linear, nn.modules.batchnorm._BatchNorm)
    own = [module for module in ours.modules() if isinstance(module, kinds)]
    other = [module for module in theirs.modules() if isinstance(module, kinds)]
    for source, target in zip(own, other, strict=True):
        state = source.state_dict()
        target.load_state_dict({name: state[name] for name in target.state_dict()})
