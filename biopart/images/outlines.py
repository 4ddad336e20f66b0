"""Outlines of objects in COCO's formats, by faster-coco-eval."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.detection import check_installed


def run_lengths(outline: Any, height: int, width: int) -> dict[str, Any]:
    """Return polygons, or run lengths of either kind, as compressed run lengths."""
    check_installed()
    from faster_coco_eval.core import mask

    if isinstance(outline, list):
        if not outline:
            return dict(mask.encode(np.zeros((height, width), np.uint8, order="F")))
        return dict(mask.merge(mask.frPyObjects(outline, height, width)))
    if isinstance(outline["counts"], list):
        return dict(mask.frPyObjects(outline, height, width))
    return dict(outline)


def raster(outline: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Draw polygons or run lengths as a mask (y, x) of 0 and 1."""
    check_installed()
    from faster_coco_eval.core import mask

    drawn: NDArray[np.uint8] = mask.decode(run_lengths(outline, height, width))
    return drawn


def encode(drawn: NDArray[np.uint8]) -> dict[str, Any]:
    """Return a mask (y, x) of 0 and 1 as compressed run lengths."""
    check_installed()
    from faster_coco_eval.core import mask

    return dict(mask.encode(np.asfortranarray(drawn)))
