"""Train a detector on scenes and score it with COCO's evaluation."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from biopart.compute import open_fabric
from biopart.evaluation.detection import check_installed
from biopart.experiment import stored_recipe
from biopart.recipe import Recipe
from biopart.run import Run, find_run, new_run
from biopart.tasks.detect import Detection
from biopart.tasks.runner import run_task
from biopart.train import Ranks, Row, Stop, check_loggers, check_processes, logging_to


def detect(
    recipe: Recipe,
    *,
    out: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
    processes: Mapping[str, int] | None = None,
    stop: Stop | None = None,
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
    processes : mapping, optional
        ``devices`` and ``nodes`` other than those of a run that is resumed.
    stop : Stop, optional
        Ends the training with a checkpoint and ``Stopped`` when it is asked to.

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
    resumed = None
    if resume:
        if out is None:
            raise ValueError("--resume continues a run; give its folder with --out")
        resumed = find_run(out)
        recipe = stored_recipe(resumed, kind="detection")
        compute = recipe.compute.model_copy(update=dict(processes or {}))
        recipe = recipe.model_copy(update={"compute": compute})
    check_loggers(recipe)
    if dry_run:
        unlogged = recipe.compute.model_copy(update={"loggers": []})
        short = recipe.detect.model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={"detect": short, "compute": unlogged})
    task, fabric = Detection(recipe, resumed=resume), open_fabric(recipe.compute, share=True)
    ranks = Ranks(fabric)
    scenes = [scene.path.name for coco in (task.train, task.test) for scene in coco.scenes]
    check_processes(fabric, recipe, "detect.batch", sha256(repr(scenes).encode()).hexdigest())
    with ranks.temporary() as folder:

        def begun() -> Run:
            if dry_run:
                return Run(folder)
            return new_run(recipe.name, out) if resumed is None else resumed

        run = ranks.from_first(begun)
        with ExitStack() as stack:
            log = ranks.enter(stack, lambda: logging_to(recipe, run, report))
            run_task(task, run, fabric, log or report, dry_run=dry_run, stop=stop)
    return run
