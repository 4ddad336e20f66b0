"""Train a detector on scenes and score it with COCO's evaluation."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from biopart.evaluation.detection import check_installed
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.tasks.detect import Detection
from biopart.tasks.own import Own, run_own
from biopart.train import Row, Stop


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
    own = Own("detect", out, resume=resume, dry_run=dry_run, report=report, stop=stop)

    def fingerprint(task: Detection) -> str:
        scenes = [scene.path.name for coco in (task.train, task.test) for scene in coco.scenes]
        return sha256(repr(scenes).encode()).hexdigest()

    def build(given: Recipe) -> Detection:
        return Detection(given, resumed=resume)

    return run_own(own, recipe, build, fingerprint=fingerprint, processes=processes)
