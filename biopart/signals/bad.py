"""Bad segments of a recording: missing, flat or clipped. They are marked, never filled in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopart.signals.recording import Channel

CLIPPED_S = 0.05


@dataclass(frozen=True)
class BadSamples:
    """Bad samples of one channel: missing; missing, flat or clipped; and the number clipped.

    ``stretches`` counts the marked samples by reason. Each sample has one reason: a flat segment
    at a limit of the converter is clipped.
    """

    missing: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    clipped: int
    stretches: dict[str, int]


def bad_samples(
    digital: NDArray[np.integer], channel: Channel, *, flat_s: float | None = 1.0
) -> BadSamples:
    """Find missing samples, flat segments longer than ``flat_s`` and clipped ones over 0.05 s.

    Parameters
    ----------
    digital : (time,), int
        The source's integers.
    channel : Channel
        Rate, limits of the converter, and the integer that means missing.
    flat_s
        A constant value for longer than this is flat, in seconds; None = never, as for heart rate.
    """
    missing = np.zeros(len(digital), dtype=bool)
    if channel.missing is not None:
        missing = digital == channel.missing
    flat, held = np.zeros((2, len(digital)), dtype=bool)
    if flat_s is not None:
        for start, stop in flat_runs(digital, max(2, round(flat_s * channel.sfreq_hz))):
            flat[start:stop] = True
    clipped = np.zeros(len(digital), dtype=bool)
    for limit in (channel.digital_min, channel.digital_max):
        if limit is not None:
            clipped |= digital == limit
    clipped &= ~missing
    if clipped.any():
        shortest = max(2, round(CLIPPED_S * channel.sfreq_hz))
        for start, stop in segments(clipped):
            if stop - start >= shortest:
                held[start:stop] = True
    reasons = {"flat": flat & ~(missing | held), "missing": missing, "clipped": held}
    stretches = {reason: int(mask.sum()) for reason, mask in reasons.items()}
    return BadSamples(missing, missing | flat | held, int(clipped.sum()), stretches)


def flat_runs(digital: NDArray[np.integer], longer_than: int) -> NDArray[np.int64]:
    """Return start and stop of runs of one value longer than a number of samples, (R, 2).

    Examples
    --------
    >>> flat_runs(np.array([1, 2, 2, 2, 3, 3]), 2).tolist()
    [[1, 4]]
    """
    # A longer run contains a whole block of half its length; most signals have none.
    block = max(1, longer_than // 2)
    whole = len(digital) // block * block
    blocks = digital[:whole].reshape(-1, block)
    if block > 1 and not (blocks.max(axis=1) == blocks.min(axis=1)).any():
        return np.zeros((0, 2), dtype=np.int64)
    runs = segments(digital[1:] == digital[:-1])
    runs[:, 1] += 1
    return runs[runs[:, 1] - runs[:, 0] > longer_than]


def segments(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return start and stop of each run of True, (segment, 2).

    Examples
    --------
    >>> segments(np.array([True, False, True, True])).tolist()
    [[0, 1], [2, 4]]
    """
    if not mask.any():
        return np.zeros((0, 2), dtype=np.int64)
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).astype(np.int64)
