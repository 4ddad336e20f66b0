"""Comparison of methods on the same test persons and seeds: intervals, differences, a test.

Persons and seeds (a new subset, initialisation and pretraining each) are both sources of variation
and crossed: every seed is tested on the same persons. Intervals therefore draw both with
replacement, independently (Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics
1(2), 386-411).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.metrics import kappa_of, mean_interval

FEWEST = 6  # with 5 persons the smallest two-sided p is 2 / 2^5 = 0.0625
RESAMPLES = 2000  # draws of a bootstrap
_DUST = 1e-12  # kappas closer than this are equal up to rounding

Interval = tuple[float | None, float | None, float | None]
"""Estimate, low and high; None if undefined."""


@dataclass(frozen=True)
class Paired:
    """How much better one method is than another on the same persons and seeds.

    Attributes
    ----------
    difference, low, high
        Mean over persons of their own difference of kappa, and its interval over persons, of
        which one person has none.
    p
        Two-sided, Wilcoxon signed-rank over persons; None where no test is possible.
    pooled
        The same of the pooled kappa: mean over seeds, interval over persons and seeds.
    by_seed
        The same, with Student's interval over seeds alone (seeds - 1 degrees of freedom): an
        effect of a seed on all persons at once shows in no test over persons, and a bootstrap of
        few seeds is too narrow for it. Limits are None with one seed.
    persons, left_out, seeds
        Persons who count, persons left out (one class, or no kappa in some cell), and seeds.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    pooled: Interval
    by_seed: Interval
    persons: int
    left_out: int
    seeds: int


def curve_interval(
    confusions: NDArray[Any], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Give the pooled kappa, mean over seeds, with its interval over persons and seeds.

    Resamples without a defined kappa are left out. With one person or one seed, that unit adds
    no spread: the interval is then too narrow, and a point with one of both.

    Parameters
    ----------
    confusions
        Counts (seeds, persons, L, L), rows = truth.
    seed
        Of the bootstrap.
    resamples
        Draws of the bootstrap; limits are its 2.5 and 97.5 percentiles.

    Raises
    ------
    ValueError
        If there is no seed or no person.

    Examples
    --------
    >>> curve_interval(np.array([[[[20, 5], [10, 15]]], [[[20, 5], [10, 15]]]]))
    (0.4, 0.4, 0.4)
    """
    counts = _checked(confusions)
    whole = float(kappa_of(counts.sum(axis=1)).mean())
    return _limits(whole, _resampled(counts, seed=seed, resamples=resamples))


def paired_difference(
    method: NDArray[Any], other: NDArray[Any], *, seed: int = 0, resamples: int = RESAMPLES
) -> Paired:
    """Compare two methods person by person and seed by seed: `method` minus `other`.

    Parameters
    ----------
    method, other
        Counts (seeds, persons, L, L), rows = truth; the same seeds and persons in both.
    seed
        Of the bootstrap; both methods see the same draws.
    resamples
        Draws of the bootstrap.

    Raises
    ------
    ValueError
        If the shapes differ or there is no seed or no person.

    Examples
    --------
    >>> good, bad = np.array([[[[2, 0], [0, 2]]]]), np.array([[[[1, 1], [1, 1]]]])
    >>> found = paired_difference(good, bad)
    >>> found.difference, found.p, found.pooled
    (1.0, None, (1.0, 1.0, 1.0))
    """
    method, other = _checked(method), _checked(other)
    if method.shape != other.shape:
        raise ValueError(
            f"Confusions of shape {method.shape} and {other.shape} were given; a paired difference "
            "needs the same seeds, persons and classes for both methods."
        )
    gaps = kappa_of(method) - kappa_of(other)
    # If the truth has one class, kappa is 0 or undefined whatever was predicted: no value.
    defined = (np.isfinite(gaps) & _has_classes(method) & _has_classes(other)).all(axis=0)
    by_person = gaps[:, defined].mean(axis=0)
    known, low, high = len(by_person) > 0, None, None
    if len(by_person) > 1:  # for one person an interval would be a point, as if certain
        low, high = mean_interval(by_person, seed=seed, resamples=resamples)
    seeds = kappa_of(method.sum(axis=1)) - kappa_of(other.sum(axis=1))
    drawn = _resampled(method, seed=seed, resamples=resamples)
    drawn -= _resampled(other, seed=seed, resamples=resamples)
    return Paired(
        difference=float(by_person.mean()) if known else None,
        low=low,
        high=high,
        p=signed_rank(by_person),
        pooled=_limits(float(seeds.mean()), drawn),
        by_seed=student_interval(seeds),
        persons=int(defined.sum()),
        left_out=int((~defined).sum()),
        seeds=len(method),
    )


def student_interval(values: Sequence[float] | NDArray[Any]) -> Interval:
    """Return a mean with Student's 95 % interval; without limits for one value.

    Examples
    --------
    >>> student_interval([0.5]), student_interval([0.25, 0.25])
    ((0.5, None, None), (0.25, 0.25, 0.25))
    """
    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    if not np.isfinite(mean):
        return None, None, None
    if len(found) < 2:
        return mean, None, None
    from scipy.stats import t as student

    half = float(student.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5)
    return mean, mean - half, mean + half


def signed_rank(differences: Sequence[float] | NDArray[Any]) -> float | None:
    """Test whether differences are centred on 0: two-sided Wilcoxon signed-rank test.

    Differences of 0 are dropped, as by Wilcoxon.

    Returns
    -------
    float or None
        None if fewer than six differences are not 0: their p could not be below 0.05.

    Examples
    --------
    >>> signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])  # 2 / 2^6
    0.03125
    >>> signed_rank([0.1, 0.2, 0.3, 0.4, 0.5])
    """
    values = np.asarray(differences, np.float64)
    moved = values[np.abs(values) > _DUST]
    if len(moved) < FEWEST:
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(np.round(moved, 12)).pvalue)


def smallest_p(persons: int) -> float:
    """Return the smallest possible p of a two-sided signed-rank test of this many persons.

    Examples
    --------
    >>> smallest_p(5), smallest_p(8)
    (0.0625, 0.0078125)
    """
    return 2.0 / 2.0**persons


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values for multiple comparisons (Benjamini & Hochberg 1995); None stays None.

    Examples
    --------
    >>> adjusted([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    known = [p for p in p_values if p is not None]
    from scipy.stats import false_discovery_control

    raised = iter(false_discovery_control(known).tolist() if known else [])
    return [None if p is None else next(raised) for p in p_values]


def _checked(confusions: NDArray[Any]) -> NDArray[np.float64]:
    counts = np.asarray(confusions, np.float64)
    if counts.ndim != 4 or counts.shape[2] != counts.shape[3] or 0 in counts.shape:
        raise ValueError(
            f"Confusions have the shape {counts.shape}; give (seeds, persons, classes, "
            "classes) with at least one seed and one person."
        )
    return counts


def _has_classes(counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each seed and person whether the truth has two or more classes."""
    has: NDArray[np.bool_] = (counts.sum(axis=-1) > 0).sum(axis=-1) >= 2
    return has


def _resampled(counts: NDArray[np.float64], *, seed: int, resamples: int) -> NDArray[np.float64]:
    """Return the mean over drawn seeds of the kappa pooled over drawn persons, (resamples,).

    The draws depend only on the seed and the numbers of seeds and persons.
    """
    n_seeds, n_persons, n_classes, _ = counts.shape
    rng = np.random.default_rng(seed)
    persons = rng.multinomial(n_persons, np.full(n_persons, 1 / n_persons), size=resamples)
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=resamples)
    flat = counts.swapaxes(0, 1).reshape(n_persons, -1)
    pooled = persons.astype(np.float64) @ flat
    kappas = kappa_of(pooled.reshape(resamples, n_seeds, n_classes, n_classes))
    shares: NDArray[np.float64] = np.where(seeds > 0, seeds * kappas, 0.0).sum(axis=1) / n_seeds
    return shares


def _limits(value: float, drawn: NDArray[np.float64]) -> Interval:
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(defined):
        return None, None, None
    low, high = np.percentile(defined, [2.5, 97.5])
    return value, float(low), float(high)
