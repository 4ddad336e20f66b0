"""Fine-tune a pretrained encoder on the labels of a few persons, or train one from scratch."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from biopart.compute import compiled, describe, open_fabric, settle
from biopart.data import Source
from biopart.evaluation.images import score_images
from biopart.evaluation.metrics import balanced_weights, kappa_of, score
from biopart.nn import ViT
from biopart.nn.weights import (
    load_encoder,
    load_tensors,
    save_classifier,
    save_tensors,
    transfer,
)
from biopart.objectives import Classify, ClassifySettings
from biopart.recipe import ComputeSettings, Recipe
from biopart.run import Run, origins, write_json, write_text
from biopart.train import Row, Task, fit, predict
from biopart.verbs.classes import check_classes, check_test
from biopart.verbs.experiment import Experiment, open_experiment, refuse_seen
from biopart.verbs.pretrain import stored_recipe


def finetune(
    run: Run,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    from_scratch: bool = False,
    changes: Sequence[str] = (),
    store: Path | None = None,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Fine-tune a run's encoder and score it, once, on the test persons.

    On-grid patches, new learned positions, a linear layer on [CLS], all weights train (PART,
    arXiv 2506.03682). Weights are those of the best kappa on validation persons.

    Parameters
    ----------
    run : Run
        A pretraining; with ``from_scratch`` only its recipe is used.
    subjects, seed : int, optional
        Labelled persons and the seed that draws them; the recipe's by default.
    from_scratch : bool
        The supervised baseline: a new encoder.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    store : Path, optional
        Where the store lies now, if not where the run was begun.
    dry_run : bool
        Do everything on one batch, in a folder that is thrown away.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        The fine-tuning's folder, with model.safetensors and result.json.

    Raises
    ------
    ValueError
        If more subjects are asked for than are labelled, or fewer than two classes remain.
    FileNotFoundError
        If the run has no weights.
    """
    origin = run.pretrained()
    recipe = stored_recipe(origin, changes, store)
    if dry_run:
        short = recipe.finetune.model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={"finetune": short})
    subjects = recipe.finetune.subjects if subjects is None else subjects
    seed = recipe.seed if seed is None else seed
    plan = Plan(
        open_experiment(recipe),
        None if from_scratch else origin,
        subjects,
        seed,
        own_compute(recipe, origin, changes),
        dry_run,
    )
    with tempfile.TemporaryDirectory() as folder:
        name = finetuning_name(plan, stored_recipe(origin, store=store))
        target = Run((Path(folder) if dry_run else origin.path) / "finetune" / name)
        _train(plan, target, report)
    return target


@dataclass(frozen=True)
class Plan:
    """What is to be fine-tuned: on whom, from which run (None = from scratch), how."""

    experiment: Experiment
    origin: Run | None
    subjects: int
    seed: int
    compute: ComputeSettings
    dry_run: bool

    @cached_property
    def persons(self) -> tuple[str, ...]:
        """Persons whose labels are used."""
        return self.experiment.split.subset(self.subjects, self.seed)

    @cached_property
    def pretrained_on(self) -> list[str]:
        """Persons that the encoder has seen already."""
        return [] if self.origin is None else list(self.origin.provenance()["seen"])

    def source(self, persons: Sequence[str], *, keep_bad: bool = False) -> Source:
        """Return labelled windows of persons; one batch of them in a dry run."""
        source = self.experiment.source(persons, labelled=True, keep_bad=keep_bad)
        return source.head(self.experiment.recipe.finetune.batch) if self.dry_run else source


def own_compute(recipe: Recipe, origin: Run, changes: Sequence[str]) -> ComputeSettings:
    """Return the machine's settings: the pretraining's choices unless they are set anew."""
    if any(change.startswith("compute") for change in changes):
        return recipe.compute
    try:
        chosen = origin.provenance()["chosen"]
    except FileNotFoundError:
        return recipe.compute
    kept = {key: chosen[key] for key in ("precision", "threads")}
    return recipe.compute.model_copy(update=kept)


def finetuning_name(plan: Plan, before: Recipe) -> str:
    """Name a fine-tuning; settings that differ from the run's recipe give it a mark of its own."""
    name = f"s{plan.subjects}-seed{plan.seed}"
    values = [
        recipe.model_dump(mode="json", exclude={"compute", "seed"})
        for recipe in (before, plan.experiment.recipe)
    ]
    if values[0] != values[1]:
        name += "-" + hashlib.sha256(json.dumps(values[1]).encode()).hexdigest()[:6]
    return name if plan.origin is not None else f"scratch-{name}"


def _train(plan: Plan, target: Run, report: Callable[[Row], None]) -> None:
    """Check everything, train, keep the best weights, score the test persons, write."""
    begun = time.perf_counter()
    experiment, recipe = plan.experiment, plan.experiment.recipe
    split = experiment.split
    refuse_seen([*split.test, *split.validation], plan.pretrained_on)
    source = plan.source(plan.persons)
    test = experiment.source(split.test, labelled=True, keep_bad=True)
    warnings = [
        *experiment.notes,
        *check_classes(experiment, source),
        *check_test(experiment, test),
    ]
    fabric = open_fabric(plan.compute, lambda: experiment.encoder(recipe.finetune.position, 0))
    objective = build(experiment, source, plan.seed)
    if plan.origin is not None:
        start_from(plan.origin, objective.encoder, experiment)
    compiled(objective.encoder, plan.compute)
    task = make_task(plan, objective, source, fabric)
    target.path.mkdir(parents=True, exist_ok=True)
    for stale in ("metrics.jsonl", "result.json", "predictions.safetensors"):
        (target.path / stale).unlink(missing_ok=True)
    write_text(target.path / "finetune.yaml", recipe.to_yaml())

    def watch(row: Row) -> None:
        target.log(row)
        report(row)

    rows = fit(task, fabric, None, watch)
    seen = sorted({*plan.persons, *split.validation, *plan.pretrained_on})
    save_classifier(target.model, objective.model, experiment.about(seen))
    if plan.dry_run:
        return
    logits = predict(objective.model, test, fabric, recipe.data.normalise)
    save_predictions(target.path / "predictions.safetensors", test, logits)
    result = scored(test, logits.argmax(1)) | {
        **who(experiment, plan.persons),
        "steps": rows[-1]["step"],
        "from_scratch": plan.origin is None,
        "seed": plan.seed,
        "warnings": warnings,
        "simulated": experiment.simulated,
        "seconds": time.perf_counter() - begun,
    }
    about = {"chosen": describe(fabric, task.source), "seed": plan.seed, "seen": seen}
    about |= {"store_sha256": experiment.cohort.fingerprint}
    write_json(target.path / "provenance.json", {**origins(), **about})
    write_json(target.path / "result.json", result)


def who(experiment: Experiment, persons: Sequence[str]) -> dict[str, Any]:
    """Say who was trained on; of images, which may be many, how many and a hash of the names."""
    if experiment.cohort.holds_images:
        names = "\n".join(sorted(persons)).encode()
        return {
            "n_train_images": len(persons),
            "train_images_sha256": hashlib.sha256(names).hexdigest(),
        }
    return {
        "n_train_persons": len(persons),
        "train_persons": list(persons),
        "test_persons": list(experiment.split.test),
    }


def save_predictions(path: Path, test: Source, logits: NDArray[np.float32]) -> None:
    """Write what was predicted for each test window or image, in the source's order.

    Tensors ``record`` and ``epoch`` (``image`` of a pack of images) (W,), ``truth`` and
    ``predicted`` (W,), ``probability`` (W, classes); the metadata name the records that ``record``
    numbers, and the classes.
    """
    odds = torch.from_numpy(logits)
    tensors = {
        "record": torch.from_numpy(test.record).int(),
        "image" if test.cohort.holds_images else "epoch": torch.from_numpy(test.place).int(),
        "truth": torch.from_numpy(test.labels).short(),
        "predicted": odds.argmax(1).short(),
        "probability": odds.softmax(1),
    }
    about = {"records": list(test.cohort.records), "classes": list(test.cohort.label_names)}
    save_tensors(path, tensors, about)


def start_from(origin: Run, encoder: ViT, experiment: Experiment) -> None:
    """Take a run's weights; refuse those of other channels.

    Raises FileNotFoundError where the run has none, ValueError where they do not fit.
    """
    if not origin.encoder.is_file():
        raise FileNotFoundError(
            f"{origin.path} has no weights yet; finish it with: biopart pretrain --resume --out "
            f"{origin.path}, or give --from-scratch"
        )
    _, about = load_tensors(origin.encoder)
    if about.get("channels") != list(experiment.channels):
        raise ValueError(
            f"the encoder was pretrained on {', '.join(about.get('channels', []))}; the recipe now "
            f"wants {', '.join(experiment.channels)}"
        )
    transfer(load_encoder(origin.encoder), encoder)


def make_task(plan: Plan, objective: Classify, source: Source, fabric: Fabric) -> Task:
    """Put together what is trained; validation persons choose the weights, if there are any."""
    recipe, persons = plan.experiment.recipe, plan.experiment.split.validation
    validation = plan.source(persons) if persons else None

    def validate() -> Row:
        assert validation is not None
        return look(objective, validation, fabric, recipe)

    return Task(
        objective,
        settle(source, plan.compute, fabric),
        recipe.finetune,
        recipe.data.normalise,
        plan.seed,
        validate=None if validation is None else validate,
        select=None if validation is None else "kappa",
        patience=recipe.finetune.patience,
        augment=plan.experiment.augment(recipe.finetune.augment, "finetune.augment"),
    )


def build(experiment: Experiment, source: Source, seed: int) -> Classify:
    """Build the classifier on a new encoder with new positions."""
    settings = experiment.recipe.finetune
    classes = len(experiment.cohort.label_names)
    weights = None
    if settings.class_weights:
        weights = tuple(balanced_weights(source.labels, classes).tolist())
    encoder = experiment.encoder(settings.position, seed, drop_path=settings.drop_path)
    return Classify(
        encoder, ClassifySettings(classes=classes, pool=settings.pool, class_weights=weights)
    )


def look(objective: Classify, source: Source, fabric: Fabric, recipe: Recipe) -> Row:
    """Return pooled kappa and accuracy on validation persons."""
    logits = predict(objective.model, source, fabric, recipe.data.normalise)
    confusion = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
    np.add.at(confusion, (source.labels, logits.argmax(1)), 1)
    kappa = float(kappa_of(confusion))
    accuracy = float(np.trace(confusion) / confusion.sum())
    return {"kappa": kappa if np.isfinite(kappa) else 0.0, "accuracy": accuracy}


def scored(source: Source, predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Score predictions of a source; count the windows that touch bad stretches.

    Images are scored as such: none is like another because of a person.
    """
    names = source.cohort.label_names
    if source.cohort.holds_images:
        return score_images(source.labels, predicted, names)
    result = score(source.labels, predicted, source.persons, names)
    return result | {
        "n_windows_bad": int(source.bad.sum()),
        "test_set_lacks": sorted(set(names) - set(result["classes"])),
    }
