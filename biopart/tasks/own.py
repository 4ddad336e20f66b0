"""Run a task that has a run folder and a section of the recipe of its own: detect, segment."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from lightning_fabric import Fabric

from biopart.compute import open_fabric
from biopart.experiment import stored_recipe
from biopart.files import write_json, write_text
from biopart.recipe import Recipe
from biopart.run import Run, find_run, new_run, origins
from biopart.tasks.runner import Task, run_task
from biopart.train import Ranks, Row, Stop, check_loggers, check_processes, logging_to

Built = TypeVar("Built", bound=Task)
KINDS: dict[str, Literal["detection", "segmentation"]] = {
    "detect": "detection",
    "segment": "segmentation",
}


@dataclass
class OwnTask(Task):
    """A task that has a run folder of its own, and goes on from its checkpoint.

    Attributes
    ----------
    recipe : Recipe
        With the section of the task.
    resumed : bool
        Whether the folder has the settings and provenance of this training already.
    provenance : dict
        What ``training`` notes of itself.
    """

    recipe: Recipe
    resumed: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)
    resumable = True

    def begin(self, run: Run) -> None:
        """Write recipe and provenance, if they are not there from before."""
        if not self.resumed:
            write_json(run.path / "provenance.json", {**origins(), **self.provenance})
            write_text(run.path / "recipe.yaml", self.recipe.to_yaml())

    def finish(self, fabric: Fabric) -> None:
        """Do nothing: scores at every place are not calibrated."""


@dataclass(frozen=True)
class Own:
    """How such a task is run.

    Attributes
    ----------
    section : "detect" or "segment"
        Of the recipe.
    out : Path, optional
        The run folder; ``runs/<name>/<time>`` by default.
    resume : bool
        Continue ``out`` from its last checkpoint.
    dry_run : bool
        One step on one batch, in a temporary folder.
    report : callable
        Gets every logged row.
    stop : Stop, optional
        Ends the training with a checkpoint and ``Stopped`` when it is asked to.
    """

    section: Literal["detect", "segment"]
    out: Path | None = None
    resume: bool = False
    dry_run: bool = False
    report: Callable[[Row], None] = lambda row: None
    stop: Stop | None = None


def run_own(
    own: Own,
    recipe: Recipe,
    build: Callable[[Recipe], Built],
    *,
    fingerprint: Callable[[Built], str],
    processes: Mapping[str, int] | None = None,
) -> Run:
    """Train a task in a run folder, or go on with one, and score it once at the end.

    Parameters
    ----------
    own : Own
        Section, folder and so on.
    recipe : Recipe
        A resumed run uses its own.
    build : callable
        Recipe -> task.
    fingerprint : callable
        Task -> text that is the same on all processes that share it.
    processes : mapping, optional
        ``devices`` and ``nodes`` other than those of a run that is resumed.
    """
    resumed = None
    if own.resume:
        if own.out is None:
            raise ValueError("--resume continues a run; give its folder with --out")
        resumed = find_run(own.out)
        recipe = stored_recipe(resumed, kind=KINDS[own.section])
        compute = recipe.compute.model_copy(update=dict(processes or {}))
        recipe = recipe.model_copy(update={"compute": compute})
    check_loggers(recipe)
    if own.dry_run:
        unlogged = recipe.compute.model_copy(update={"loggers": []})
        short = getattr(recipe, own.section).model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={own.section: short, "compute": unlogged})
    task, fabric = build(recipe), open_fabric(recipe.compute, share=True)
    ranks = Ranks(fabric)
    check_processes(fabric, recipe, f"{own.section}.batch", fingerprint(task))
    with ranks.temporary() as folder:

        def begun() -> Run:
            if own.dry_run:
                return Run(folder)
            return new_run(recipe.name, own.out) if resumed is None else resumed

        run = ranks.from_first(begun)
        with ExitStack() as stack:
            log = ranks.enter(stack, lambda: logging_to(recipe, run, own.report))
            run_task(task, run, fabric, log or own.report, dry_run=own.dry_run, stop=own.stop)
    return run
