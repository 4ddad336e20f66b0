"""What a fine-tuning says of persons that it has not seen: scores, predictions, whom it saw."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from biopart.data import Source
from biopart.evaluation.calibration import calibration_error
from biopart.evaluation.images import score_images
from biopart.evaluation.metrics import kappa_of, score
from biopart.files import write_json, write_text
from biopart.nn.weights import save_tensors
from biopart.recipe import Recipe
from biopart.run import Run, origins
from biopart.train import Row
from biopart.verbs.experiment import Experiment
from biopart.verbs.plan import Plan


def begin(target: Run, recipe: Recipe, report: Callable[[Row], None]) -> Callable[[Row], None]:
    """Make the folder of a fine-tuning, without what an earlier one left; return its log."""
    target.path.mkdir(parents=True, exist_ok=True)
    for stale in ("metrics.jsonl", "result.json", "predictions.safetensors"):
        (target.path / stale).unlink(missing_ok=True)
    write_text(target.path / "finetune.yaml", recipe.to_yaml())

    def watch(row: Row) -> None:
        target.log(row)
        report(row)

    return watch


def finish(
    plan: Plan,
    target: Run,
    answer: tuple[Source, NDArray[np.float32]],
    *,
    chosen: Mapping[str, Any],
    said: Mapping[str, Any],
) -> None:
    """Write what a fine-tuning predicts of the test items, its scores and where it comes from.

    Parameters
    ----------
    plan : Plan
        What was done.
    target : Run
        Its folder.
    answer : Source and float32 (W, classes)
        The test items in order and their logits.
    chosen : dict
        What every auto chose.
    said : dict
        What else belongs into result.json.
    """
    test, logits = answer
    experiment = plan.experiment
    save_predictions(target.path / "predictions.safetensors", test, logits)
    about = {"chosen": dict(chosen), "seed": plan.seed, **plan.met.about()}
    about |= {"store_sha256": experiment.cohort.fingerprint}
    result = scored(test, logits.argmax(1)) | who(experiment, plan.persons) | dict(said)
    write_json(target.path / "provenance.json", {**origins(), **about})
    write_json(target.path / "result.json", result | {"simulated": experiment.simulated})


def scored(source: Source, predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Score predictions of a source; count the windows that touch bad stretches.

    Images are scored as such: none is like another because of a person.
    """
    names = source.cohort.label_names
    if source.cohort.holds_images:
        return score_images(source.labels, predicted, names)
    result = score(source.labels, predicted, source.persons, names)
    return result | {
        "n_windows_bad": int(source.bad.sum()),
        "test_set_lacks": sorted(set(names) - set(result["classes"])),
    }


def who(experiment: Experiment, persons: Sequence[str]) -> dict[str, Any]:
    """Say who was trained on; of images, which may be many, how many and a hash of the names."""
    if experiment.cohort.holds_images:
        names = "\n".join(sorted(persons)).encode()
        return {
            "n_train_images": len(persons),
            "train_images_sha256": hashlib.sha256(names).hexdigest(),
        }
    return {
        "n_train_persons": len(persons),
        "train_persons": list(persons),
        "test_persons": list(experiment.split.test),
    }


def save_predictions(path: Path, test: Source, logits: NDArray[np.float32]) -> None:
    """Write what was predicted for each test window or image, in the source's order.

    Tensors ``record`` and ``epoch`` (``image`` of a pack of images) (W,), ``truth`` and
    ``predicted`` (W,), ``probability`` (W, classes); the metadata name the records that ``record``
    numbers, and the classes.
    """
    odds = torch.from_numpy(logits)
    tensors = {
        "record": torch.from_numpy(test.record).int(),
        "image" if test.cohort.holds_images else "epoch": torch.from_numpy(test.place).int(),
        "truth": torch.from_numpy(test.labels).short(),
        "predicted": odds.argmax(1).short(),
        "probability": odds.softmax(1),
    }
    about = {"records": list(test.cohort.records), "classes": list(test.cohort.label_names)}
    save_tensors(path, tensors, about)


def agreement(truth: NDArray[np.int64], logits: NDArray[np.float32]) -> dict[str, float]:
    """Return pooled kappa (0 where it is undefined) and accuracy of logits (W, classes)."""
    confusion = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
    np.add.at(confusion, (truth, logits.argmax(1)), 1)
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
