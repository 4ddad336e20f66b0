"""Estimate how long a study will take from a few timed steps of its variants."""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from biopart.experiment.experiment import open_experiment
from biopart.files import write_text
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.studies.compare.plan import Plan, Training
from biopart.studies.compare.variants import Variant
from biopart.studies.compare.work import FAULTS
from biopart.train import Row
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain

STEPS = 10  # timed steps; the first is left out, since it warms up
ENOUGH_S = 2.0  # a first step that takes longer is timed alone
FORWARD = 1 / 3  # share of a training step that its forward pass takes: the backward one takes two


class TimedError(Exception):
    """Ends a training after its timed steps; contains the row that it logged last."""


def timed(train: Callable[[Callable[[Row], None]], object], batch: int) -> Row:
    """Start a training of steps of ``batch`` windows, and return the row logged when timed."""

    def report(row: Row) -> None:
        speed = row.get("windows_per_second")  # rows of a validation have none
        if speed and (row["step"] >= min(STEPS, row["steps"]) or batch / speed > ENOUGH_S):
            raise TimedError(row)

    try:
        train(report)
    except TimedError as end:
        row: Row = end.args[0]
        return row
    raise ValueError("the training ended before a step was timed")


def estimate(
    plan: Plan, trainings: Collection[Training], say: Callable[[str], None] = lambda line: None
) -> dict[Training, float]:
    """Return the seconds that trainings of a study will take on this machine; NaN = unknown.

    A few steps of every variant are timed; the time of predictions is derived from them. Fitting
    probes and band powers is not included. ``say`` gets a line before each measurement.
    """
    seconds: dict[Training, float] = {}
    for variant in plan.variants:
        ours = [training for training in trainings if training.variant == variant.name]
        if not ours:
            continue
        say(f"timing {variant.name}")
        try:
            seconds |= timed_variant(variant, ours)
        except FAULTS as error:  # its trainings will report it; the others continue
            say(f"{variant.name} cannot be timed: {' '.join(str(error).split())}")
            seconds |= dict.fromkeys(ours, math.nan)
    return seconds


def timed_variant(variant: Variant, trainings: Sequence[Training]) -> dict[Training, float]:
    """Return the seconds of trainings of a variant, after a few steps in a temporary folder."""
    recipe, experiment = training_alone(variant.recipe), open_experiment(variant.recipe)
    split = experiment.split
    sizes = [training.size for training in trainings if training.size is not None]
    windows = Counter(
        experiment.source((*split.finetune, *split.validation, *split.test), labelled=True).persons
    )
    validated = bool(split.validation)
    with tempfile.TemporaryDirectory() as folder:
        if len(sizes) < len(trainings):
            out = Path(folder) / "run"
            row = timed(
                lambda report: pretrain(recipe, out=out, latest=False, report=report),
                recipe.pretrain.batch,
            )
            pretraining_seconds = pretraining_s(variant.recipe, row, validated=validated)
        if sizes:
            speed = tuning_speed(recipe, min(sizes), Path(folder) / "tuned")
    seconds: dict[Training, float] = {}
    for training in trainings:
        if training.size is None:
            seconds[training] = pretraining_seconds
        else:
            drawn = split.subset(training.size, training.seed)
            parts = {"train": drawn, "validation": split.validation, "test": split.test}
            counts = {part: sum(windows[p] for p in people) for part, people in parts.items()}
            seconds[training] = tuning_s(variant, speed, **counts)
    return seconds


def training_alone(recipe: Recipe) -> Recipe:
    """Return a recipe without the probes and loggers of its trainings."""
    pretraining = recipe.pretrain.model_copy(update={"probe_every": None})
    compute = recipe.compute.model_copy(update={"loggers": []})
    return recipe.model_copy(update={"pretrain": pretraining, "compute": compute})


def tuning_speed(recipe: Recipe, size: int, folder: Path) -> float:
    """Return the windows per second of a fine-tuning from scratch on ``size`` persons."""
    settings = recipe.finetune.model_copy(update={"weights": None})
    write_text(folder / "recipe.yaml", recipe.model_copy(update={"finetune": settings}).to_yaml())
    row = timed(
        lambda report: finetune(Run(folder), subjects=size, from_scratch=True, report=report),
        settings.batch,
    )
    return float(row["windows_per_second"])


def pretraining_s(recipe: Recipe, row: Row, *, validated: bool) -> float:
    """Return the seconds of a pretraining, from a row that it logged."""
    settings = recipe.pretrain
    epochs = row["steps"] * row["epoch"] / row["step"]
    validations = (epochs / settings.validate_every + 1) * validated
    windows = row["steps"] * settings.batch + validations * FORWARD * settings.validation_windows
    if settings.probe_every is not None:  # both parts, also before the first step and at the end
        windows += (epochs / settings.probe_every + 2) * FORWARD * 2 * settings.probe_windows
    return float(windows / row["windows_per_second"])


def tuning_s(variant: Variant, speed: float, *, train: int, validation: int, test: int) -> float:
    """Return the seconds of a fine-tuning with its probe, or of a baseline.

    ``speed`` is in windows per second of training; the others are numbers of windows.
    """
    settings = variant.recipe.finetune
    probing = FORWARD * (train + test) / speed
    if variant.kind not in ("pretrained", "scratch"):
        return probing
    epoch = max(-(-train // settings.batch), 1)
    epochs = settings.epochs if settings.steps is None else settings.steps / epoch
    validations = epochs / settings.validate_every + 1
    tried = math.prod(len(values) for values in settings.search.values())
    tuning = (
        tried * (epochs * train + FORWARD * validations * validation) + FORWARD * test
    ) / speed
    return tuning + (probing if variant.kind == "pretrained" else 0.0)


def duration_text(seconds: float) -> str:
    """Return a duration with a unit that suits its length.

    Examples
    --------
    >>> duration_text(42.4), duration_text(200.0), duration_text(9000.0)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def overview(
    plan: Plan, left: Sequence[Training], seconds: Mapping[Training, float | None], jobs: int
) -> dict[str, Any]:
    """Return the plan of a study: trainings by variant, and the remaining time.

    ``seconds`` has the measured or estimated time of trainings, where known.
    """
    times = {key: value for key, value in seconds.items() if value and not math.isnan(value)}
    table = {}
    for variant in plan.variants:
        ours = [training for training in plan.trainings if training.variant == variant.name]
        tuned = [training for training in ours if training.size is not None]
        pretrained = [times.get(training, math.nan) for training in ours if training.size is None]
        own_times = [times[training] for training in tuned if training in times]
        table[variant.name] = {
            "pretrainings": len(pretrained),
            "pretraining_s": max(pretrained, default=0.0),
            "fine_tunings": len(tuned),
            "fine_tuning_s": sum(own_times) / len(own_times) if own_times else math.nan,
            "left": sum(training in left for training in ours),
        }
    seconds_left = sum(times.get(training, 0.0) for training in left) / jobs
    return {
        **{"variants": table, "jobs": jobs},
        **{"seconds_left": seconds_left, "time_left": duration_text(seconds_left)},
    }
