"""Classify windows by their neighbours: a transformer trained on top of a fine-tuned classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from biopart import objectives
from biopart.compute import describe
from biopart.data import EmbeddedWindows, Source, WindowSource
from biopart.evaluation.calibration import fit_temperature
from biopart.experiment import Plan
from biopart.nn import Model
from biopart.nn.sequence import SequenceClassifier
from biopart.recipe import Normalisation, SequenceSettings
from biopart.run import Run
from biopart.tasks.runner import Task
from biopart.tasks.scoring import agreement, calibration, make_folder, write_results
from biopart.train import Row, Training, predict

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

    def logits(
        self,
        model: SequenceClassifier,
        fabric: Fabric,
        normalise: Normalisation,
        *,
        frozen: bool = True,
    ) -> NDArray[np.float32]:
        """Return the logits (W, classes) of the items, each in the middle of its neighbours."""
        windows = self.embedded(model, fabric, normalise, frozen=frozen)
        rows, context = windows.rows(np.arange(len(windows)))
        with torch.no_grad(), fabric.autocast():
            embeddings = windows.embeddings.to(fabric.device)
            logits = model.classify(embeddings, rows, context.present)
        array: NDArray[np.float32] = logits.cpu().numpy()
        return array


def nights(plan: Plan, persons: Sequence[str], *, keep_bad: bool = False) -> Nights:
    """Return the labelled windows of persons with their neighbours."""
    items = plan.source(persons, keep_bad=keep_bad, context=plan.context)
    return Nights(items, plan.experiment.source(persons, keep_bad=True))


def build(plan: Plan, single_run: Run) -> objectives.Sequence:
    """Build the transformer on top of a fine-tuned classifier."""
    single = Model.load(single_run.model).single
    assert single is not None
    settings = plan.experiment.recipe.finetune.sequence
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


@dataclass
class ContextClassification(Task):
    """Train on windows and their neighbours, and score the test persons with beside without.

    Attributes
    ----------
    plan : Plan
        Persons, seed and settings, ``finetune.context`` above 1.
    single_run : Run
        The fine-tuning of single windows on the same persons.
    """

    plan: Plan
    single_run: Run
    temperature: float = 1.0

    def __post_init__(self) -> None:
        split = self.plan.experiment.split
        self.train = nights(self.plan, self.plan.persons)
        self.validation = nights(self.plan, split.validation) if split.validation else None
        self.objective = build(self.plan, self.single_run)
        self.normalise = self.plan.experiment.recipe.data.normalise

    def begin(self, run: Run) -> None:
        """Write the settings."""
        make_folder(run, self.plan.recipe)

    def training(self, fabric: Fabric) -> Training:
        """Return what is trained: on embeddings, where the encoder is frozen."""
        settings = self.plan.experiment.recipe.finetune.sequence
        self.objective.to(fabric.device).eval()
        model, frozen = self.objective.model, settings.frozen
        self.source: Source | EmbeddedWindows = self.train.items
        if frozen:
            self.source = self.train.embedded(model, fabric, self.normalise, frozen=True)
        if self.plan.dry_run:
            settings = settings.model_copy(update={"steps": 1})

        def validate() -> Row:
            assert self.validation is not None
            logits = self.validation.logits(model, fabric, self.normalise, frozen=frozen)
            return dict(agreement(self.validation.items.labels, logits))

        return Training(
            self.objective,
            self.source,
            settings,
            "none" if frozen else self.normalise,
            self.plan.seed,
            validate=None if self.validation is None else validate,
            select=None if self.validation is None else "kappa",
            patience=settings.patience,
        )

    def finish(self, fabric: Fabric) -> None:
        """Calibrate on validation persons; without any, probabilities stay as they are."""
        if self.validation is not None:
            held = Nights(self.validation.items, self.validation.everything)
            logits = held.logits(self.objective.model, fabric, self.normalise)
            self.temperature = fit_temperature(logits, held.items.labels)

    def save(self, path: Path) -> None:
        """Write the classifier."""
        about = self.plan.experiment.about(self.plan.seen, temperature=self.temperature)
        Model(self.objective.model, about).save(path)

    def score(self, run: Run, fabric: Fabric) -> dict[str, Any]:
        """Score the test persons and write their predictions."""
        test = nights(self.plan, self.plan.experiment.split.test, keep_bad=True)
        logits = test.logits(self.objective.model, fabric, self.normalise)
        single_result = self.single_run.result()
        chosen = describe(fabric, self.source)
        result = write_results(self.plan, run, test.items, logits, chosen=chosen)
        return result | {
            **calibration(logits, test.items.labels, self.temperature),
            "context": self.plan.context,
            "without_context": {
                **{key: single_result[key] for key in COMPARED},
                "run": self.single_run.path.name,
            },
            "from_scratch": self.plan.origin is None,
            "seed": self.plan.seed,
            "warnings": single_result["warnings"],
        }
