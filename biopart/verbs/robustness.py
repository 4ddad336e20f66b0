"""Robustness of a frozen encoder: a linear probe, fitted on clean items, scored on corrupted ones.

After CO-SSL (arXiv 2501.02860): noise and blur, masked local representations, and the fast gradient
sign method (arXiv 1412.6572); of signals also drop-outs, drift and the mains.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import Tensor
from torch.nn import functional as F

from biopart.compute import open_fabric
from biopart.data import Source
from biopart.evaluation.metrics import confusion_of, kappa_of
from biopart.evaluation.probes import fit_linear_probe
from biopart.experiment import Experiment, open_experiment, stored_recipe
from biopart.nn import Model
from biopart.probing.corruptions import corruptions_of_images, corruptions_of_signals
from biopart.run import Run
from biopart.store.seen import Seen

BATCH = 256
ITEMS = 2000  # test items, at most
MASKED = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of local representations that are left out of the mean, as CO-SSL masks them."""
PIXEL_STEPS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Steps of the gradient's sign in pixel values of 255."""
SIGNAL_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Steps of the gradient's sign in deviations of the signal."""


@dataclass(frozen=True)
class Curve:
    """Scores of the encoders at the strengths of a corruption.

    Attributes
    ----------
    name, unit : str
        The corruption, and what its strength means.
    levels : list of float
        Strengths.
    kappa : dict
        "pretrained" and "untrained" -> kappa at each strength.
    """

    name: str
    unit: str
    levels: list[float]
    kappa: dict[str, list[float]]


@dataclass(frozen=True)
class Probed:
    """A frozen encoder with a linear probe on the mean of its tokens."""

    model: Model
    probe: Pipeline

    def kappa(self, features: NDArray[np.float32], source: Source, classes: int) -> float:
        """Return the probe's kappa on features of a source's items."""
        predicted = self.probe.predict(features.astype(np.float64)).astype(np.int64)
        return float(kappa_of(confusion_of(source.labels, predicted, classes)))


def robustness(
    run: Run,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    changes: Sequence[str] = (),
    store: Path | None = None,
) -> dict[str, Any]:
    """Score linear probes of a run's encoder and of an untrained one on corrupted test items.

    Parameters
    ----------
    run : Run
        A pretraining.
    subjects, seed : int, optional
        As for ``probe``; the recipe's by default.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    store : Path, optional
        The store, if it has moved since the run was started.

    Returns
    -------
    dict
        ``clean`` (encoder -> kappa), ``curves`` (list of ``Curve``), ``items`` scored.
    """
    origin = run.pretrained()
    recipe = stored_recipe(origin, changes, store)
    experiment = open_experiment(recipe)
    subjects = recipe.finetune.subjects if subjects is None else subjects
    seed = recipe.seed if seed is None else seed
    train = experiment.source(experiment.split.subset(subjects, seed), labelled=True)
    test = experiment.source(experiment.split.test, labelled=True).drawn(ITEMS, recipe.split.seed)
    weight: Literal["balanced"] | None = "balanced" if recipe.finetune.class_weights else None
    encoders = {}
    for name, model in models_of(experiment, origin, seed).items():
        features = embedded(model, train, lambda values: values)
        probe = fit_linear_probe(features, train.labels, seed=seed, class_weight=weight)
        encoders[name] = Probed(model, probe)
    classes = len(experiment.cohort.label_names)
    clean = {
        name: one.kappa(embedded(one.model, test, lambda values: values), test, classes)
        for name, one in encoders.items()
    }
    curves = []
    for name, unit, levels, features_at in questions(experiment):
        kappa = {
            key: [one.kappa(features_at(one, test, level), test, classes) for level in levels]
            for key, one in encoders.items()
        }
        curves.append(Curve(name, unit, list(levels), kappa))
    return {"clean": clean, "curves": curves, "items": len(test)}


def models_of(experiment: Experiment, origin: Run, seed: int) -> dict[str, Model]:
    """Return the run's encoder and an untrained one, on the recipe's device."""
    recipe = experiment.recipe
    device = open_fabric(recipe.compute.model_copy(update={"precision": "float32"})).device
    model = Model.load(origin)
    experiment.refuse_seen(experiment.split.test, model.about.seen)
    encoder = experiment.encoder(recipe.encoder.position, seed)
    about = experiment.about(Seen(), positions=recipe.pretrain.objective.uses_positions)
    models = {"pretrained": model, "untrained": Model(encoder, about)}
    return {name: one.to(device).eval() for name, one in models.items()}


FeaturesAt = Callable[[Probed, Source, float], NDArray[np.float32]]


def questions(
    experiment: Experiment,
) -> Iterator[tuple[str, str, Sequence[float], FeaturesAt]]:
    """Yield the corruptions: name, unit, strengths, and the features of corrupted items."""
    sfreq_hz = experiment.cohort.attributes.get("sfreq_hz")
    kinds = (
        corruptions_of_images(min(experiment.shape))
        if sfreq_hz is None
        else corruptions_of_signals(sfreq_hz)
    )
    for kind in kinds:

        def changed(
            one: Probed, source: Source, level: float, change: Any = kind.change
        ) -> NDArray[np.float32]:
            generator = torch.Generator().manual_seed(0)  # alike for all encoders and levels
            return embedded(one.model, source, lambda values: change(values, level, generator))

        yield kind.name, kind.unit, kind.levels, changed
    yield "masking", "share of local representations", MASKED, masked
    steps = SIGNAL_STEPS if sfreq_hz else PIXEL_STEPS
    unit = "step in pixel values of 255" if not sfreq_hz else "step in deviations of the signal"
    yield "FGSM", unit, steps, attacked


def plain_values(model: Model, values: Tensor) -> Tensor:
    """Return what is corrupted: pixels from 0 to 255, or signals in deviations."""
    values = values.to(model.device)
    return values.float() if values.dtype == torch.uint8 else model.normalise(values)


def batches(source: Source) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield stored values and labels of a source in order."""
    for start in range(0, len(source), BATCH):
        batch = source.__getitems__(np.arange(start, min(start + BATCH, len(source))))
        yield batch.values, batch.label


@torch.no_grad()
def embedded(
    model: Model, source: Source, change: Callable[[Tensor], Tensor]
) -> NDArray[np.float32]:
    """Return the mean tokens of changed items, (W, D)."""
    parts = [model.embed(change(plain_values(model, values))) for values, _ in batches(source)]
    features: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return features


@torch.no_grad()
def masked(one: Probed, source: Source, level: float) -> NDArray[np.float32]:
    """Return means over the tokens that are left when a share of them is taken away."""
    generator, parts = torch.Generator().manual_seed(0), []
    for values, _ in batches(source):
        tokens = one.model.tokens(plain_values(one.model, values))[:, 1:].cpu()
        kept = max(1, round((1 - level) * tokens.shape[1]))
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(1)[:, :kept]
        parts.append(tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2])).mean(1))
    features: NDArray[np.float32] = torch.cat(parts).numpy()
    return features


def attacked(one: Probed, source: Source, level: float) -> NDArray[np.float32]:
    """Return mean tokens of items that were moved by the sign of the probe's gradient (FGSM)."""
    scaler, regression = one.probe[0], one.probe[-1]
    classes = torch.from_numpy(regression.classes_)
    weight, bias, mean, scale = (
        torch.from_numpy(np.asarray(array)).float().to(one.model.device)
        for array in (regression.coef_, regression.intercept_, scaler.mean_, scaler.scale_)
    )
    if len(weight) == 1:  # two classes have one row
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    parts = []
    for stored, label in batches(source):
        values = plain_values(one.model, stored).detach().requires_grad_()
        logits = (one.model.embed(values) - mean) / scale @ weight.T + bias
        known = (label[:, None] == classes).to(logits.device)  # a class that the probe lacks: none
        loss = -(F.log_softmax(logits, 1) * known).sum()
        (gradient,) = torch.autograd.grad(loss, values)
        with torch.no_grad():
            moved = values + level * gradient.sign()
            moved = moved.clamp(0, 255) if stored.dtype == torch.uint8 else moved
            parts.append(one.model.embed(moved))
    features: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return features
