"""Position leaks: trivial features of a patch must not reveal its position in the window.

Recordings filtered or resampled window by window have a transient at each edge; a network that
predicts positions learns the edge instead of the signal (SIGNALS.md, "Units and filters").
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.metrics import auc_by_person, mean_interval

N_FEATURES = 7
_FLOOR = 1e-6  # of variance and line length, in units of the window's own spread
_CHUNK = 256  # windows at once: 256 x 6 x 3000 float32 are 18 MB
_INNER, _FIRST, _LAST = 0, 1, 2


def patch_features(patches: NDArray[Any]) -> NDArray[np.float32]:
    """Describe each patch by seven trivial numbers per channel.

    Parameters
    ----------
    patches
        (W, K, C, P), P >= 2 samples.

    Returns
    -------
    NDArray
        float32 (W, K, C * 7): for each channel mean, slope (least squares, per sample), natural
        logarithms of variance and of line length (sum of absolute steps), minimum, maximum, last
        minus first sample. Variance and line length are at least 1e-6.

    Examples
    --------
    >>> ramp = np.array([[[[0.0, 1.0, 2.0, 3.0]]]])
    >>> [round(float(value), 3) for value in patch_features(ramp)[0, 0]]
    [1.5, 1.0, 0.223, 1.099, 0.0, 3.0, 3.0]
    """
    values = np.asarray(patches, np.float32)
    size = values.shape[-1]
    time = np.arange(size, dtype=np.float32) - (size - 1) / 2
    mean = values.mean(axis=-1)
    length = np.abs(np.diff(values, axis=-1)).sum(axis=-1)
    columns = (
        mean,
        values @ (time / (time**2).sum()),
        np.log(np.maximum(values.var(axis=-1), _FLOOR)),
        np.log(np.maximum(length, _FLOOR)),
        values.min(axis=-1),
        values.max(axis=-1),
        values[..., -1] - values[..., 0],
    )
    return np.stack(columns, axis=-1).reshape(*values.shape[:2], -1).astype(np.float32)


def position_leak(
    patches: NDArray[Any],
    persons: Sequence[str],
    *,
    seed: int = 0,
    windows_per_person: int = 60,
) -> dict[str, Any]:
    """Measure how well first and last patches can be separated from the others.

    Each window is normalised per channel (mean 0, standard deviation 1), a small gradient boosting
    (60 trees of 15 leaves) sees `patch_features` of single patches, cross-validated over persons
    (5 folds, or one per person). The area under the ROC curve is taken per person out of fold.

    The interval is a bootstrap over persons, widened around the mean by sqrt(1 + k / (k - 1)) for
    k folds (Nadeau & Bengio 2003, corrected resampled variance): the models of two folds are
    trained on each other's test persons, so persons are not independent. Measured on white noise
    (10 persons of 30 windows; 20 of 60), the plain bootstrap covered 0.5 in 81 and 87 % of runs,
    the widened one in 88 and 94 %; 3-5 and 2 % were entirely above 0.5.

    Parameters
    ----------
    patches
        Adjacent patches of each window in time order (W, K, C, P), K >= 3, P >= 2, any unit;
        integers are converted one chunk at a time, so a memory map is possible.
    persons
        Person of every window (W,).
    seed
        Seed of the drawn windows, the trees and the bootstrap.
    windows_per_person
        Maximum number of windows per person, drawn at random.

    Returns
    -------
    dict
        `first`, `last` (that patch against all others of its window) and `edge` (either of the two
        against the inner ones), each with `auc` (mean over persons; 0.5 = chance) and `ci95`
        (over persons, as above); `n_persons`; `n_windows` (used); `leaks`: whether the
        interval of `edge` is above 0.5.

    Raises
    ------
    ValueError
        If there are fewer than two persons, three patches or two samples, the lengths differ or a
        window is not finite.
    """
    _check(patches, persons)
    chosen = _draw_windows(persons, seed=seed, at_most=windows_per_person)
    names = np.asarray(persons)[chosen]
    features = np.concatenate(
        [
            patch_features(_normalise(np.asarray(patches[chosen[at : at + _CHUNK]])))
            for at in range(0, len(chosen), _CHUNK)
        ]
    )
    probability = _out_of_fold(features, names, seed)
    targets = {"first": [_FIRST], "last": [_LAST], "edge": [_FIRST, _LAST]}
    found: dict[str, Any] = {
        name: _area(probability, members, names, seed) for name, members in targets.items()
    }
    return {
        **found,
        "n_persons": len(set(names.tolist())),
        "n_windows": len(chosen),
        "leaks": found["edge"]["ci95"][0] > 0.5,
    }


def _out_of_fold(
    features: NDArray[np.float32], persons: NDArray[Any], seed: int
) -> NDArray[np.float64]:
    """Return each patch's probability of being inner, first and last, out of fold."""
    n_windows, n_patches, _ = features.shape
    target = np.tile(_roles(n_patches), (n_windows, 1))
    probability = np.empty((n_windows, n_patches, 3))
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(n_splits=_n_folds(persons))
    for train, test in folds.split(features, groups=persons):
        model = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=15, early_stopping=False, random_state=seed
        )
        model.fit(features[train].reshape(-1, features.shape[-1]), target[train].ravel())
        rows = features[test].reshape(-1, features.shape[-1])
        probability[test] = model.predict_proba(rows).reshape(len(test), n_patches, 3)
    return probability


def _area(
    probability: NDArray[np.float64], members: list[int], persons: NDArray[Any], seed: int
) -> dict[str, Any]:
    """Return the mean area over persons of "is one of members", with its interval."""
    n_windows, n_patches, _ = probability.shape
    truth = np.tile(np.isin(_roles(n_patches), members), n_windows)
    score = probability[..., members].sum(axis=-1).ravel()
    areas = auc_by_person(score, truth, np.repeat(persons, n_patches).tolist())
    values = [area for area in areas.values() if area is not None]
    mean, k = float(np.mean(values)), _n_folds(persons)
    widening = math.sqrt(1 + k / (k - 1))
    bounds = (mean + widening * (bound - mean) for bound in mean_interval(values, seed=seed))
    return {"auc": mean, "ci95": [min(max(bound, 0.0), 1.0) for bound in bounds]}


def _n_folds(persons: NDArray[Any]) -> int:
    return min(5, len(np.unique(persons)))


def _roles(n_patches: int) -> NDArray[np.int64]:
    roles = np.full(n_patches, _INNER)
    roles[0], roles[-1] = _FIRST, _LAST
    return roles


def _normalise(patches: NDArray[Any]) -> NDArray[np.float32]:
    """Normalise each window and channel of (W, K, C, P) to mean 0 and deviation 1."""
    values = patches.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(
            "A window has NaN or infinity; exclude windows marked bad from the leak check."
        )
    values -= values.mean(axis=(1, 3), keepdims=True, dtype=np.float64)
    spread = values.std(axis=(1, 3), keepdims=True, dtype=np.float64)
    return (values / np.where(spread > 0, spread, 1.0)).astype(np.float32)


def _draw_windows(persons: Sequence[str], *, seed: int, at_most: int) -> NDArray[np.int64]:
    """Draw a limited number of windows of each person, none twice, ascending."""
    order = np.random.default_rng(seed).permutation(len(persons))
    names = np.asarray(persons)[order]
    drawn = [order[names == name][:at_most] for name in np.unique(names)]
    return np.sort(np.concatenate(drawn))


def _check(patches: NDArray[Any], persons: Sequence[str]) -> None:
    if patches.ndim != 4 or patches.shape[1] < 3 or patches.shape[3] < 2:
        raise ValueError(
            f"Patches have the shape {patches.shape}; give (windows, patches >= 3, channels, "
            "samples >= 2): cut longer windows or smaller patches."
        )
    if len(patches) != len(persons):
        raise ValueError(
            f"There are {len(patches)} windows but {len(persons)} persons; give one per window."
        )
    n_persons = len(set(persons))
    if n_persons < 2:
        raise ValueError(
            f"The windows come from {n_persons} person(s), but the leak check needs at least 2; "
            "give windows of more persons."
        )
