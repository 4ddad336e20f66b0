"""What a fine-tuning says of persons that it has not seen: scores, predictions, whom it saw."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from biopart.data import Source
from biopart.evaluation.calibration import calibration_error
from biopart.evaluation.metrics import confusion_of, kappa_of
from biopart.experiment import Plan
from biopart.files import write_json, write_text
from biopart.nn.weights import save_tensors
from biopart.recipe import Recipe
from biopart.run import Run, origins


def make_folder(target: Run, recipe: Recipe) -> None:
    """Write the settings of a fine-tuning into its folder, without what an earlier one left."""
    for stale in ("metrics.jsonl", "result.json", "predictions.safetensors", "mlflow.json"):
        (target.path / stale).unlink(missing_ok=True)
    if (target.path / "tensorboard").is_dir():
        shutil.rmtree(target.path / "tensorboard")
    write_text(target.path / "finetune.yaml", recipe.to_yaml())


def write_results(
    plan: Plan,
    target: Run,
    test: Source,
    logits: NDArray[np.float32],
    *,
    chosen: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what a fine-tuning predicts of the test items and where it comes from; score it.

    Parameters
    ----------
    plan : Plan
        What was done.
    target : Run
        Its folder.
    test : Source
        The test items in order.
    logits : float32 (W, classes)
        Of them.
    chosen : dict
        What every auto chose.

    Returns
    -------
    dict
        Scores, who was trained on, and whether the recordings are simulated.
    """
    experiment, kind = plan.experiment, test.kind
    save_predictions(target.path / "predictions.safetensors", test, logits)
    provenance = {
        **origins(),
        "chosen": dict(chosen),
        "seed": plan.seed,
        **kind.named("seen", plan.learnt_from),
        "store_sha256": experiment.cohort.fingerprint,
    }
    write_json(target.path / "provenance.json", provenance)
    return {
        **kind.named("test", experiment.split.test),
        **test.score(logits.argmax(1)),
        **top_accuracy(logits, test.labels),
        **kind.named("train", plan.persons),
        "simulated": experiment.simulated,
    }


def top_accuracy(
    logits: NDArray[np.float32], truth: NDArray[np.int64], best: int = 5
) -> dict[str, float]:
    """Return the share of items whose class is among the best five, of more than five classes.

    Examples
    --------
    >>> logits = np.eye(6, dtype=np.float32)[[0, 0]]
    >>> logits[1, 5] = -1
    >>> top_accuracy(logits, np.array([1, 5]))
    {'top5_accuracy': 0.5}
    """
    if logits.shape[1] <= best:
        return {}
    order = np.argsort(-logits, axis=1, kind="stable")[:, :best]
    return {"top5_accuracy": float((order == truth[:, None]).any(1).mean())}


def save_predictions(path: Path, test: Source, logits: NDArray[np.float32]) -> None:
    """Write what was predicted for each test window or image, in the source's order.

    Tensors ``record`` and ``epoch`` (``image`` of a pack of images) (W,), ``truth`` and
    ``predicted`` (W,), ``probability`` (W, classes); the metadata name the records that ``record``
    numbers, and the classes.
    """
    tensor = torch.from_numpy(logits)
    tensors = {
        "record": torch.from_numpy(test.record).int(),
        test.kind.place: torch.from_numpy(test.place).int(),
        "truth": torch.from_numpy(test.labels).short(),
        "predicted": tensor.argmax(1).short(),
        "probability": tensor.softmax(1),
    }
    about = {"records": list(test.cohort.records), "classes": list(test.cohort.label_names)}
    save_tensors(path, tensors, about)


def agreement(truth: NDArray[np.int64], logits: NDArray[np.float32]) -> dict[str, float]:
    """Return pooled kappa (0 where it is undefined) and accuracy of logits (W, classes)."""
    confusion = confusion_of(truth, logits.argmax(1), logits.shape[1])
    kappa = float(kappa_of(confusion))
    accuracy = float(np.trace(confusion) / confusion.sum())
    return {"kappa": kappa if np.isfinite(kappa) else 0.0, "accuracy": accuracy}


def calibration(
    logits: NDArray[np.float32], truth: NDArray[np.int64], temperature: float
) -> dict[str, float]:
    """Return the temperature and the expected calibration error without it and with it."""
    errors = [calibration_error(softmax(logits / t, axis=1), truth) for t in (1.0, temperature)]
    return {
        "temperature": temperature,
        "calibration_error": errors[1],
        "calibration_error_uncalibrated": errors[0],
    }
