"""Average precision of boxes and masks, by COCO's protocol (faster-coco-eval)."""

import contextlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

STATISTICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")


def check_installed() -> None:
    """Raise ValueError with an install command if faster-coco-eval is not installed."""
    if importlib.util.find_spec("faster_coco_eval") is None:
        raise ValueError(
            'detection needs faster-coco-eval; install it with: pip install "biopart[detection]"'
        )


def score_detections(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Score detections against a collection.

    Parameters
    ----------
    truth : mapping
        In COCO's format: images, annotations, categories.
    detections : sequence of mapping
        ``image_id``, ``category_id``, ``bbox`` [left, top, width, height] and ``score``; with
        ``segmentation`` in run lengths masks are scored too.

    Returns
    -------
    dict
        ``box`` and ``mask``, each AP (mean over IoU 0.50 to 0.95), AP50, AP75, those of small,
        medium and large objects (None if there are none, and for masks if no object of the
        collection has an outline), and average recall with 1, 10 and 100
        detections per image. Without any detection all are 0.
    """
    check_installed()
    kinds = {"box": "bbox", "mask": "segm"}
    if detections and "segmentation" not in detections[0]:
        del kinds["mask"]
    if not detections:
        return {kind: dict.fromkeys(STATISTICS, 0.0) for kind in kinds}
    scores = {}
    for kind, name in kinds.items():
        annotated = truth if kind == "box" else _with_outlines(truth)
        values = coco_statistics(annotated, detections, name)
        scores[kind] = dict(zip(STATISTICS, values, strict=False))
    return scores


def coco_statistics(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], kind: str
) -> list[float | None]:
    """Return the summary of COCO's protocol in its order; None where there are no such objects.

    Parameters
    ----------
    truth, detections
        In COCO's format; at least one detection.
    kind : str
        "bbox", "segm" or "keypoints".
    """
    check_installed()
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it returns
        annotated = COCO()
        annotated.dataset = dict(truth)
        annotated.createIndex()
        found = annotated.loadRes([dict(one) for one in detections])
        evaluation = COCOeval_faster(annotated, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) if value >= 0 else None for value in evaluation.stats]


def _with_outlines(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return a collection in which objects without an outline are ignored.

    They become crowd regions, which COCO's protocol ignores, since their masks are unknown.
    """
    objects = []
    for one in truth["annotations"]:
        if one.get("segmentation") is None:
            left, top, width, height = one["bbox"]
            right, bottom = left + width, top + height
            whole = [[left, top, right, top, right, bottom, left, bottom]]
            one = {**one, "segmentation": whole, "iscrowd": 1}
        objects.append(one)
    return {**truth, "annotations": objects}
