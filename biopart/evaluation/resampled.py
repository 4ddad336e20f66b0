"""Intervals of any score that is computed from sums over persons or images."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
LEAST = 6  # units of an interval: of five, all on one side happen once in 16 times by chance alone

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def sums_of(units: Sequence[str], values: NDArray[np.number]) -> NDArray[np.float64]:
    """Add up the values of each unit.

    Parameters
    ----------
    units : sequence of str (items,)
        Person or image of each item.
    values : (items, ...)
        What the score adds up.

    Returns
    -------
    float64 (units, ...)
        In the sorted order of the units.
    """
    _, rows = np.unique(np.asarray(units), return_inverse=True)
    rows = rows.ravel()
    sums = np.zeros((rows.max(initial=-1) + 1, *values.shape[1:]))
    np.add.at(sums, rows, values)
    return sums


def interval_of(
    sums: NDArray[np.float64], statistic: Statistic, *, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of a score over resampled units; None of fewer than six.

    Parameters
    ----------
    sums : float64 (units, ...)
        As of ``sums_of``.
    statistic : callable
        Sums over units (R, ...) -> scores (R,).
    seed : int
        Of the resampling (percentile bootstrap).
    """
    if len(sums) < LEAST:
        return None
    scores = statistic(_drawn(sums, seed))
    low, high = np.nanpercentile(scores, [2.5, 97.5])
    return float(low), float(high)


def difference_of(
    sums: NDArray[np.float64], other: NDArray[np.float64], statistic: Statistic, *, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """Return the difference of two scores of the same units, and its 95 % interval.

    Both are resampled together, so that units which are hard for both do not widen it; no interval
    of fewer than six units.
    """
    value = float(statistic(sums.sum(0)[None])[0] - statistic(other.sum(0)[None])[0])
    if len(sums) < LEAST:
        return value, None
    drawn = statistic(_drawn(sums, seed)) - statistic(_drawn(other, seed))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return value, (float(low), float(high))


def _drawn(sums: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return sums over units that were drawn with replacement, (RESAMPLES, ...)."""
    rng = np.random.default_rng(seed)
    n = len(sums)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    return np.tensordot(weights, sums, axes=1)
