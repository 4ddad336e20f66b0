"""Calibration error of probabilities, and the temperature that corrects it."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Return the temperature with the best likelihood of held-out labels.

    Logits are divided by it (Guo et al. 2017, arXiv 1706.04599); the loss is cross-entropy.

    Parameters
    ----------
    logits : (W, classes)
        Of windows outside the training.
    truth : (W,)
        Classes; -1 is ignored.

    Returns
    -------
    float
        From 0.05 to 20; above 1 if the model was overconfident. 1 without any label.

    Examples
    --------
    >>> sure = np.float32([[4, 0], [4, 0], [4, 0], [0, 4]])  # three of four are correct
    >>> round(fit_temperature(sure, np.array([0, 0, 1, 1])), 2)  # 4 / log 3
    3.64
    """
    known = truth >= 0
    if not known.any():
        return 1.0
    given, classes = logits[known].astype(np.float64), truth[known]
    rows = np.arange(len(classes))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(given / np.exp(log_temperature), axis=1)[rows, classes].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def calibration_error(
    probability: NDArray[np.floating], truth: NDArray[np.int64], bins: int = 15
) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy over bins.

    Parameters
    ----------
    probability : (W, classes)
        Rows sum to 1.
    truth : (W,)
        Classes; -1 is ignored.
    bins : int
        Number of bins of equal width over the largest probability.

    Examples
    --------
    >>> calibration_error(np.array([[0.9, 0.1]] * 4), np.array([0, 0, 1, -1]))  # |0.9 - 2 / 3|
    0.2333...
    """
    known = truth >= 0
    if not known.any():
        return float("nan")
    sure = probability[known].max(axis=1)
    right = probability[known].argmax(axis=1) == truth[known]
    place = np.minimum((sure * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, sure - right, minlength=bins)
    return float(np.abs(gap).sum() / count.sum())
