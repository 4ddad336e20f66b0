"""Scores of a class for every pixel or sample: mean IoU, mean accuracy, accuracy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1  # a place that is not scored


def dense_counts(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count the places of each class that are right, true and predicted, (3, classes).

    Parameters
    ----------
    truth, predicted : int, equal shapes
        Class of every place; a truth of -1 is unknown and left out.
    n_classes : int
        Number of classes.

    Raises
    ------
    ValueError
        If shapes differ, or a class lies outside.

    Examples
    --------
    >>> dense_counts(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), 2).tolist()
    [[1, 1], [2, 1], [1, 2]]
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {predicted.shape}")
    known = truth != UNKNOWN
    true, guess = truth[known].ravel(), predicted[known].ravel()
    for codes in (true, guess):
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < n_classes:
            wrong = int(codes.min()) if codes.min() < 0 else int(codes.max())
            raise ValueError(
                f"class {wrong} is not among the {n_classes} classes; use {UNKNOWN} for unknown"
            )
    groups = (true[true == guess], true, guess)
    return np.stack([np.bincount(codes, minlength=n_classes) for codes in groups])


def dense_scores(counts: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Score counts (..., 3, classes), as of ``dense_counts`` or sums of them.

    Returns
    -------
    dict
        ``miou``, ``macc`` and ``aacc`` (...): means of IoU and accuracy over the classes that
        occur, in truth or prediction for the IoU and in truth for the accuracy, and the share of
        right places, as in ADE20K's benchmark (Zhou et al., IJCV 2019); NaN without any place.

    Examples
    --------
    >>> scores = dense_scores(np.array([[3, 4], [4, 4], [3, 5]]))
    >>> {name: round(float(value), 4) for name, value in scores.items()}
    {'miou': 0.775, 'macc': 0.875, 'aacc': 0.875}
    """
    right, true, predicted = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
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


def class_ious(counts: NDArray[np.number], names: Sequence[str]) -> dict[str, float]:
    """Return the IoU of each class that occurs, from counts (3, classes)."""
    right, true, predicted = np.asarray(counts, np.float64)
    union = true + predicted - right
    return {name: float(right[k] / union[k]) for k, name in enumerate(names) if union[k] > 0}
