"""Scores of events in time, one by one: matched where they overlap enough."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAP = 0.2  # intersection over union from which two events are one: Warby et al. 2014


@dataclass(frozen=True)
class Matched:
    """Events of a recording that were found.

    Attributes
    ----------
    found, missed, false : int
        True events with and without a predicted one, predicted events without a true one.
    onset_error : float (found,)
        Predicted minus true start, in the unit of the events.
    """

    found: int
    missed: int
    false: int
    onset_error: NDArray[np.float64]


def matched_events(
    truth: NDArray[np.number], predicted: NDArray[np.number], *, overlap: float = OVERLAP
) -> Matched:
    """Match true and predicted events of one class, each once, the largest overlaps first.

    Counted by events as in Warby et al. (Nature Methods 2014): a pair whose intersection over union
    is at least ``overlap`` is one event.

    Parameters
    ----------
    truth, predicted : (events, 2)
        Start and stop, in seconds or samples.
    overlap : float
        Smallest intersection over union of a pair, above 0.

    Examples
    --------
    >>> one = matched_events(np.array([[0, 10], [20, 30]]), np.array([[5, 10], [50, 60]]))
    >>> one.found, one.missed, one.false, one.onset_error.tolist()
    (1, 1, 1, [5.0])
    """
    true, guess = (np.asarray(e, np.float64).reshape(-1, 2) for e in (truth, predicted))
    pairs = _overlapping(true, guess, overlap)
    used_true, used_guess, matches = set(), set(), []
    for _, row, column in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if row not in used_true and column not in used_guess:
            used_true.add(row)
            used_guess.add(column)
            matches.append((row, column))
    rows, columns = (np.array([m[k] for m in matches], np.int64) for k in (0, 1))
    errors = guess[columns, 0] - true[rows, 0]
    n = len(matches)
    return Matched(n, len(true) - n, len(guess) - n, errors)


def _overlapping(
    true: NDArray[np.float64], guess: NDArray[np.float64], overlap: float
) -> list[tuple[float, int, int]]:
    """Return overlap, row and column of all pairs that may match, sorted neighbours alone."""
    order = np.argsort(guess[:, 0], kind="stable")
    starts = guess[order, 0]
    latest = np.maximum.accumulate(guess[order, 1]) if len(order) else guess[:0, 1]
    found = []
    for row, (start, stop) in enumerate(true):
        first, last = np.searchsorted(latest, start), np.searchsorted(starts, stop)
        for column in order[first:last].tolist():
            both = min(stop, guess[column, 1]) - max(start, guess[column, 0])
            either = max(stop, guess[column, 1]) - min(start, guess[column, 0])
            if both > 0 and both / either >= overlap:
                found.append((both / either, row, column))
    return found


def runs_of(codes: NDArray[np.integer], code: int) -> NDArray[np.int64]:
    """Return start and stop of the runs of a code along a recording, (runs, 2).

    Examples
    --------
    >>> runs_of(np.array([0, 2, 2, 0, 2]), 2).tolist()
    [[1, 3], [4, 5]]
    """
    edges = np.diff(np.concatenate([[0], (codes == code).astype(np.int8), [0]]))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], 1)


def joined(runs: NDArray[np.int64], *, gap: float = 0, least: float = 0) -> NDArray[np.int64]:
    """Join runs with less than a gap between them, then drop those shorter than the least length.

    Parameters
    ----------
    runs : int64 (runs, 2)
        Start and stop, in order.
    gap, least : float
        In the unit of the runs.

    Examples
    --------
    >>> joined(np.array([[0, 5], [6, 9], [20, 21]]), gap=2, least=3).tolist()
    [[0, 9]]
    """
    if not len(runs):
        return runs
    apart = np.flatnonzero(runs[1:, 0] - runs[:-1, 1] >= gap)
    starts = runs[np.concatenate([[0], apart + 1]), 0]
    stops = runs[np.concatenate([apart, [len(runs) - 1]]), 1]
    whole = np.stack([starts, stops], 1)
    kept: NDArray[np.int64] = whole[whole[:, 1] - whole[:, 0] >= least]
    return kept
