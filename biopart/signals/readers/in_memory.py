"""Recordings that are already in memory: arrays and mne.io.Raw."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.signals.recording import (
    QUANTISED_MISSING,
    Channel,
    Recording,
    Start,
    quantised,
    unique_names,
)
from biopart.signals.units import unit_name


def recording_of_array(
    values: NDArray[np.floating],
    names: Sequence[str],
    *,
    sfreq_hz: float,
    unit: str,
    name: str = "array",
    start: Start | None = None,
) -> Recording:
    """Make a recording from an array.

    Parameters
    ----------
    values : (C, T)
        Physical values; NaN = missing. Not modified.
    names : sequence of str
        Names of the channels.
    sfreq_hz : float
        Sampling rate.
    unit : str
        Unit of all channels, for example uV, mV or V.
    name : str
        Name for messages.
    start : datetime or time, optional
        Clock time of sample 0.

    Raises
    ------
    ValueError
        If there is not one name per row, or the array is empty.
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 2 or not given.size or len(names) != len(given):
        raise ValueError(
            f"{name} has the shape {given.shape} and {len(names)} names; give (channels, samples) "
            "and a name for each channel"
        )
    steps = [quantised(row) for row in given]
    names, renamed = unique_names(names)
    channels = tuple(
        Channel(one, unit_name(unit), sfreq_hz, given.shape[1], scale, missing=QUANTISED_MISSING)
        for one, (_, scale) in zip(names, steps, strict=True)
    )
    return Recording(
        path=Path(name),
        channels=channels,
        load=lambda indices: [steps[index][0] for index in indices],
        start=start,
        warnings=renamed,
    )
