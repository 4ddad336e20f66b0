"""Every other format through mne: BrainVision, EEGLAB, FIF, GDF, Neuroscan, Nihon Kohden, ...

mne gives floating-point values in SI units, so that the integers of the source are not to be had.
They are quantised anew, to steps far below those of any converter, so that a Recording stays what
it is: integers and a scale.
"""

import configparser
import contextlib
import io
import struct
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from biopart.signals.recording import Channel, Mark, Recording, unique_names

_ELECTRICAL = ("eeg", "seeg", "ecog", "dbs", "eog", "ecg", "emg", "bio")
_OTHER_UNITS = {"mag": "T", "ref_meg": "T", "grad": "T/m", "gsr": "S", "temperature": "C"}
_MISSING = int(np.iinfo(np.int64).min)
# What mne raises on files that it cannot read, next to its own RuntimeErrors and ValueErrors.
_REFUSALS = (
    ValueError,
    RuntimeError,
    OSError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    ImportError,
    MatReadError,
    configparser.Error,
    struct.error,
)


def open_mne(path: Path) -> Recording:
    """Open a recording with ``mne.io.read_raw``; electrical channels are given in microvolt.

    Raises
    ------
    ValueError
        If mne cannot read the file; the message says what mne said.
    """
    # mne's log goes to stdout, which is for results; its warnings come as Python's as well.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            raw = mne.io.read_raw(path, preload=False, verbose="WARNING")
        except _REFUSALS as error:
            raise ValueError(
                f"{path.name} cannot be read as EDF, BDF or WFDB, and mne refuses it: "
                f"{' '.join(str(error).split())}"
            ) from None
    if raw.n_times == 0:
        raise ValueError(f"{path.name} holds no samples: copy it again.")
    names, renamed = unique_names(raw.ch_names)
    channels = tuple(
        _channel(name, kind, raw) for name, kind in zip(names, raw.get_channel_types(), strict=True)
    )
    date = raw.info["meas_date"]
    return Recording(
        path=path,
        channels=channels,
        load=lambda indices: _load(indices, raw, channels),
        marks=_marks(raw),
        start=date and date.replace(tzinfo=None) + timedelta(seconds=raw.first_time),
        warnings=(*(" ".join(str(warning.message).split()) for warning in caught), *renamed),
    )


def _channel(name: str, kind: str, raw: Any) -> Channel:
    """Describe a channel; the step is 1 nV, else 1e-9 of the unit, 1e-18 for magnetic fields."""
    unit = "uV" if kind in _ELECTRICAL else _OTHER_UNITS.get(kind, "")
    scale = 1e-3 if unit == "uV" else 1e-18 if unit.startswith("T") else 1e-9
    sfreq_hz = float(raw.info["sfreq"])
    return Channel(name, unit, sfreq_hz, int(raw.n_times), scale, missing=_MISSING)


def _load(
    indices: Sequence[int], raw: Any, channels: Sequence[Channel]
) -> list[NDArray[np.integer]]:
    """Read channels and quantise them, each (time,) int64; NaN becomes the missing value."""
    wanted = sorted(set(indices))
    values = raw.get_data(picks=wanted, verbose="ERROR") if wanted else ()
    digital = {}
    for index, value in zip(wanted, values, strict=True):
        si = 1e-6 if channels[index].unit == "uV" else 1.0
        steps = np.rint(value / (si * channels[index].scale))
        steps[~np.isfinite(steps)] = _MISSING
        digital[index] = steps.astype(np.int64)
    return [digital[index] for index in indices]


def _marks(raw: Any) -> tuple[Mark, ...]:
    """Return mne's annotations, which count from the clock of the device, from sample 0."""
    return tuple(
        Mark(
            round(float(note["onset"]) - raw.first_time, 9),
            str(note["description"]),
            float(note["duration"]) or None,
        )
        for note in raw.annotations
    )
