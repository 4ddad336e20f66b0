"""Linear probes of a frozen encoder, an untrained encoder and features without a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from joblib import Parallel, delayed

from biopart.evaluation.probes import linear_probe
from biopart.experiment import open_experiment, stored_recipe
from biopart.files import write_json
from biopart.probing.features import Features, available_features, feature_function
from biopart.recipe import Recipe
from biopart.run import Run


def probe(
    run: Run,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    changes: Sequence[str] = (),
    store: Path | None = None,
    features: Sequence[Features] | None = None,
    jobs: int = 1,
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
    jobs : int
        Features at a time, in processes; more or fewer inside ``calls_on`` a cluster.

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
    available = available_features(experiment)
    names = available if features is None else features
    data = recipe.data.model_copy(update={"store": recipe.data.store.absolute()})
    recipe, origin = recipe.model_copy(update={"data": data}), Run(origin.path.absolute())
    draw = {"subjects": subjects, "seed": seed}
    scores = Parallel(n_jobs=jobs)(
        delayed(score_features)(name, recipe, origin, **draw) for name in names
    )
    results = dict(zip(names, scores, strict=True))
    if set(results) == set(available):
        write_json(origin.path / "probe" / f"s{subjects}-seed{seed}.json", results)
    return results


def score_features(
    name: Features, recipe: Recipe, origin: Run, *, subjects: int, seed: int
) -> dict[str, Any]:
    """Fit a logistic regression to one kind of features and score it on the test persons."""
    experiment = open_experiment(recipe)
    persons = experiment.split.subset(subjects, seed)
    train = experiment.source(persons, labelled=True)
    test = experiment.source(experiment.split.test, labelled=True, keep_bad=True)
    weight: Literal["balanced"] | None = "balanced" if recipe.finetune.class_weights else None
    feature = feature_function(name, experiment, origin, seed)
    predicted = linear_probe(
        feature(train), train.labels, feature(test), seed=seed, class_weight=weight
    )
    kind = experiment.cohort.kind
    return {
        **kind.named("test", experiment.split.test),
        **test.score(predicted),
        **kind.named("train", persons),
    }
