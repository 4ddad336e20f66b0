"""Scores of classified images, where each image is an independent unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.metrics import (
    check_classes,
    check_lengths,
    class_scores,
    confusion_of,
    kappa_of,
)

BLOCKS = 40  # of test images, at most


def score_images(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    label_names: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Score predicted classes of images, each an independent unit.

    Parameters
    ----------
    truth, predicted
        Class indices (W,); images whose truth is -1 are ignored.
    label_names
        Names of the L classes, by index.
    seed, resamples
        Of the bootstrap over images.

    Returns
    -------
    dict
        Values ready for JSON, as in `score` but without those of persons; `accuracy_ci95` and
        `kappa_ci95` resample images; `n_images` with a known truth; and `confusion_by_block`: the
        images divided into at most 40 blocks, which have a kappa and can be paired like persons.

    Raises
    ------
    ValueError
        If lengths differ, an index has no name, or the truth has fewer than two classes.

    Examples
    --------
    >>> found = score_images(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), ["cat", "dog"])
    >>> found["kappa"], found["accuracy"], found["n_images"]
    (0.5, 0.75, 4)
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    check_lengths(truth=truth, predicted=predicted)
    known = truth >= 0
    check_classes(truth[known], predicted[known], label_names)
    counts = confusion_of(truth[known], predicted[known], len(label_names))
    # Drawing images with replacement means drawing cells of the confusion matrix by their shares.
    total = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(total, counts.ravel() / total, size=resamples)
    again = drawn.reshape(resamples, *counts.shape)
    kappas, accuracies = kappa_of(again), np.trace(again, axis1=1, axis2=2) / total
    ends = [2.5, 97.5]
    return {
        "kappa": float(kappa_of(counts)),
        "kappa_ci95": np.percentile(kappas[np.isfinite(kappas)], ends).tolist(),
        **class_scores(truth[known], predicted[known], label_names),
        "accuracy_ci95": np.percentile(accuracies, ends).tolist(),
        "confusion": counts.tolist(),
        "confusion_by_block": _by_block(truth[known], predicted[known], len(label_names)),
        "n_images": total,
    }


def _by_block(
    truth: NDArray[Any], predicted: NDArray[Any], n_classes: int
) -> dict[str, list[list[int]]]:
    """Divide images into blocks, class by class; the division depends only on the truth."""
    n_blocks = int(np.clip(len(truth) // (2 * n_classes), 1, BLOCKS))
    order = np.random.default_rng(0).permutation(len(truth))
    order = order[np.argsort(truth[order], kind="stable")]
    block = np.empty(len(truth), dtype=np.int64)
    block[order] = np.arange(len(truth)) % n_blocks
    return {
        f"block {number:02d}": confusion_of(
            truth[block == number], predicted[block == number], n_classes
        ).tolist()
        for number in range(n_blocks)
    }
