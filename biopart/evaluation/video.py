"""Scores of objects in videos: region similarity J and boundary accuracy F (DAVIS)."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

TOLERANCE = 0.008  # of the diagonal: how far a boundary may lie from the true one


def region_similarity(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return J, the intersection over union of two masks; 1 where both are empty.

    Perazzi et al., CVPR 2016.
    """
    union = int((truth | predicted).sum())
    return int((truth & predicted).sum()) / union if union else 1.0


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask (y, x) that differ from the next one right, below or diagonally.

    As the benchmark's ``seg2bmap`` at the mask's own size.
    """
    east, south, corner = (np.zeros_like(mask) for _ in range(3))
    east[:, :-1], south[:-1] = mask[:, 1:], mask[1:]
    corner[:-1, :-1] = mask[1:, 1:]
    found = (mask ^ east) | (mask ^ south) | (mask ^ corner)
    found[-1] = mask[-1] ^ east[-1]
    found[:, -1] = mask[:, -1] ^ south[:, -1]
    found[-1, -1] = False
    return found


def boundary_accuracy(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], *, tolerance: float = TOLERANCE
) -> float:
    """Return F, the F-measure of two boundaries that may lie a little apart.

    Parameters
    ----------
    truth, predicted : bool (y, x)
        Masks of an object.
    tolerance : float
        Share of the diagonal; rounded up to whole pixels.

    Returns
    -------
    float
        1 where neither mask has a boundary, 0 where only one has.
    """
    true, guess = boundary(truth), boundary(predicted)
    if not true.any() or not guess.any():
        return float(not true.any() and not guess.any())
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    steps = np.arange(-radius, radius + 1)
    disk = steps[:, None] ** 2 + steps[None] ** 2 <= radius**2
    precision = (guess & binary_dilation(true, disk)).sum() / guess.sum()
    recall = (true & binary_dilation(guess, disk)).sum() / true.sum()
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def video_scores(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], objects: int
) -> NDArray[np.float64]:
    """Return J and F of each object, means over the frames between the first and the last.

    As in the semi-supervised task of DAVIS 2017 (Pont-Tuset et al., arXiv 1704.00675): the first
    frame is given, and the last one is not scored.

    Parameters
    ----------
    truth, predicted : int (frames, y, x)
        0 = background, 1 to ``objects``; 255 in ``truth`` counts as background.
    objects : int
        Number of objects.

    Returns
    -------
    float64 (objects, 2)
        J and F.
    """
    scores = np.zeros((objects, 2))
    inner = range(1, len(truth) - 1)
    for number in range(objects):
        rows = [
            (
                region_similarity(truth[k] == number + 1, predicted[k] == number + 1),
                boundary_accuracy(truth[k] == number + 1, predicted[k] == number + 1),
            )
            for k in inner
        ]
        scores[number] = np.mean(rows, axis=0)
    return scores
