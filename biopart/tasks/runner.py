"""The one way in which every downstream task is trained, saved and scored."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from biopart.files import write_json
from biopart.run import Run, one_process
from biopart.train import Ranks, Row, Stop, Training, fit, none_lost


class Task(ABC):
    """What is trained on what, and how it is scored.

    Attributes
    ----------
    resumable : bool
        Whether a training goes on from the checkpoint in its folder.
    """

    resumable = False

    @abstractmethod
    def begin(self, run: Run) -> None:
        """Make the folder ready: settings, provenance, nothing of an earlier training."""

    @abstractmethod
    def training(self, fabric: Fabric) -> Training:
        """Return the objective, sources and settings; called once."""

    @abstractmethod
    def finish(self, fabric: Fabric) -> None:
        """Do what the trained weights need before they are saved, such as calibration."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the weights."""

    @abstractmethod
    def score(self, run: Run, fabric: Fabric) -> dict[str, Any]:
        """Score the test items, once; write what else belongs into the folder."""


@dataclass(frozen=True)
class Trained:
    """A task that was trained and saved in a run's folder, and not yet scored."""

    task: Task
    run: Run
    fabric: Fabric
    rows: list[Row]
    seconds: float

    @property
    def validation(self) -> float:
        """Best value of what chose the weights; minus infinity where nothing did."""
        scores = [row.get("validation/kappa") for row in self.rows]
        return max((score for score in scores if score is not None), default=-math.inf)

    def score(self, **more: Any) -> None:
        """Score the test items and write result.json, with ``more`` in it.

        The first process does so; the others wait, and raise what it raises.
        """
        started = time.perf_counter()
        steps = {"steps": self.rows[-1]["step"]} if self.rows else {}

        def scored() -> None:
            with one_process(self.run):
                result = {**steps, **self.task.score(self.run, self.fabric), **more}
                result["seconds"] = self.seconds + time.perf_counter() - started
                write_json(self.run.path / "result.json", result)

        ranks = Ranks(self.fabric)
        with none_lost(ranks, "the model is kept; repeat the command"):
            ranks.from_first(scored)


def train_task(
    task: Task,
    run: Run,
    fabric: Fabric,
    report: Callable[[Row], None] = lambda row: None,
    *,
    stop: Stop | None = None,
) -> Trained:
    """Train a task in a run's folder and write model.safetensors.

    Parameters
    ----------
    task : Task
        What to train.
    run : Run
        The folder, which no other process may work in but those that share the training.
    fabric : Fabric
        Device, precision and processes; the first one writes.
    report : callable
        Gets every logged row.
    stop : Stop, optional
        Ends the training of a resumable task with a checkpoint and ``Stopped``.
    """
    started = time.perf_counter()
    training, ranks = task.training(fabric), Ranks(fabric)

    def log(row: Row) -> None:
        run.log(row)
        report(row)

    def begun() -> None:
        run.path.mkdir(parents=True, exist_ok=True)
        task.begin(run)

    def finished() -> None:
        task.finish(fabric)
        task.save(run.model)

    again = "repeat the command" + (" with --resume" if task.resumable else "")
    with none_lost(ranks, again), ExitStack() as stack:
        ranks.enter(stack, lambda: one_process(run))
        ranks.from_first(begun)
        if task.resumable:
            rows = fit(training, fabric, run, report, stop=stop)
        else:
            rows = fit(training, fabric, None, log)
        ranks.from_first(finished)
    return Trained(task, run, fabric, rows, time.perf_counter() - started)


def run_task(
    task: Task,
    run: Run,
    fabric: Fabric,
    report: Callable[[Row], None] = lambda row: None,
    *,
    dry_run: bool = False,
    stop: Stop | None = None,
) -> None:
    """Train a task, save it, score it and write result.json; a dry run leaves the scores out."""
    trained = train_task(task, run, fabric, report, stop=stop)
    if not dry_run:
        trained.score()
