"""Every other format through mne: BrainVision, EEGLAB, FIF, GDF, Neuroscan, Nihon Kohden, ...

mne gives floating-point values in SI units, so the integers of the source are not available. They
are quantised again, in steps far below those of any converter, so that a Recording keeps its form:
integers and a scale.
"""

import configparser
import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from biopart.signals.readers.in_memory import recording_of_array
from biopart.signals.recording import Channel, Mark, Recording, unique_names

_ELECTRICAL = ("eeg", "seeg", "ecog", "dbs", "eog", "ecg", "emg", "bio")
_OTHER_UNITS = {"mag": "T", "ref_meg": "T", "grad": "T/m", "gsr": "S", "temperature": "C"}
_MISSING = int(np.iinfo(np.int64).min)
FORMATS = (
    "EDF, EDF+, BDF, WFDB with its .hea header, WAV, tables with a time column, and what "
    "mne.io.read_raw opens"
)
# What mne raises on files that it cannot read, besides its own RuntimeErrors and ValueErrors.
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
    SyntaxError,
    ArithmeticError,
    EOFError,
    MemoryError,
    zlib.error,
)


def open_mne(path: Path) -> Recording:
    """Open a recording with ``mne.io.read_raw``; voltages are given in microvolts.

    Raises
    ------
    ValueError
        If mne cannot read the file; the message quotes mne.
    """
    # mne logs to stdout, which is for results; its warnings are raised as Python warnings too.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            raw = mne.io.read_raw(path, preload=False, verbose="WARNING")
        except _REFUSALS as error:
            raise ValueError(
                f"{path.name} has no supported format ({FORMATS}); mne reports: "
                f"{' '.join(str(error).split())}"
            ) from None
    if raw.n_times == 0:
        raise ValueError(f"{path.name} has no samples: copy it again.")
    names, renamed = unique_names(raw.ch_names)
    channels = tuple(
        _channel(name, kind, raw) for name, kind in zip(names, raw.get_channel_types(), strict=True)
    )
    return Recording(
        path=path,
        channels=channels,
        load=lambda indices: _load(indices, raw, channels),
        marks=marks_of_raw(raw),
        start=start_of_raw(raw),
        warnings=(*(" ".join(str(warning.message).split()) for warning in caught), *renamed),
        files=tuple(dict.fromkeys((path, *(Path(str(f)) for f in raw.filenames if f)))),
    )


def start_of_raw(raw: Any) -> datetime | None:
    """Return the time of the first sample of an ``mne.io.Raw``, after any cropping."""
    date: datetime | None = raw.info["meas_date"]
    if date is None:
        return None
    try:
        return date.replace(tzinfo=None) + timedelta(seconds=float(raw.first_time))
    except OverflowError:
        return None


def recording_of_raw(raw: Any) -> Recording:
    """Make a recording from an ``mne.io.Raw``, whose values are in volts; it is not modified.

    Cropping, date and annotations are kept.
    """
    recording = recording_of_array(
        raw.get_data(verbose="ERROR"),
        raw.ch_names,
        sfreq_hz=float(raw.info["sfreq"]),
        unit="V",
        name=Path(str((raw.filenames or ["raw"])[0] or "raw")).name,
        start=start_of_raw(raw),
    )
    return replace(recording, marks=marks_of_raw(raw))


def marks_of_raw(raw: Any) -> tuple[Mark, ...]:
    """Return mne's annotations with onsets from the first sample, not from the device's clock."""
    return tuple(
        Mark(
            round(float(note["onset"]) - raw.first_time, 9),
            str(note["description"]),
            float(note["duration"]) or None,
        )
        for note in raw.annotations
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
    """Read and quantise channels, each (time,) int64; NaN becomes the missing value."""
    wanted = sorted(set(indices))
    try:
        values = raw.get_data(picks=wanted, verbose="ERROR") if wanted else ()
    except _REFUSALS as error:
        raise ValueError(f"mne cannot read the samples: {' '.join(str(error).split())}") from None
    digital = {}
    for index, value in zip(wanted, values, strict=True):
        si = 1e-6 if channels[index].unit == "uV" else 1.0
        steps = np.rint(value / (si * channels[index].scale))
        steps[~np.isfinite(steps)] = _MISSING
        digital[index] = steps.astype(np.int64)
    return [digital[index] for index in indices]
