"""Linear probes: what a frozen encoder knows, beside an untrained one and no network at all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from biopart.codes import MISSING
from biopart.compute import open_fabric
from biopart.data import Source, WindowSource
from biopart.evaluation.probes import card_features, linear_probe
from biopart.files import write_json
from biopart.grid import patchify
from biopart.nn import Encoder
from biopart.nn.weights import load_encoder
from biopart.run import Run
from biopart.store.persons import Met
from biopart.train import predict
from biopart.verbs.experiment import Experiment, open_experiment
from biopart.verbs.pretrain import stored_recipe
from biopart.verbs.scoring import scored, who

Features = Literal["pretrained_mean", "pretrained_cls", "untrained_mean", "band_powers", "pixels"]
PIXELS = 8  # per side, to which an image is averaged for the probe without a network
Feature = Callable[[Source], NDArray[np.float32]]


def probe(
    run: Run,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    changes: Sequence[str] = (),
    store: Path | None = None,
    features: Sequence[Features] | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit logistic regressions on the same persons that a fine-tuning would draw.

    Features: mean of the patch tokens and [CLS] of the pretrained encoder, the mean of an
    untrained one, and without any network band powers of a window, or an image averaged to 8 x 8
    pixels.

    Parameters
    ----------
    run : Run
        A pretraining; where no pretrained features are asked for, its recipe is enough.
    subjects, seed : int, optional
        As for finetune; the recipe's by default.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    store : Path, optional
        Where the store lies now, if not where the run was begun.
    features : sequence of str
        Which of them; all that the store allows by default.

    Returns
    -------
    dict
        Scores as in result.json by feature; if all, they are also written to
        ``probe/s<N>-seed<S>.json`` of the run.
    """
    origin = run.pretrained()
    recipe = stored_recipe(origin, changes, store)
    experiment = open_experiment(recipe)
    subjects = recipe.finetune.subjects if subjects is None else subjects
    seed = recipe.seed if seed is None else seed
    persons = experiment.split.subset(subjects, seed)
    train = experiment.source(persons, labelled=True)
    test = experiment.source(experiment.split.test, labelled=True, keep_bad=True)
    weight: Literal["balanced"] | None = "balanced" if recipe.finetune.class_weights else None
    results: dict[str, dict[str, Any]] = {}
    everything = features_of(experiment)
    for name in everything if features is None else features:
        feature = _feature(name, experiment, origin, seed)
        predicted = linear_probe(
            feature(train), train.labels, feature(test), seed=seed, class_weight=weight
        )
        results[name] = scored(test, predicted) | who(experiment, persons)
    if set(results) == set(everything):
        write_json(origin.path / "probe" / f"s{subjects}-seed{seed}.json", results)
    return results


def features_of(experiment: Experiment) -> tuple[Features, ...]:
    """Return the features that a store allows."""
    without = "band_powers" if experiment.cohort.holds_images else "pixels"
    return tuple(name for name in get_args(Features) if name != without)


def _feature(name: Features, experiment: Experiment, origin: Run, seed: int) -> Feature:
    """Return the function from a source to features (W, F) that a name means."""
    if name == "band_powers":
        return _powers(experiment)
    if name == "pixels":
        return _pixels
    if name == "untrained_mean":
        position = experiment.recipe.encoder.position
        return _tokens(experiment, experiment.encoder(position, seed), "mean")
    experiment.refuse_met(experiment.split.test, Met.of(origin.provenance()))
    return _tokens(experiment, load_encoder(origin.encoder), name.removeprefix("pretrained_"))


def _tokens(experiment: Experiment, encoder: Encoder, pool: str) -> Feature:
    """Return a function from a source to pooled tokens (W, D) of a frozen encoder."""
    recipe = experiment.recipe
    fabric = open_fabric(recipe.compute.model_copy(update={"precision": "float32"}))
    encoder = encoder.to(fabric.device).eval()
    hinted = recipe.pretrain.objective.uses_positions

    def embed(values: Tensor) -> Tensor:
        patches = patchify(values, encoder.patch)
        positions = None
        if not hinted and encoder.position != "none":
            shape = (*patches.shape[:2], len(encoder.patch))
            positions = torch.full(shape, torch.nan, device=values.device)
        tokens: Tensor = encoder(patches, positions)
        return tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(1)

    return lambda source: predict(embed, source, fabric, recipe.data.normalise)


def _powers(experiment: Experiment) -> Feature:
    """Return a function from a source to band powers (W, F), of the bands that the card names."""
    card, sfreq_hz = experiment.cohort.attributes["card"], experiment.cohort.sfreq_hz

    def features(source: Source) -> NDArray[np.float32]:
        if not isinstance(source, WindowSource):
            raise ValueError("band powers are features of recordings; images have none")
        parts = []
        for start in range(0, len(source), 256):
            items = np.arange(start, min(start + 256, len(source)))
            values = bridged(source.__getitems__(items).values.numpy())
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


def bridged(values: NDArray[np.int16]) -> NDArray[np.float32]:
    """Fill missing samples of windows (W, C, T) with the mean of the others, 0 where all miss.

    Examples
    --------
    >>> bridged(np.array([[[10, -32768, 20], [-32768, -32768, -32768]]], np.int16)).tolist()
    [[[10.0, 15.0, 20.0], [0.0, 0.0, 0.0]]]
    """
    known = values != MISSING
    filled = np.where(known, values, 0).astype(np.float32)
    count = np.maximum(known.sum(-1, keepdims=True), 1)
    mean = filled.sum(-1, keepdims=True) / count
    return np.where(known, filled, mean).astype(np.float32)
