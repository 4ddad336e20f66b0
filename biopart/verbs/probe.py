"""Linear probes: what a frozen encoder knows, beside an untrained one and band powers."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.compute import open_fabric
from biopart.data import Source
from biopart.evaluation.probes import band_powers, linear_probe
from biopart.grid import patchify
from biopart.nn import ViT
from biopart.nn.normalise import MISSING
from biopart.nn.weights import load_encoder
from biopart.run import Run, write_json
from biopart.train import predict
from biopart.verbs.experiment import Experiment, open_experiment, refuse_seen
from biopart.verbs.finetune import scored
from biopart.verbs.pretrain import stored_recipe


def probe(
    run: Run, *, subjects: int | None = None, seed: int | None = None, changes: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Fit logistic regressions on the same persons that a fine-tuning would draw.

    Features: mean of the patch tokens and [CLS] of the pretrained encoder, the mean of an
    untrained one, and band powers without any network.

    Parameters
    ----------
    run : Run
        A pretraining.
    subjects, seed : int, optional
        As for finetune; the recipe's by default.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.

    Returns
    -------
    dict
        Scores as in result.json for ``pretrained_mean``, ``pretrained_cls``, ``untrained_mean``
        and ``band_powers``; also written to ``probe/s<N>-seed<S>.json`` of the run.
    """
    origin = run.pretrained()
    recipe = stored_recipe(origin, changes)
    experiment = open_experiment(recipe)
    subjects = recipe.finetune.subjects if subjects is None else subjects
    seed = recipe.seed if seed is None else seed
    persons = experiment.split.subset(subjects, seed)
    refuse_seen(experiment.split.test, origin.provenance()["seen"])
    train = experiment.source(persons, labelled=True)
    test = experiment.source(experiment.split.test, labelled=True, keep_bad=True)
    features = {
        "pretrained_mean": _tokens(experiment, load_encoder(origin.encoder), "mean"),
        "pretrained_cls": _tokens(experiment, load_encoder(origin.encoder), "cls"),
        "untrained_mean": _tokens(
            experiment, experiment.encoder(recipe.encoder.position, seed), "mean"
        ),
        "band_powers": _powers(experiment),
    }
    weight: Literal["balanced"] | None = "balanced" if recipe.finetune.class_weights else None
    results = {}
    for name, feature in features.items():
        predicted = linear_probe(
            feature(train), train.labels, feature(test), seed=seed, class_weight=weight
        )
        results[name] = scored(test, predicted) | {"train_persons": list(persons)}
    write_json(origin.path / "probe" / f"s{subjects}-seed{seed}.json", results)
    return results


def _tokens(experiment: Experiment, encoder: ViT, pool: str) -> Any:
    """Return a function from a source to pooled tokens (W, D) of a frozen encoder."""
    recipe = experiment.recipe
    fabric = open_fabric(recipe.compute.model_copy(update={"precision": "float32"}))
    encoder = encoder.to(fabric.device).eval()
    hinted = recipe.pretrain.objective.position_hint > 0

    def embed(values: Tensor) -> Tensor:
        patches = patchify(values, encoder.patch)
        positions = None
        if not hinted and encoder.position != "none":
            shape = (*patches.shape[:2], len(encoder.patch))
            positions = torch.full(shape, torch.nan, device=values.device)
        tokens: Tensor = encoder(patches, positions)
        return tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(1)

    return lambda source: predict(embed, source, fabric, recipe.data.normalise)


def _powers(experiment: Experiment) -> Any:
    """Return a function from a source to band powers (W, F), in microvolt."""

    def features(source: Source) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(source), 256):
            items = np.arange(start, min(start + 256, len(source)))
            values = source.__getitems__(items).values.numpy().astype(np.float32)
            values[values == MISSING] = 0.0
            parts.append(
                band_powers(values * source.scales(items)[:, :, None], experiment.cohort.sfreq_hz)
            )
        return np.concatenate(parts)

    return features
