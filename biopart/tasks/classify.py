"""Classify windows or images: fine-tune an encoder, or train one from scratch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from biopart.compute import compiled, describe, settle
from biopart.data import Source
from biopart.evaluation.calibration import fit_temperature
from biopart.evaluation.metrics import balanced_weights
from biopart.experiment import Plan
from biopart.experiment.classes import check_classes, check_test
from biopart.nn import Encoder, Model
from biopart.objectives import Classify
from biopart.recipe import ClassifySettings
from biopart.run import Run
from biopart.tasks.runner import Task
from biopart.tasks.scoring import agreement, calibration, make_folder, write_results
from biopart.train import Row, Training, predict


@dataclass
class Classification(Task):
    """The fine-tuning of single windows, or of images, on the labels of a plan's persons.

    On-grid patches, a linear layer, all weights train; positions, pooling and rates by layer as
    the authors of the pretraining's method have them. Weights are those of the best kappa on
    validation persons.

    Raises
    ------
    ValueError
        If a test or validation person was seen in pretraining, or fewer than two classes remain.
    """

    plan: Plan
    temperature: float = 1.0

    def __post_init__(self) -> None:
        plan, experiment = self.plan, self.plan.experiment
        split = experiment.split
        experiment.refuse_seen([*split.test, *split.validation], plan.seen_before)
        self.source = plan.source(plan.persons)
        self.test = experiment.source(split.test, labelled=True, keep_bad=True)
        self.validation = plan.source(split.validation) if split.validation else None
        self.warnings = [
            *experiment.notes,
            *split.shortage(plan.subjects),
            *check_classes(experiment, self.source),
            *check_test(experiment, self.test),
        ]
        self.objective = build(plan, self.source)
        self.started_from = start(plan, self.objective.encoder)
        compiled(self.objective.encoder, plan.compute)

    def begin(self, run: Run) -> None:
        """Write the settings."""
        make_folder(run, self.plan.recipe)

    def training(self, fabric: Fabric) -> Training:
        """Return what is trained; validation persons choose the weights, if there are any."""
        settings, encoder = self.plan.settings, self.objective.encoder
        self.chosen = settle(self.source, self.plan.compute, fabric)

        def validate() -> Row:
            assert self.validation is not None
            return agreement(self.validation.labels, self.logits(self.validation, fabric))

        return Training(
            self.objective,
            self.chosen,
            settings.loop_settings,
            self.plan.experiment.recipe.data.normalise,
            self.plan.seed,
            validate=None if self.validation is None else validate,
            select=None if self.validation is None else "kappa",
            patience=settings.patience,
            augment=self.plan.experiment.augment(settings.augment, "finetune.augment"),
            fresh=() if settings.keep_positions else tuple(encoder.positions()),
        )

    def logits(self, source: Source, fabric: Fabric) -> NDArray[np.float32]:
        """Return the logits (W, classes) of a source."""
        normalise = self.plan.experiment.recipe.data.normalise
        return predict(self.objective.model, source, fabric, normalise)

    def finish(self, fabric: Fabric) -> None:
        """Calibrate on validation persons; without any, probabilities stay as they are."""
        if self.validation is not None:
            logits = self.logits(self.validation, fabric)
            self.temperature = fit_temperature(logits, self.validation.labels)

    def save(self, path: Path) -> None:
        """Write the classifier."""
        about = self.plan.experiment.about(self.plan.seen, temperature=self.temperature)
        Model(self.objective.model, about).save(path)

    def score(self, run: Run, fabric: Fabric) -> dict[str, Any]:
        """Score the test persons and write their predictions."""
        logits = self.logits(self.test, fabric)
        chosen = describe(fabric, self.chosen)
        result = write_results(self.plan, run, self.test, logits, chosen=chosen)
        return result | {
            **calibration(logits, self.test.labels, self.temperature),
            "from_scratch": self.plan.origin is None,
            "weights": self.started_from,
            "seed": self.plan.seed,
            "warnings": self.warnings,
        }


def start(plan: Plan, encoder: Encoder) -> str:
    """Give the encoder the weights that it starts from; return what was taken.

    Raises ValueError where they do not fit, or are of other channels.
    """
    if plan.weights is None:
        return "a new encoder"
    channels, wanted = plan.weights.about.channels, plan.experiment.channels
    if channels and channels != wanted:
        raise ValueError(
            f"the encoder was pretrained on {', '.join(channels)}; the recipe now wants "
            f"{', '.join(wanted)}"
        )
    taken = plan.weights.give(encoder, positions=plan.settings.keep_positions)
    if plan.experiment.recipe.finetune.weights is None:  # a result does not depend on its folder
        return taken.replace(plan.weights.where, "its pretraining", 1)
    return taken


def build(plan: Plan, source: Source) -> Classify:
    """Build the classifier on a new encoder with new positions."""
    experiment, settings = plan.experiment, plan.settings
    classes = len(experiment.cohort.label_names)
    weights = None
    if settings.class_weights:
        weights = tuple(balanced_weights(source.labels, classes).tolist())
    encoder = experiment.encoder(settings.position, plan.seed, drop_path=settings.drop_path)
    return Classify(
        encoder,
        ClassifySettings(
            classes=classes,
            pool=settings.pool,
            class_weights=weights,
            smoothing=settings.augment.smoothing,
            head_std=settings.head_std,
        ),
    )
