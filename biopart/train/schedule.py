"""Learning rates over steps and layers, and gradient clipping."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from biopart.nn import Encoder
from biopart.nn.shards import complete
from biopart.recipe import Optimisation
from biopart.train.training import Training


def learning_rate(task: Training, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to the final rate.

    ``lr * (step + 1) / warm-up`` at first, then ``final + (lr - final) * (1 + cos(pi t)) / 2`` with
    t from 0 to 1. With ``decay_at`` a tenth of the rate from each of these shares of the steps on.
    """
    warmup = min(round(task.settings.warmup_epochs * len(task.sampler)), task.steps)
    if step < warmup:
        return task.settings.lr * (step + 1) / warmup
    if task.settings.decay_at:
        passed = sum(step >= share * task.steps for share in task.settings.decay_at)
        return task.settings.lr * 0.1**passed
    through = (step - warmup) / max(task.steps - warmup, 1)
    final = task.settings.final_lr
    return final + (task.settings.lr - final) * (1 + math.cos(math.pi * through)) / 2


def weight_decay(task: Training, step: int) -> float:
    """Return the weight decay of a step, by a cosine to the final one where there is one."""
    first, last = task.settings.weight_decay, task.settings.final_weight_decay
    if last is None:
        return first
    through = step / max(task.steps, 1)
    return last + (first - last) * (1 + math.cos(math.pi * through)) / 2


def parameter_groups(task: Training, module: nn.Module | None = None) -> list[dict[str, Any]]:
    """Group parameters by layer and weight decay.

    Layers as the encoder has them, heads and new positions at the top. The learning rate of a
    group is ``layer_decay ** (top - layer)`` times the whole one. ``module`` is what takes the
    steps, if it is not the objective itself but a copy of it.
    """
    module = task.objective if module is None else module
    encoder = cast(Encoder, module.encoder)
    layers = encoder.layers()
    top = len(layers) - 1
    layer = {id(p): number for number, part in enumerate(layers) for p in part}
    new = {id(p) for p in task.fresh}
    names = [name for name, p in task.objective.named_parameters() if id(p) in new]
    layer |= {id(module.get_parameter(name)): top for name in names}
    special = {id(parameter) for parameter in encoder.not_decayed()}
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        number = layer.get(id(parameter), top)
        decays = parameter.ndim > 1 and id(parameter) not in special
        group = groups.setdefault(
            (number, decays),
            {
                "params": [],
                "weight_decay": task.settings.weight_decay if decays else 0.0,
                "decays": decays,
                "scale": task.settings.layer_decay ** (top - number),
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def clip(settings: Optimisation, module: nn.Module) -> Tensor:
    """Clip the norm of a module's gradient if the settings say so; return the norm before."""
    trained = [p for p in module.parameters() if p.grad is not None]
    limit = settings.clip or math.inf
    groups = [[p] for p in trained] if settings.clip_each else [trained]
    each = {str(place): nn.utils.clip_grad_norm_(p, limit) for place, p in enumerate(groups)}
    norms = torch.stack(list(complete(each).values()))
    return norms.square().sum().sqrt() if len(groups) > 1 else norms[0]
