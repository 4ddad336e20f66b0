"""Agreement with the truth per person and pooled, with intervals over persons.

A window is never the unit of resampling here: windows of one person are alike, so every interval
resamples persons. scikit-learn is imported where it is used: it takes longer than most commands.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)


def kappa_of(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Return Cohen's kappa of confusion matrices, many at once.

    Cohen 1960: kappa = (p_o - p_e) / (1 - p_e), p_o the observed and p_e the expected agreement.

    Parameters
    ----------
    confusion
        Counts (..., L, L), rows = truth, columns = prediction.

    Returns
    -------
    NDArray
        Kappa (...), in [-1, 1]; NaN if it is undefined: no window at all, or truth and
        prediction have only one and the same class.

    Examples
    --------
    >>> float(kappa_of(np.array([[20, 5], [10, 15]])))
    0.4
    """
    counts = np.asarray(confusion, dtype=np.float64)
    total = counts.sum(axis=(-2, -1))
    observed = np.trace(counts, axis1=-2, axis2=-1) * total
    expected = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1)
    room = total**2 - expected
    defined = room > 0
    return np.where(defined, (observed - expected) / np.where(defined, room, 1.0), np.nan)


def kappa_interval(
    confusions: NDArray[Any], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, int]:
    """Bootstrap the pooled kappa over persons: 2.5 and 97.5 percentiles.

    Persons are drawn with replacement, and kappa is computed from the sum of their matrices.
    With one person every resample is that person and the interval is a point.

    Parameters
    ----------
    confusions
        Counts (persons, L, L).

    Returns
    -------
    tuple
        Low, high, and the number of resamples without a defined kappa, which were excluded.

    Raises
    ------
    ValueError
        If no resample has a defined kappa.

    Examples
    --------
    >>> kappa_interval(np.array([[[20, 5], [10, 15]], [[20, 5], [10, 15]]]))
    (0.4, 0.4, 0)
    """
    n_persons, n_classes = len(confusions), confusions.shape[-1]
    flat = np.asarray(confusions, dtype=np.float64).reshape(n_persons, -1)
    weights = _resampled_weights(n_persons, seed=seed, resamples=resamples)
    kappas = kappa_of((weights @ flat).reshape(resamples, n_classes, n_classes))
    defined = kappas[np.isfinite(kappas)]
    if not len(defined):
        raise ValueError(
            f"None of {resamples} resamples of {n_persons} persons has a defined kappa; "
            "test on persons with at least two classes."
        )
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high), resamples - len(defined)


def mean_interval(
    values: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """Bootstrap the mean of one value per person: 2.5 and 97.5 percentiles.

    Examples
    --------
    >>> mean_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    if not len(values):
        raise ValueError("No value was given; an interval over persons needs at least one person.")
    weights = _resampled_weights(len(values), seed=seed, resamples=resamples)
    low, high = np.percentile(weights @ np.asarray(values) / len(values), [2.5, 97.5])
    return float(low), float(high)


def auc_by_person(
    score: NDArray[Any], truth01: NDArray[Any], persons: Sequence[str]
) -> dict[str, float | None]:
    """Return the area under the ROC curve for every person.

    Parameters
    ----------
    score
        Higher means more likely 1, any range (W,).
    truth01
        Zeros and ones (W,).
    persons
        Person of every item (W,).

    Returns
    -------
    dict
        Person to area in [0, 1]; None if a person has one class only.

    Raises
    ------
    ValueError
        If the lengths differ.

    Examples
    --------
    >>> auc_by_person(np.array([0.1, 0.9, 0.4]), np.array([0, 1, 1]), ["a", "a", "b"])
    {'a': 1.0, 'b': None}
    """
    from sklearn.metrics import roc_auc_score

    check_lengths(score=score, truth01=truth01, persons=persons)
    areas: dict[str, float | None] = {}
    for name, of_person in _rows_by_person(persons).items():
        both = len(np.unique(truth01[of_person])) == 2
        areas[name] = float(roc_auc_score(truth01[of_person], score[of_person])) if both else None
    return areas


def balanced_weights(labels: NDArray[Any], n_classes: int) -> NDArray[np.float32]:
    """Weight classes so that each class that occurs counts the same in a loss.

    The weight of class c is n / (P n_c), n labelled windows, P classes that occur, n_c windows of
    c; so the mean weight over the labelled windows is 1. A class that does not occur has weight 0.

    Parameters
    ----------
    labels
        Class indices (W,), -1 = unknown, ignored.
    n_classes
        Length of the result.

    Raises
    ------
    ValueError
        If no window is labelled or a label is not below `n_classes`.

    Examples
    --------
    >>> balanced_weights(np.array([0, 0, 0, 0, 2, 2, 2, 2, -1]), 3).tolist()
    [1.0, 0.0, 1.0]
    """
    known = np.asarray(labels)[np.asarray(labels) >= 0]
    if not len(known):
        raise ValueError(
            f"None of {len(labels)} windows is labelled; class weights need at least one label."
        )
    if known.max() >= n_classes:
        raise ValueError(
            f"Label {known.max()} is too large for {n_classes} classes; allowed are -1 (unknown) "
            f"to {n_classes - 1}; check the label names."
        )
    counts = np.bincount(known, minlength=n_classes)
    share = len(known) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, share, 0.0).astype(np.float32)


def score(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    persons: Sequence[str],
    label_names: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Score predicted classes against the truth, pooled and person by person.

    Parameters
    ----------
    truth, predicted
        Class indices (W,); windows whose truth is -1 are ignored.
    persons
        Person of every window (W,).
    label_names
        Names of the L classes, by index.
    seed, resamples
        Of the bootstrap over persons.

    Returns
    -------
    dict
        Values ready for JSON: `kappa` (all windows pooled), `kappa_mean` (over the persons whose
        kappa is defined; None if there is none), `kappa_by_person` {person: value, None if the
        truth has fewer than two classes},
        `kappa_ci95` [low, high] of the pooled kappa (a point with one person), `accuracy`,
        `macro_f1` (over the classes in the truth), `f1` {class: value, None if the truth lacks
        it}, `classes` (names in the truth), `confusion` (L lists of L, rows = truth),
        `confusion_by_person` (the same of each person), `n_windows` and `n_test_persons` (with a
        known truth; persons without one have kappa None).

    Raises
    ------
    ValueError
        If lengths differ, an index has no name, or the truth has fewer than two classes.

    Examples
    --------
    >>> found = score(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), ["a"] * 4, ["W", "N1"])
    >>> found["kappa"], found["accuracy"], found["confusion"]
    (0.5, 0.75, [[2, 0], [1, 1]])
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    check_lengths(truth=truth, predicted=predicted, persons=persons)
    known = truth >= 0
    check_classes(truth[known], predicted[known], label_names)
    rows = {
        name: of_person[known[of_person]] for name, of_person in _rows_by_person(persons).items()
    }
    by_name = {
        name: confusion_of(truth[of_person], predicted[of_person], len(label_names))
        for name, of_person in rows.items()
        if len(of_person)
    }
    confusions = np.stack(list(by_name.values()))
    low, high, n_undefined = kappa_interval(confusions, seed=seed, resamples=resamples)
    if n_undefined:
        _log.warning(
            "%d of %d bootstrap resamples had no defined kappa and were excluded",
            n_undefined,
            resamples,
        )
    by_person = {
        name: _kappa(truth[of_person], predicted[of_person])
        if len(np.unique(truth[of_person])) > 1
        else None
        for name, of_person in rows.items()
    }
    defined = [value for value in by_person.values() if value is not None]
    return {
        "kappa": _kappa(truth[known], predicted[known]),
        "kappa_mean": float(np.mean(defined)) if defined else None,
        "kappa_by_person": by_person,
        "kappa_ci95": [low, high],
        **class_scores(truth[known], predicted[known], label_names),
        "confusion": confusions.sum(axis=0).tolist(),
        "confusion_by_person": {name: counts.tolist() for name, counts in by_name.items()},
        "n_windows": int(known.sum()),
        "n_test_persons": len(by_name),
    }


def merged(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Score several tests of different persons as one, as the folds of a cross-validation.

    Parameters
    ----------
    scores
        As ``score`` returns them, of the same classes.

    Returns
    -------
    dict
        As ``score`` returns it, of all persons.

    Raises
    ------
    ValueError
        If a person is in two of the tests.
    """
    tables = [(name, counts) for s in scores for name, counts in s["confusion_by_person"].items()]
    names = [name for name, _ in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stand in several tests; each person may be in one")
    label_names = list(scores[0]["f1"])
    counts = np.stack([np.asarray(table).ravel() for _, table in tables])
    codes = np.tile(np.indices((len(label_names),) * 2).reshape(2, -1), len(tables))
    truth, predicted = np.repeat(codes, counts.ravel(), axis=1)
    return score(truth, predicted, np.repeat(names, counts.sum(1)).tolist(), label_names)


def class_scores(
    truth: NDArray[Any], predicted: NDArray[Any], label_names: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy and F1, the latter for the classes in the truth."""
    from sklearn.metrics import accuracy_score, f1_score

    present = np.unique(truth)
    single = f1_score(truth, predicted, labels=present, average=None, zero_division=0.0)
    f1: dict[str, float | None] = dict.fromkeys(label_names)
    f1.update(
        {label_names[index]: float(value) for index, value in zip(present, single, strict=True)}
    )
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(np.mean(single)),
        "f1": f1,
        "classes": [label_names[index] for index in present],
    }


def _kappa(truth: NDArray[Any], predicted: NDArray[Any]) -> float | None:
    """Return kappa, or None if fewer than two classes occur and it is undefined."""
    if len(np.union1d(truth, predicted)) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(truth, predicted))


def confusion_of(truth: NDArray[Any], predicted: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Count windows: (L, L), rows = truth."""
    from sklearn.metrics import confusion_matrix

    counts: NDArray[np.int64] = confusion_matrix(truth, predicted, labels=np.arange(n_classes))
    return counts


def _rows_by_person(persons: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of each person, persons in alphabetical order."""
    names, owner = np.unique(np.asarray(persons), return_inverse=True)
    ends = np.cumsum(np.bincount(owner))[:-1]
    rows = np.split(np.argsort(owner, kind="stable"), ends)
    return dict(zip(names.tolist(), rows, strict=True))


def _resampled_weights(n_persons: int, *, seed: int, resamples: int) -> NDArray[np.float64]:
    """Count how often each person is drawn, with replacement: (resamples, persons)."""
    shares = np.full(n_persons, 1.0 / n_persons)
    return np.random.default_rng(seed).multinomial(n_persons, shares, size=resamples).astype(float)


def check_lengths(**arrays: Sequence[Any] | NDArray[Any]) -> None:
    """Refuse arrays of different lengths, by their names."""
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"The lengths differ: {', '.join(f'{k} {n}' for n, k in lengths.items())}; "
            "give one entry per window in each."
        )


def check_classes(truth: NDArray[Any], predicted: NDArray[Any], label_names: Sequence[str]) -> None:
    """Refuse indices without a name, and a truth of fewer than two classes."""
    found = [label_names[index] for index in np.unique(truth) if index < len(label_names)]
    highest = max(truth.max(initial=0), predicted.max(initial=0))
    if highest >= len(label_names) or predicted.min(initial=0) < 0:
        raise ValueError(
            f"A class index is outside 0 to {len(label_names) - 1} "
            f"(predicted {predicted.min(initial=0)} to {highest}); names are known for "
            f"{', '.join(label_names)} only; use the label names of the model."
        )
    if len(found) < 2:
        raise ValueError(
            f"The labelled classes of the test persons are {found or 'none'}, but kappa needs at "
            "least two; test on persons with more classes."
        )
