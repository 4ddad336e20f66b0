"""Features of windows or images: of a frozen encoder, or of no network at all."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from biopart.codes import MISSING
from biopart.compute import open_fabric
from biopart.data import Source, WindowSource
from biopart.evaluation.probes import card_features
from biopart.experiment import Experiment
from biopart.nn import Model
from biopart.recipe import ComputeSettings, Pool
from biopart.run import Run
from biopart.store.seen import Seen
from biopart.train import predict

Features = Literal["pretrained_mean", "pretrained_cls", "untrained_mean", "band_powers", "pixels"]
PIXELS = 8  # per side, to which an image is averaged for the probe without a network
Feature = Callable[[Source], NDArray[np.float32]]


def available_features(experiment: Experiment) -> tuple[Features, ...]:
    """Return the features that a store allows."""
    plain: Features = "band_powers" if len(experiment.shape) == 1 else "pixels"
    return ("pretrained_mean", "pretrained_cls", "untrained_mean", plain)


def feature_function(name: Features, experiment: Experiment, origin: Run, seed: int) -> Feature:
    """Return the function from a source to features (W, F) that a name means.

    Raises ValueError where the run has seen test persons.
    """
    if name == "band_powers":
        return _powers(experiment)
    if name == "pixels":
        return _pixels
    recipe = experiment.recipe
    if name == "untrained_mean":
        encoder = experiment.encoder(recipe.encoder.position, seed)
        uses_positions = recipe.pretrain.objective.uses_positions
        about = experiment.about(Seen(), positions=uses_positions)
        return embeddings(Model(encoder, about), recipe.compute, "mean")
    model = Model.load(origin)
    experiment.refuse_seen(experiment.split.test, model.about.seen)
    return embeddings(model, recipe.compute, "cls" if name == "pretrained_cls" else "mean")


def embeddings(model: Model, compute: ComputeSettings, pool: Pool) -> Feature:
    """Return a function from a source to embeddings (W, D) of a frozen encoder, in float32."""
    fabric = open_fabric(compute.model_copy(update={"precision": "float32"}))
    model = model.to(fabric.device).eval()
    return lambda source: predict(lambda values: model.embed(values, pool), source, fabric)


def _powers(experiment: Experiment) -> Feature:
    """Return a function from a source to band powers (W, F), of the bands that the card names."""
    card, sfreq_hz = experiment.cohort.attributes["card"], experiment.cohort.sfreq_hz

    def features(source: Source) -> NDArray[np.float32]:
        if not isinstance(source, WindowSource):
            raise ValueError("band powers are features of recordings; images have none")
        parts = []
        for start in range(0, len(source), 256):
            items = np.arange(start, min(start + 256, len(source)))
            values = fill_missing(source.__getitems__(items).values.numpy())
            values *= source.scales(items)[:, :, None]
            parts.append(card_features(values, sfreq_hz, card))
        return np.concatenate(parts)

    return features


def _pixels(source: Source) -> NDArray[np.float32]:
    """Return the means of 8 x 8 (at most) parts of images as features (W, C * 64), 1 = white."""
    parts = []
    for start in range(0, len(source), 256):
        items = range(start, min(start + 256, len(source)))
        values = source.__getitems__(items).values.float() / 255
        height, width = (min(side, PIXELS) for side in values.shape[2:])
        parts.append(adaptive_avg_pool2d(values, (height, width)).flatten(1).numpy())
    return np.concatenate(parts)


def fill_missing(values: NDArray[np.int16]) -> NDArray[np.float32]:
    """Fill missing samples of windows (W, C, T) with the mean of the others, 0 where all miss.

    Examples
    --------
    >>> fill_missing(np.array([[[10, -32768, 20], [-32768, -32768, -32768]]], np.int16)).tolist()
    [[[10.0, 15.0, 20.0], [0.0, 0.0, 0.0]]]
    """
    present = values != MISSING
    filled = np.where(present, values, 0).astype(np.float32)
    count = np.maximum(present.sum(-1, keepdims=True), 1)
    mean = filled.sum(-1, keepdims=True) / count
    return np.where(present, filled, mean).astype(np.float32)
