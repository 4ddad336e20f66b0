"""The one way in which every downstream task is trained, saved and scored."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from biopart.files import write_json
from biopart.run import Run, one_process
from biopart.train import Row, Training, fit


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


def run_task(
    task: Task,
    run: Run,
    fabric: Fabric,
    *,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> None:
    """Train a task in a run's folder, write model.safetensors, score it and write result.json.

    Parameters
    ----------
    task : Task
        What to train.
    run : Run
        The folder, which no other process may work in.
    fabric : Fabric
        Device and precision.
    dry_run : bool
        Leave the scores out.
    report : callable
        Gets every logged row.
    """
    started = time.perf_counter()
    training = task.training(fabric)
    run.path.mkdir(parents=True, exist_ok=True)

    def log(row: Row) -> None:
        run.log(row)
        report(row)

    with one_process(run):
        task.begin(run)
        if task.resumable:
            rows = fit(training, fabric, run, report)
        else:
            rows = fit(training, fabric, None, log)
        task.finish(fabric)
        task.save(run.model)
        if dry_run:
            return
        steps = {"steps": rows[-1]["step"]} if rows else {}
        result = {**steps, **task.score(run, fabric), "seconds": time.perf_counter() - started}
        write_json(run.path / "result.json", result)
