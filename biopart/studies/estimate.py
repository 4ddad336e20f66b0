"""How long a study will take, from a few measured steps of each of its trainings."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from biopart.compute import open_fabric
from biopart.experiment.experiment import Experiment, open_experiment
from biopart.studies.cells import FAULTS, Board, Cell, Kind, Plan
from biopart.tasks import classify as tuning
from biopart.train import Training, fit, predict
from biopart.verbs.pretrain import make_training

STEPS = 5
ENOUGH_S = 2.0


def estimate(plan: Plan, say: Callable[[str], None] = lambda line: None) -> dict[Cell, float]:
    """Return the seconds that each cell of a study will take on this machine; NaN = not known.

    Steps of every variant are timed; looks at validation persons and predictions for the test
    are reckoned from the time of one batch. What a probe takes besides its features is not in it.

    Parameters
    ----------
    plan : Plan
        The study.
    say : callable
        Gets a line before each measurement.
    """
    seconds: dict[Cell, float] = {}
    for variant in plan.variants:
        say(f"timing {variant.name}")
        experiment = open_experiment(variant.recipe)
        pretraining, speed = 0.0, Speed(math.nan, math.nan, {})
        try:
            speed = _tuning(experiment, plan)
            pretraining = _pretraining(experiment) if variant.kind == "pretrained" else 0.0
        except FAULTS as error:  # its cells will say so themselves; the others go on
            say(f"{variant.name} cannot be timed: {' '.join(str(error).split())}")
            pretraining = math.nan
        for cell in (cell for cell in plan.cells if cell.variant == variant.name):
            if cell.size is None:
                seconds[cell] = pretraining
            else:
                persons = experiment.split.subset(cell.size, cell.seed)
                seconds[cell] = _cell(experiment, variant.kind, persons, speed)
    return seconds


def _pretraining(experiment: Experiment) -> float:
    """Return the seconds of a pretraining."""
    task, fabric = make_training(experiment, experiment.recipe.compute)
    look = 0.0
    if task.validate is not None:
        begun = time.perf_counter()
        task.validate()
        look = time.perf_counter() - begun
    looks = task.steps / len(task.sampler) / task.settings.validate_every
    return task.steps * step_seconds(task, fabric) + (looks + 1) * look


@dataclass(frozen=True)
class Speed:
    """Seconds of a step of fine-tuning and of predicting a window; windows of each person."""

    step: float
    predicting: float
    windows: Mapping[str, int]

    def count(self, persons: Sequence[str]) -> int:
        """Return the labelled windows of persons."""
        return sum(self.windows.get(person, 0) for person in persons)


def _tuning(experiment: Experiment, plan: Plan) -> Speed:
    """Time a step of fine-tuning and predicting."""
    recipe = experiment.recipe
    persons = experiment.split.subset(min(plan.sizes), min(plan.seeds))
    source = experiment.source(persons, labelled=True)
    fabric = open_fabric(recipe.compute, lambda: experiment.encoder(recipe.finetune.position, 0))
    objective = tuning.build(experiment, source, 0)
    augment = experiment.augment(recipe.finetune.augment, "finetune.augment")
    task = Training(objective, source, recipe.finetune, recipe.data.normalise, 0, augment=augment)
    step = step_seconds(task, fabric)
    head = source.head(256)
    begun = time.perf_counter()
    predict(objective.model, head, fabric, recipe.data.normalise)
    predicting = (time.perf_counter() - begun) / len(head)
    everyone = experiment.cohort.source(experiment.recipe.data.channels, labelled=True)
    return Speed(step, predicting, Counter(everyone.persons))


def step_seconds(task: Training, fabric: Fabric) -> float:
    """Return the seconds of a step: of the first where it is long, else of a few after it."""
    for steps in (1, STEPS):
        short = task.settings.model_copy(update={"steps": steps, "warmup_epochs": 0.0})
        begun = time.perf_counter()
        fit(replace(task, settings=short, validate=None), fabric)
        seconds = (time.perf_counter() - begun) / steps
        if seconds > ENOUGH_S:
            break
    return seconds


def _cell(experiment: Experiment, kind: Kind, persons: Sequence[str], speed: Speed) -> float:
    """Return the seconds of a fine-tuning with its probe, or of a baseline."""
    split, settings = experiment.split, experiment.recipe.finetune
    windows, test = speed.count(persons), speed.count(split.test)
    probing = speed.predicting * (windows + test)
    if kind in ("untrained_mean", "band_powers", "pixels"):
        return probing
    epoch = -(-windows // settings.batch)
    steps = settings.steps or settings.epochs * epoch
    looks = steps / max(epoch, 1) / settings.validate_every + 1
    looking = looks * speed.predicting * speed.count(split.validation)
    tuning_s = steps * speed.step + looking + speed.predicting * test
    return tuning_s + (probing if kind == "pretrained" else 0.0)


def remaining(left: Iterable[Cell], seconds: Mapping[Cell, float], jobs: int) -> float:
    """Return the seconds that cells will take, shared by so many processes; unknown ones none."""
    return known_sum(seconds[cell] for cell in left) / jobs


def known_sum(seconds: Iterable[float]) -> float:
    """Return the sum of the times that are known.

    Examples
    --------
    >>> known_sum([1.0, math.nan, 2.0])
    3.0
    """
    return sum(value for value in seconds if not math.isnan(value))


@dataclass(frozen=True)
class Standing:
    """How far a study is: cells by their state, and the share of its reckoned time."""

    done: int
    failed: int
    cells: int
    share: float


def standing(plan: Plan, board: Board, seconds: Mapping[Cell, float]) -> Standing:
    """Return how far a study is."""
    reasons = [board.reason(plan, cell) is not None for cell in plan.cells]
    closed = [cell for cell in plan.cells if not board.is_open(plan, cell)]
    whole = known_sum(seconds.values())
    share = known_sum(seconds[cell] for cell in closed) / max(whole, 1e-9)
    return Standing(len(closed) - sum(reasons), sum(reasons), len(plan.cells), share)


def spoken(seconds: float) -> str:
    """Say a time as a person would.

    Examples
    --------
    >>> spoken(42.4), spoken(200.0), spoken(9000.0)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def overview(
    plan: Plan, left: Collection[Cell], seconds: Mapping[Cell, float], jobs: int
) -> dict[str, Any]:
    """Return what a study is going to do: cells by variant, and the time that those left need."""
    table = {}
    for variant in plan.variants:
        mine = [cell for cell in plan.cells if cell.variant == variant.name]
        tuned = [seconds[cell] for cell in mine if cell.size is not None]
        table[variant.name] = {
            "pretrainings": sum(cell.size is None for cell in mine),
            "pretraining_s": max((seconds[c] for c in mine if c.size is None), default=0.0),
            "fine_tunings": len(tuned),
            "fine_tuning_s": float(np.mean(tuned)),
            "left": sum(cell in left for cell in mine),
        }
    seconds_left = remaining(left, seconds, jobs)
    times = {"seconds_left": seconds_left, "time_left": spoken(seconds_left)}
    return {"variants": table, "jobs": jobs, **times}
