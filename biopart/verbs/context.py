"""Classify windows by their neighbours: a transformer trained on top of a fine-tuned classifier."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from biopart import objectives
from biopart.compute import describe, open_fabric
from biopart.data import EmbeddedWindows, Source, WindowSource
from biopart.evaluation.calibration import fit_temperature
from biopart.nn.sequence import SequenceClassifier
from biopart.nn.weights import load_classifier, save_sequence
from biopart.recipe import Normalisation, SequenceSettings
from biopart.run import Run
from biopart.train import Row, Task, fit, predict
from biopart.verbs.plan import Plan
from biopart.verbs.scoring import agreement, begin, calibration, finish

COMPARED = ("kappa", "kappa_mean", "kappa_ci95", "macro_f1", "accuracy")


@dataclass
class Nights:
    """Windows of persons with their neighbours.

    Attributes
    ----------
    items : Source
        Windows to classify, with their context.
    everything : Source
        All windows of the same recordings, alone.
    """

    items: Source
    everything: Source
    _kept: EmbeddedWindows | None = field(default=None, repr=False)

    def embedded(
        self,
        model: SequenceClassifier,
        fabric: Fabric,
        normalise: Normalisation,
        *,
        frozen: bool,
    ) -> EmbeddedWindows:
        """Embed every window once; of a frozen encoder the embeddings are kept."""
        if self._kept is not None:
            return self._kept
        assert isinstance(self.items, WindowSource)  # images have no neighbours
        assert isinstance(self.everything, WindowSource)
        values = predict(model.classifier.embed, self.everything, fabric, normalise)
        embedded = EmbeddedWindows(self.items, self.everything, values)
        self._kept = embedded if frozen else None
        return embedded


def nights(plan: Plan, persons: Sequence[str], *, keep_bad: bool = False) -> Nights:
    """Return the labelled windows of persons with their neighbours."""
    items = plan.source(persons, keep_bad=keep_bad, context=plan.context)
    return Nights(items, plan.experiment.source(persons, keep_bad=True))


@torch.no_grad()
def classify(
    model: SequenceClassifier, windows: EmbeddedWindows, fabric: Fabric
) -> NDArray[np.float32]:
    """Return the logits (W, classes) of windows, each in the middle of its neighbours."""
    logits = []
    for start in range(0, len(windows), 256):
        batch = windows.__getitems__(range(start, min(start + 256, len(windows))))
        batch = batch.to(fabric.device)
        assert batch.context is not None
        with fabric.autocast():
            found = model.relate(batch.values, batch.context.present)[:, model.centre]
        logits.append(found.float().cpu().numpy())
    return np.concatenate(logits)


def build(plan: Plan, alone: Run) -> objectives.Sequence:
    """Build the transformer on top of a fine-tuned classifier."""
    recipe = plan.experiment.recipe
    single, _ = load_classifier(alone.model)
    settings = recipe.finetune.sequence
    torch.manual_seed(plan.seed)
    objective = objectives.Sequence(
        single.encoder,
        SequenceSettings(
            classes=single.final_layer.out_features,
            pool=single.pool,
            context=plan.context,
            **settings.model_dump(include={"frozen", "depth", "heads", "dropout"}),
        ),
    )
    objective.model.classifier.final_layer.load_state_dict(single.final_layer.state_dict())
    return objective


def add_context(plan: Plan, alone: Run, target: Run, report: Callable[[Row], None]) -> None:
    """Train, keep the best weights, score the test persons with context beside without.

    Parameters
    ----------
    plan : Plan
        Persons, seed and settings, ``finetune.context`` above 1.
    alone : Run
        The fine-tuning of single windows on the same persons.
    target : Run
        Where to.
    report : callable
        Gets every logged row.
    """
    begun = time.perf_counter()
    experiment, recipe = plan.experiment, plan.experiment.recipe
    settings, normalise = recipe.finetune.sequence, recipe.data.normalise
    train = nights(plan, plan.persons)
    fabric = open_fabric(plan.compute, lambda: experiment.encoder(recipe.finetune.position, 0))
    objective = build(plan, alone).to(fabric.device).eval()
    source = (
        train.embedded(objective.model, fabric, normalise, frozen=True)
        if settings.frozen
        else train.items
    )
    if plan.dry_run:
        settings = settings.model_copy(update={"steps": 1})
    task = Task(
        objective,
        source,
        settings,
        "none" if settings.frozen else normalise,
        plan.seed,
        validate=looking(plan, objective, fabric),
        select="kappa" if experiment.split.validation else None,
        patience=settings.patience,
    )
    rows = fit(task, fabric, None, begin(target, recipe, report))
    temperature = 1.0
    if experiment.split.validation:
        held = nights(plan, experiment.split.validation)
        embedded = held.embedded(objective.model, fabric, normalise, frozen=True)
        logits = classify(objective.model, embedded, fabric)
        temperature = fit_temperature(logits, held.items.labels)
    about = experiment.about(plan.met) | {"temperature": temperature}
    save_sequence(target.model, objective.model, about)
    if plan.dry_run:
        return
    test = nights(plan, experiment.split.test, keep_bad=True)
    windows = test.embedded(objective.model, fabric, normalise, frozen=True)
    before = alone.result()
    said: dict[str, Any] = {
        "context": plan.context,
        "without_context": {key: before[key] for key in COMPARED} | {"run": alone.path.name},
        "steps": rows[-1]["step"],
        "from_scratch": plan.origin is None,
        "seed": plan.seed,
        "warnings": before["warnings"],
        "seconds": time.perf_counter() - begun,
    }
    logits = classify(objective.model, windows, fabric)
    said |= calibration(logits, test.items.labels, temperature)
    finish(plan, target, (test.items, logits), chosen=describe(fabric, source), said=said)


def looking(plan: Plan, objective: objectives.Sequence, fabric: Fabric) -> Callable[[], Row] | None:
    """Return a look at validation persons; None where there are none."""
    recipe, persons = plan.experiment.recipe, plan.experiment.split.validation
    if not persons:
        return None
    held = nights(plan, persons)
    frozen = recipe.finetune.sequence.frozen

    def look() -> Row:
        windows = held.embedded(objective.model, fabric, recipe.data.normalise, frozen=frozen)
        return dict(agreement(held.items.labels, classify(objective.model, windows, fabric)))

    return look
