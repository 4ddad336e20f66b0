"""Intervals of any score that is computed from sums over persons or images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
LEAST = 6  # units of an interval: of five, all on one side happen once in 16 times by chance alone

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Sums:
    """What each person or image adds to a score.

    Attributes
    ----------
    units : tuple of str
        Names, sorted.
    values : float64 (units, ...)
        Their sums.
    """

    units: tuple[str, ...]
    values: NDArray[np.float64]

    def of(self, units: Sequence[str]) -> "Sums":
        """Return the sums of some units, in their order."""
        row = {unit: place for place, unit in enumerate(self.units)}
        return Sums(tuple(units), self.values[[row[unit] for unit in units]])


def sums_of(units: Sequence[str], values: NDArray[np.number]) -> Sums:
    """Add up the values (items, ...) of each unit, the person or image of each item."""
    names, rows = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, rows.ravel(), values)
    return Sums(tuple(names.tolist()), sums)


def interval_of(sums: Sums, statistic: Statistic, *, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of a score over resampled units; None of fewer than six.

    Parameters
    ----------
    sums : Sums
        As of ``sums_of``.
    statistic : callable
        Sums over units (R, ...) -> scores (R,), NaN where a score is not defined.
    seed : int
        Of the resampling (percentile bootstrap).
    """
    if len(sums.units) < LEAST:
        return None
    return _limits(statistic(_drawn(sums.values, seed)))


def difference_of(
    sums: Sums, other: Sums, statistic: Statistic, *, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """Return the difference of two scores over the units of both, and its 95 % interval.

    Both are resampled together, so that units which are hard for both do not widen it; no interval
    of fewer than six units.
    """
    shared = sorted(set(sums.units) & set(other.units))
    one, two = sums.of(shared).values, other.of(shared).values
    value = float(statistic(one.sum(0)[None])[0] - statistic(two.sum(0)[None])[0])
    if len(shared) < LEAST:
        return value, None
    return value, _limits(statistic(_drawn(one, seed)) - statistic(_drawn(two, seed)))


def _drawn(sums: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return sums over units that were drawn with replacement, (RESAMPLES, ...)."""
    rng = np.random.default_rng(seed)
    n = len(sums)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    return np.tensordot(weights, sums, axes=1)


def _limits(scores: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 2.5 and 97.5 percentiles of the scores that are defined; None without any."""
    defined = scores[np.isfinite(scores)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
