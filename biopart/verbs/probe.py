"""Linear probes of a frozen encoder, an untrained encoder and features without a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from biopart.evaluation.probes import linear_probe
from biopart.experiment import open_experiment, stored_recipe
from biopart.files import write_json
from biopart.probing.features import Features, available_features, feature_function
from biopart.run import Run


def probe(
    run: Run,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    changes: Sequence[str] = (),
    store: Path | None = None,
    features: Sequence[Features] | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit logistic regressions on the persons that a fine-tuning would draw.

    Features: mean of the patch tokens and [CLS] of the pretrained encoder, the mean of the patch
    tokens of an untrained one, and without a network the band powers of a window, or the pixels of
    an image averaged to 8 x 8.

    Parameters
    ----------
    run : Run
        A pretraining; without pretrained features, its recipe is enough.
    subjects, seed : int, optional
        As for finetune; the recipe's by default.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    store : Path, optional
        The store, if it has moved since the run was started.
    features : sequence of str
        A selection; by default all that the store allows.

    Returns
    -------
    dict
        Scores by feature, as in result.json; without a selection also written to
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
    kind = experiment.cohort.kind
    available = available_features(experiment)
    for name in available if features is None else features:
        feature = feature_function(name, experiment, origin, seed)
        predicted = linear_probe(
            feature(train), train.labels, feature(test), seed=seed, class_weight=weight
        )
        results[name] = {
            **kind.named("test", experiment.split.test),
            **test.score(predicted),
            **kind.named("train", persons),
        }
    if set(results) == set(available):
        write_json(origin.path / "probe" / f"s{subjects}-seed{seed}.json", results)
    return results
