"""Keypoints by heat maps of one 1 x 1 convolution on frozen features."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from biopart.data.pictures import PersonCrops
from biopart.evaluation.answers import Answer, ratio
from biopart.evaluation.keypoints import correct_keypoints, score_keypoints
from biopart.evaluation.resampled import sums_of
from biopart.probing.dense import BLOCK, DENSE, upsampled
from biopart.probing.linear import DenseProbe, outputs_of, seeded, train_probe
from biopart.probing.suite import FrozenEncoder


def pose(frozen: FrozenEncoder, train: PersonCrops, test: PersonCrops) -> Iterator[Answer]:
    """Yield scores of keypoints by heat maps of one 1 x 1 convolution.

    A keypoint is where the softmax over all places is highest; the target is a Gaussian around it
    (not published: ours, a deviation of 1/32 of the side).
    """
    encoder, size = frozen.tokens.model.encoder, test.size
    height, width = (min(4 * count, side) for count, side in zip(encoder.counts, size, strict=True))
    learnt = height, width  # four places per token and axis, as of segmentation
    scale = torch.tensor(learnt) / torch.tensor(size)
    tokens = frozen.tokens.of(train)[:, 1:]
    places, shown = train.places(np.arange(len(train)))
    with seeded(frozen.seed):
        probe = DenseProbe(tokens.shape[2], places.shape[1])

    def loss(outputs: Tensor, items: NDArray[np.int64]) -> Tensor:
        maps = upsampled(outputs, encoder.counts, learnt).flatten(2)
        target = gaussians(places[items] * scale, learnt).to(maps.device)
        there = shown[items].to(maps.device)
        losses = -(target * F.log_softmax(maps, -1)).sum(-1)
        return (losses * there).sum() / there.sum().clamp(min=1)

    trained = frozen.tokens.probe(
        (train.key, places.numpy(), shown.numpy(), learnt, DENSE, frozen.seed),
        probe,
        lambda: train_probe(probe, tokens, loss, DENSE, seed=frozen.seed, device=frozen.device),
    ).to(frozen.device)
    own = frozen.tokens.of(test)[:, 1:]
    found = np.zeros((len(test), places.shape[1], 2))
    sure = np.zeros(len(test))
    for start in range(0, len(test), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(test)))
        maps = upsampled(outputs_of(trained, own[block]), encoder.counts, size).flatten(2)
        best = maps.softmax(-1).max(-1)
        row, column = best.indices // size[1], best.indices % size[1]
        found[block] = np.stack([row.numpy() + 0.5, column.numpy() + 0.5], -1)
        sure[block] = best.values.mean(1).numpy()
    yield from pose_answers(test, found, sure)


def gaussians(places: Tensor, size: tuple[int, int]) -> Tensor:
    """Return heat maps of keypoints (B, P, 2) of sum 1, (B, P, y * x)."""
    deviation = max(size) / 32
    lines = [torch.arange(extent) + 0.5 for extent in size]
    squared = [(places[..., axis, None] - line).square() for axis, line in enumerate(lines)]
    exponent = squared[0][..., :, None] + squared[1][..., None, :]
    return (-exponent / (2 * deviation**2)).flatten(2).softmax(-1)


def pose_answers(
    test: PersonCrops, found: NDArray[np.float64], sure: NDArray[np.float64]
) -> Iterator[Answer]:
    """Yield PCK@0.1 of keypoints in crops (objects, P, 2), and of COCO's persons AP by OKS."""
    every = np.arange(len(test))
    places = test.in_image(every, found)
    truth, boxes = [], []
    for image, number in test.objects.tolist():
        scene = test.found.scenes[image]
        truth.append(scene.keypoints[number])
        boxes.append(scene.boxes[number])
    given, box = np.stack(truth).astype(np.float64), np.stack(boxes).astype(np.float64)
    sides = (box[:, 2:] - box[:, :2]).max(1)
    sums = correct_keypoints(given[..., :2], places, given[..., 2] > 0, sides)
    n_points = int(sums[:, 1].sum())
    yield Answer("pose", "tokens", "PCK@0.1", sums_of(test.units, sums), ratio, n_points)
    if given.shape[1] == 17:
        answer = oks_precision(test, places, sure)
        nothing = sums_of([], np.zeros((0, 2)))
        yield Answer("pose", "tokens", "AP", nothing, lambda s: s[..., 0], len(test), exact=answer)


def oks_precision(
    test: PersonCrops, places: NDArray[np.float64], sure: NDArray[np.float64]
) -> float:
    """Return COCO's AP of keypoints (objects, 17, 2), x and y, of persons whose boxes are given."""
    images, annotations, detections = {}, [], []
    for row, (image, number) in enumerate(test.objects.tolist()):
        scene = test.found.scenes[image]
        left, top, right, bottom = scene.boxes[number].astype(float).tolist()
        images[scene.number] = {
            "id": scene.number,
            "height": scene.height,
            "width": scene.width,
            "file_name": scene.name,
        }
        points = scene.keypoints[number].astype(float)
        annotations.append(
            {
                "id": row + 1,
                "image_id": scene.number,
                "category_id": 1,
                "iscrowd": 0,
                "area": float(scene.areas[number]),
                "bbox": [left, top, right - left, bottom - top],
                "keypoints": points.flatten().tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            }
        )
        guess = np.concatenate([places[row], np.ones((len(points), 1))], 1)
        detections.append(
            {
                "image_id": scene.number,
                "category_id": 1,
                "keypoints": guess.flatten().tolist(),
                "score": float(sure[row]),
            }
        )
    truth = {
        "info": {},
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    score = score_keypoints(truth, detections)["AP"]
    return math.nan if score is None else score
