"""Linear probes: what a frozen encoder knows, beside an untrained one and no network at all."""

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
