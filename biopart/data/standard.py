"""Recordings in units of their own spread, as integers: data.normalise = recording.

A window keeps its level relative to the night, which normalising every window by itself removes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.codes import DEVIATION, MISSING
from biopart.recipe import Normalisation

NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution, in standard deviations."""


def statistics_of(signal: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return median and robust deviation of each channel of a recording, (C, T) -> (C, 2).

    The deviation is the interquartile range over 1.349, so that artefacts do not decide it (U-Sleep
    scales nights by median and interquartile range too: Perslev et al., 2021); where that is 0, as
    in a mostly flat channel, the standard deviation. Missing samples do not count.

    Examples
    --------
    >>> statistics_of(np.array([[0, 1, 2, 3, 4, -32768]], np.int16)).round(3).tolist()
    [[2.0, 1.4830000400543213]]
    """
    rows = []
    for channel in signal:
        known = channel[channel != MISSING]
        if not len(known):
            rows.append((0.0, 1.0))
            continue
        low, middle, high = np.percentile(known, (25, 50, 75))
        deviation = (high - low) / NORMAL_IQR or float(known.std()) or 1.0
        rows.append((middle, deviation))
    return np.array(rows, dtype=np.float32)


def standardised(values: NDArray[np.int16], statistics: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return stored integers in thousandths of their recording's deviation from its median.

    Parameters
    ----------
    values : int16 (..., C, T)
        As stored; missing samples stay missing.
    statistics : float32 (..., C, 2)
        As ``statistics_of`` gives them.

    Returns
    -------
    int16 (..., C, T)
        Clipped at 32.767 deviations.

    Examples
    --------
    >>> standardised(np.array([[5, -32768]], np.int16), np.array([[3, 4]], np.float32)).tolist()
    [[500, -32768]]
    """
    median, deviation = statistics[..., :1], statistics[..., 1:]
    scaled: NDArray[Any] = (values - median) * (DEVIATION / deviation)
    largest = np.iinfo(np.int16).max
    whole = scaled.round().clip(-largest, largest).astype(np.int16)
    whole[values == MISSING] = MISSING
    return whole


def deviations(signal: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return a recording (C, T) in deviations from its median, float32; missing samples are NaN.

    What an exported model of ``normalise: recording`` takes windows of.

    Examples
    --------
    >>> deviations(np.array([[0, 1, 2, 3, 4, -32768]], np.int16)).round(1).tolist()
    [[-1.2999999523162842, -0.699999988079071, 0.0, 0.699999988079071, 1.2999999523162842, nan]]
    """
    whole = standardised(signal, statistics_of(signal))
    return np.where(whole == MISSING, np.float32("nan"), whole / np.float32(DEVIATION))


def as_trained(signal: NDArray[np.int16], normalise: Normalisation) -> NDArray[np.int16]:
    """Return a whole recording (C, T) in the integers that a network's windows are cut from."""
    return standardised(signal, statistics_of(signal)) if normalise == "recording" else signal
