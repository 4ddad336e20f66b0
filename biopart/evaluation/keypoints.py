"""Scores of keypoints: COCO's object keypoint similarity, and the share of correct ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.detection import coco_statistics

STATISTICS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75")
NEAR = 0.1  # of the longer side of a box: PCK@0.1


def score_keypoints(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Score keypoints of persons by COCO's protocol (faster-coco-eval), with its 17 sigmas.

    Parameters
    ----------
    truth : mapping
        In COCO's format; annotations have ``keypoints``, ``num_keypoints``, ``area``, ``bbox``.
    detections : sequence of mapping
        ``image_id``, ``category_id``, ``keypoints`` (x, y and 1, 17 times) and ``score``.

    Returns
    -------
    dict
        AP (mean over OKS 0.50 to 0.95), AP50, AP75, of medium and large persons, and average
        recalls; None where there are none. Without any detection all are 0.
    """
    if not detections:
        return dict.fromkeys(STATISTICS, 0.0)
    return dict(zip(STATISTICS, coco_statistics(truth, detections, "keypoints"), strict=False))


def correct_keypoints(
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    shown: NDArray[np.bool_],
    sides: NDArray[np.floating],
    *,
    near: float = NEAR,
) -> NDArray[np.float64]:
    """Count keypoints nearer to the truth than a share of the longer side of the object's box.

    Parameters
    ----------
    truth, predicted : float (objects, P, 2)
        Places in pixels.
    shown : bool (objects, P)
        Which are labelled.
    sides : float (objects,)
        Longer side of each box in pixels.
    near : float
        The share (PCK, Yang and Ramanan 2013).

    Returns
    -------
    float64 (objects, 2)
        Correct and labelled keypoints.

    Examples
    --------
    >>> truth = np.array([[[0.0, 0.0], [5.0, 5.0]]])
    >>> shown = np.array([[True, True]])
    >>> correct_keypoints(truth, truth + [0.0, 2.0], shown, np.array([10.0])).tolist()
    [[0.0, 2.0]]
    """
    distance = np.hypot(*np.moveaxis(predicted - truth, -1, 0))
    right = (distance <= near * sides[:, None]) & shown
    return np.stack([right.sum(1), shown.sum(1)], 1).astype(np.float64)
