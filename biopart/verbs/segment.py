"""Train a segmentation, of annotated images or of events in recordings, and score it."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from biopart.experiment import open_experiment
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.tasks.own import Own, run_own
from biopart.tasks.segment import EventSegmentation, ImageSegmentation, Segmentation
from biopart.train import Row, Stop


def segment(
    recipe: Recipe,
    *,
    out: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
    processes: Mapping[str, int] | None = None,
    stop: Stop | None = None,
) -> Run:
    """Train by the recipe's ``segment`` section, and score the test images or persons once.

    Parameters
    ----------
    recipe : Recipe
        ``encoder`` is the trunk, ``segment`` the rest; a resumed run uses its own.
    out, resume, dry_run, report, processes, stop
        As of ``detect``.

    Returns
    -------
    Run
        With model.safetensors and result.json.

    Raises
    ------
    FileNotFoundError
        If a store, annotations, images or weights are missing.
    ValueError
        If weights do not fit or have seen a test person, or the store has no events.
    """
    own = Own("segment", out, resume=resume, dry_run=dry_run, report=report, stop=stop)

    def build(given: Recipe) -> Segmentation:
        if given.segment.card is not None:
            return ImageSegmentation(given, resumed=resume)
        return EventSegmentation(given, resumed=resume, experiment=open_experiment(given))

    return run_own(own, recipe, build, fingerprint=fingerprint, processes=processes)


def fingerprint(task: Segmentation) -> str:
    """Return a hash of what is learnt from."""
    if isinstance(task, EventSegmentation) and task.experiment is not None:
        return task.experiment.cohort.fingerprint
    found = getattr(task.source, "found", None)
    names = [scene.name for scene in found.scenes] if found is not None else []
    return sha256(repr(names).encode()).hexdigest()
