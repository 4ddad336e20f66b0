"""Evaluate a model on windows: the metrics of an objective, or the output of a model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from biopart.data import Source, StepOutput
from biopart.nn import Normalise
from biopart.recipe import Normalisation
from biopart.views import Views


@torch.no_grad()
def measure(
    objective: nn.Module,
    source: Source,
    fabric: Fabric,
    normalise: Normalisation,
    *,
    count: int,
    views: Views | None = None,
) -> dict[str, Any]:
    """Return an objective's metrics on held-out windows, always the same ones.

    Parameters
    ----------
    objective : nn.Module
        As trained, in evaluation mode.
    source : Source
        Windows of held-out persons.
    fabric : Fabric
        Device and precision.
    normalise : "window", "recording", "imagenet" or "none"
        As in training.
    count : int
        Number of windows, spread evenly over the source; metrics are means over them.
    views : Views, optional
        Makes the views of a method that compares them; the same in every measurement.
    """
    picked = source.evenly(count)
    parts: list[tuple[float, dict[str, Tensor]]] = []
    prepare = Normalise(normalise)
    for number, start in enumerate(range(0, len(picked), 256)):
        batch = source.__getitems__(picked[start : start + 256]).to(fabric.device)
        generator = torch.Generator(device=fabric.device).manual_seed(number)
        if views is None:
            batch.values = prepare(batch.values)
        else:
            batch = views(batch, prepare, generator)
        with fabric.autocast():
            output: StepOutput = objective(batch, generator, 1.0)
        parts.append((len(batch.values) / len(picked), {"loss": output.loss, **output.metrics}))
    means: dict[str, float] = {}
    for share, figures in parts:
        for name, value in numbers(figures).items():
            means[name] = means.get(name, 0.0) + value * share
    return means


def numbers(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """Read 0-d tensors by name, in one copy from their device.

    Examples
    --------
    >>> numbers({"loss": torch.tensor(0.5), "accuracy": torch.tensor(1.0)})
    {'loss': 0.5, 'accuracy': 1.0}
    """
    values = torch.stack([value.detach().double() for value in figures.values()]).tolist()
    return dict(zip(figures, values, strict=True))


@torch.no_grad()
def predict(
    model: Callable[[Tensor], Tensor],
    source: Source,
    fabric: Fabric,
    normalise: Normalisation | None = None,
    *,
    batch: int = 256,
) -> NDArray[np.float32]:
    """Return a model's output for every window of a source in order, (W, ...).

    Values are normalised before the model sees them; None = by the model itself, as ``Model`` does.
    """
    prepare = nn.Identity() if normalise is None else Normalise(normalise)
    outputs = []
    for start in range(0, len(source), batch):
        items = range(start, min(start + batch, len(source)))
        values = prepare(source.__getitems__(items).values.to(fabric.device))
        with fabric.autocast():
            outputs.append(model(values).float().cpu().numpy())
    return np.concatenate(outputs)
