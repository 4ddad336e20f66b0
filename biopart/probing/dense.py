"""Classes of every pixel or sample by one 1 x 1 convolution on frozen features, and events."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from biopart.data.items import Tiles
from biopart.data.pictures import MaskedImages
from biopart.evaluation.answers import Answer, dense_answers, event_answers
from biopart.evaluation.dense import UNKNOWN, dense_counts
from biopart.probing.linear import (
    DenseProbe,
    Optimisation,
    outputs_of,
    seeded,
    train_probe,
)
from biopart.probing.suite import FrozenEncoder

DENSE = Optimisation(0.4, epochs=60, batch=64)
"""Of probes with a target at every place: the published rate, our epochs and batch."""
BLOCK = 64  # items whose dense outputs are in memory at once


def upsampled(outputs: Tensor, counts: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Interpolate outputs of places (B, outputs, K) linearly to a grid, (B, outputs, *S)."""
    mode = ("linear", "bilinear", "trilinear")[len(counts) - 1]
    return F.interpolate(
        outputs.reshape(*outputs.shape[:2], *counts), shape, mode=mode, align_corners=False
    )


def targets_of(items: Tiles | MaskedImages, size: tuple[int, ...]) -> NDArray[np.int16]:
    """Return the classes of all items at every place, by nearest neighbours, (items, *size)."""
    found = np.empty((len(items), *size), np.int16)
    for start in range(0, len(items), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(items)))
        target = items.targets(block)
        if target.shape[1:] != size:
            target = F.interpolate(target[:, None].float(), size, mode="nearest-exact")[:, 0]
        found[block] = target.numpy()
    return found


def segmentation(
    frozen: FrozenEncoder, what: str, train: Tiles | MaskedImages, test: Tiles | MaskedImages
) -> Iterator[Answer]:
    """Yield scores of one 1 x 1 convolution on the map; of signals also of the events found.

    Images are scored in their own size.
    """
    encoder, classes = frozen.tokens.model.encoder, len(train.names)
    counts, shape = encoder.counts, encoder.shape
    # Of images four places per token and axis are learnt from, as of Semantic FPN at a stride of 4.
    fine = tuple(min(4 * count, side) for count, side in zip(counts, shape, strict=True))
    learnt = shape if isinstance(train, Tiles) else fine
    tokens, targets = frozen.tokens.of(train)[:, 1:], targets_of(train, learnt)
    with seeded(frozen.seed):
        probe = DenseProbe(tokens.shape[2], classes)

    def loss(outputs: Tensor, items: NDArray[np.int64]) -> Tensor:
        drawn = upsampled(outputs, counts, learnt)
        target = torch.from_numpy(targets[items]).to(drawn.device, torch.int64)
        return F.cross_entropy(drawn, target, ignore_index=UNKNOWN)

    trained = frozen.tokens.probe(
        (train.key, targets, classes, DENSE, frozen.seed),
        probe,
        lambda: train_probe(probe, tokens, loss, DENSE, seed=frozen.seed, device=frozen.device),
    ).to(frozen.device)
    own = frozen.tokens.of(test)[:, 1:]
    counted = np.zeros((len(test), 3, classes), np.int64)
    if isinstance(test, MaskedImages):
        for item in range(len(test)):
            truth = test.whole(item)
            guess = upsampled(outputs_of(trained, own[item : item + 1]), counts, truth.shape)
            counted[item] = dense_counts(truth, guess.argmax(1)[0].numpy(), classes)
    else:
        predicted = np.zeros((len(test), *shape), np.int16)
        for start in range(0, len(test), BLOCK):
            block = np.arange(start, min(start + BLOCK, len(test)))
            outputs = upsampled(outputs_of(trained, own[block]), counts, shape)
            predicted[block] = outputs.argmax(1).numpy()
            truths = test.targets(block).numpy()
            for truth, item in zip(truths, block.tolist(), strict=True):
                counted[item] = dense_counts(truth, predicted[item], classes)
    task = f"{what} segmentation".strip()
    yield from dense_answers(task, "tokens", counted, test.units)
    if isinstance(test, Tiles):
        yield from event_answers(what, test.names[1:], test.marked(predicted))
