"""Scores of a class for every pixel or sample: mean IoU, mean accuracy, accuracy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.metrics import confusion_of

UNKNOWN = -1  # a place that is not scored


def dense_confusion(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count places by true and predicted class, (classes, classes); unknown places are left out.

    Parameters
    ----------
    truth, predicted : int, equal shapes
        Class of every place; a truth of -1 is unknown.
    n_classes : int
        Number of classes.

    Raises
    ------
    ValueError
        If shapes differ, or a class lies outside.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {predicted.shape}")
    known = truth != UNKNOWN
    wrong = set(np.unique(truth[known]).tolist()) - set(range(n_classes))
    wrong |= set(np.unique(predicted).tolist()) - set(range(n_classes))
    if wrong:
        raise ValueError(
            f"class {min(wrong)} is not among the {n_classes} classes; use {UNKNOWN} for unknown"
        )
    return confusion_of(truth[known], predicted[known], n_classes)


def dense_scores(confusion: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Score confusions (..., classes, classes), rows true.

    Returns
    -------
    dict
        ``miou``, ``macc`` and ``aacc`` (...): means of IoU and accuracy over the classes that
        occur, in truth or prediction for the IoU and in truth for the accuracy, and the share of
        right places, as in ADE20K's benchmark (Zhou et al., IJCV 2019); NaN without any place.

    Examples
    --------
    >>> scores = dense_scores(np.array([[3, 1], [0, 4]]))
    >>> {name: round(float(value), 4) for name, value in scores.items()}
    {'miou': 0.775, 'macc': 0.875, 'aacc': 0.875}
    """
    counts = np.asarray(confusion, np.float64)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(-1), counts.sum(-2)
    total = true.sum(-1)
    return {
        "miou": _mean_of(right, true + predicted - right),
        "macc": _mean_of(right, true),
        "aacc": np.where(total > 0, right.sum(-1) / np.maximum(total, 1), np.nan),
    }


def _mean_of(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of part / whole over classes where whole is not 0, NaN without any."""
    present = whole > 0
    ratio = np.where(present, part / np.where(present, whole, 1), 0)
    count = present.sum(-1)
    mean: NDArray[np.float64] = np.where(count > 0, ratio.sum(-1) / np.maximum(count, 1), np.nan)
    return mean


def class_ious(confusion: NDArray[np.number], names: Sequence[str]) -> dict[str, float]:
    """Return the IoU of each class that occurs, from one confusion (classes, classes)."""
    counts = np.asarray(confusion, np.float64)
    right = np.diagonal(counts)
    union = counts.sum(0) + counts.sum(1) - right
    return {name: float(right[k] / union[k]) for k, name in enumerate(names) if union[k] > 0}
