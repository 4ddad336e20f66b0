"""Train a detector on scenes and score it with COCO's evaluation."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from biopart.compute import open_fabric
from biopart.evaluation.detection import check_installed
from biopart.experiment import stored_recipe
from biopart.recipe import Recipe
from biopart.run import Run, new_run
from biopart.tasks.detect import Detection
from biopart.tasks.runner import run_task
from biopart.train import Row, check_loggers, logging_to


def detect(
    recipe: Recipe,
    *,
    out: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Train a detector by the recipe's ``detect`` section and score it, once, on its test scenes.

    Parameters
    ----------
    recipe : Recipe
        ``encoder`` is the trunk, ``detect`` the rest; a resumed run uses its own.
    out : Path, optional
        The run folder; ``runs/<name>/<time>`` by default.
    resume : bool
        Continue ``out`` from its last checkpoint.
    dry_run : bool
        One step on one batch, in a temporary folder.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        With model.safetensors and result.json.

    Raises
    ------
    FileNotFoundError
        If annotations, images or weights are missing.
    ValueError
        If faster-coco-eval is not installed, weights do not fit, or the encoder is not of images.
    """
    check_installed()
    if resume:
        if out is None:
            raise ValueError("--resume continues a run; give its folder with --out")
        recipe = stored_recipe(Run(out), kind="detection")
    check_loggers(recipe)
    if dry_run:
        unlogged = recipe.compute.model_copy(update={"loggers": []})
        short = recipe.detect.model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={"detect": short, "compute": unlogged})
    task, fabric = Detection(recipe, resumed=resume), open_fabric(recipe.compute)
    with tempfile.TemporaryDirectory() as folder:
        if dry_run:
            run = Run(Path(folder))
        else:
            run = Run(out) if resume and out is not None else new_run(recipe.name, out)
        with logging_to(recipe, run, report) as log:
            run_task(task, run, fabric, dry_run=dry_run, report=log)
    return run
