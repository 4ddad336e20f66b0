"""Statistics of a night: amount of sleep, latencies, fragmentation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.codes import STAGES

WAKE, REM = 0, 4


def sleep_statistics(
    stages: NDArray[np.int8],
    *,
    epoch_s: float,
    lights_off: int = 0,
    lights_on: int | None = None,
) -> dict[str, Any]:
    """Return sleep statistics of a hypnogram, after the AASM manual's definitions.

    Parameters
    ----------
    stages : (epoch,)
        0 W, 1 N1, 2 N2, 3 N3, 4 R; -1 = unscored or bad, which counts for no stage and no
        duration, but delays the latencies.
    epoch_s : float
        Length of an epoch in seconds.
    lights_off, lights_on : int
        First epoch in bed and the first one after; default: the whole recording.

    Returns
    -------
    dict
        In minutes ``time_in_bed`` and of it ``left_out`` (unscored or bad),
        ``total_sleep_time``, ``sleep_onset_latency`` (from lights off
        to the first epoch of sleep), ``wake_after_sleep_onset`` (from then to lights on),
        ``rem_latency`` (from sleep onset to the first R) and ``minutes`` by stage; as shares
        ``sleep_efficiency`` (of the scored time in bed) and ``share`` (of the sleep) by
        stage;
        ``transitions`` [from][to] between scored neighbours. None without sleep, or without R.

    Raises
    ------
    ValueError
        If lights off is not before lights on, or beyond the night.

    Examples
    --------
    >>> night = sleep_statistics(np.int8([0, 0, 2, 4, 0, 2]), epoch_s=30)
    >>> night["total_sleep_time"], night["sleep_onset_latency"], night["rem_latency"]
    (1.5, 1.0, 0.5)
    """
    stop = len(stages) if lights_on is None else lights_on
    if not 0 <= lights_off < stop <= len(stages):
        raise ValueError(
            f"lights off at epoch {lights_off} and on at {stop} are not in this order inside a "
            f"night of {len(stages)} epochs; correct the lights times"
        )
    bed, minute = stages[lights_off:stop], epoch_s / 60
    asleep = np.flatnonzero(bed > WAKE)
    onset = int(asleep[0]) if len(asleep) else None
    rem = np.flatnonzero(bed == REM)
    counts = np.bincount(bed[bed >= 0], minlength=len(STAGES))
    sleep = int(counts[1:].sum())
    pairs = np.zeros((len(STAGES), len(STAGES)), dtype=int)
    scored = (bed[:-1] >= 0) & (bed[1:] >= 0)
    np.add.at(pairs, (bed[:-1][scored], bed[1:][scored]), 1)
    return {
        "time_in_bed": len(bed) * minute,
        "total_sleep_time": sleep * minute,
        "left_out": int((bed < 0).sum()) * minute,
        "sleep_efficiency": sleep / int((bed >= 0).sum()) if (bed >= 0).any() else None,
        "sleep_onset_latency": None if onset is None else onset * minute,
        "wake_after_sleep_onset": None
        if onset is None
        else int((bed[onset:] == WAKE).sum()) * minute,
        "rem_latency": None if onset is None or not len(rem) else (int(rem[0]) - onset) * minute,
        "minutes": {name: int(n) * minute for name, n in zip(STAGES, counts, strict=True)},
        "share": {
            name: int(n) / sleep if sleep else None
            for name, n in zip(STAGES[1:], counts[1:], strict=True)
        },
        "unscored": int((bed < 0).sum()) * minute,
        "transitions": {
            one: {two: int(pairs[i, j]) for j, two in enumerate(STAGES)}
            for i, one in enumerate(STAGES)
        },
    }
