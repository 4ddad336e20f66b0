"""A recording as stored in its file: integers, a scale per channel, its own rates, marks.

Nothing is resampled, filtered or renamed here. Opening reads the header; samples are read on
demand, so that a file of 13 channels costs no more than the wanted channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

QUANTISED_MISSING = -(2**31)
Start = datetime | time
"""Time of sample 0: a time of day if the date is not stated."""
_FLOAT32_STEPS = 2**20  # an offset of more steps than this would round float32 values


@dataclass(frozen=True)
class Channel:
    """One signal of a recording; physical value = digital * scale + offset, in ``unit``.

    ``digital_min`` and ``digital_max`` are the limits that the file states (clipping starts
    there); ``missing`` is the integer for "no sample"; ``fault`` is the reason why the channel
    cannot be read, None = it can.
    """

    name: str
    unit: str
    sfreq_hz: float
    n_samples: int
    scale: float
    offset: float = 0.0
    digital_min: int | None = None
    digital_max: int | None = None
    missing: int | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Mark:
    """An annotation on the recording's own clock; ``duration_s`` None = until the next one."""

    onset_s: float
    text: str
    duration_s: float | None = None


@dataclass(frozen=True)
class Recording:
    """An opened recording; ``load`` reads the digital samples of channels by index.

    ``clock_s`` is the time at sample 0 on a clock shared with other files of the folder; ``files``
    are the files of the recording, the one that was opened first.
    """

    path: Path
    channels: tuple[Channel, ...]
    load: Callable[[Sequence[int]], list[NDArray[np.integer]]]
    marks: tuple[Mark, ...] = ()
    start: Start | None = None
    warnings: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = ()
    clock_s: float = 0.0
    files: tuple[Path, ...] = ()

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files of the recording, the one that was opened first."""
        return self.files or (self.path,)

    @property
    def names(self) -> tuple[str, ...]:
        """Channel names in file order, each unique."""
        return tuple(channel.name for channel in self.channels)

    @property
    def duration_s(self) -> float:
        """Length of the longest signal in seconds, 0 for a file of annotations only."""
        return max((channel.n_samples / channel.sfreq_hz for channel in self.channels), default=0.0)

    def indices(self, names: Sequence[str]) -> list[int]:
        """Return the positions of the named channels; ValueError lists the existing ones."""
        absent = [name for name in names if name not in self.names]
        if absent:
            raise ValueError(
                f"{self.path.name} has no channel {', '.join(map(repr, absent))}; "
                f"it has {', '.join(self.names) or 'none'}."
            )
        for channel in self.channels:
            if channel.name in names and channel.fault is not None:
                raise ValueError(
                    f"{self.path.name}: signal {channel.name} cannot be read, {channel.fault}"
                )
        return [self.names.index(name) for name in names]

    def digital(self, names: Sequence[str]) -> list[NDArray[np.integer]]:
        """Read the integers of the source for the named channels, each (time,)."""
        return self.load(self.indices(names))

    def physical(self, names: Sequence[str]) -> list[NDArray[np.floating]]:
        """Read physical values of the named channels, each (time,), missing samples as NaN.

        float32, or float64 if float32 could not represent a quantisation step of the source: more
        than 16 bits, or an offset far from the values.
        """
        channels = [self.channels[index] for index in self.indices(names)]
        return [
            to_physical(digital, channel)
            for digital, channel in zip(self.digital(names), channels, strict=True)
        ]


def to_physical(digital: NDArray[np.integer], channel: Channel) -> NDArray[np.floating]:
    """Scale the integers of a channel, (time,), to its unit; missing samples become NaN.

    >>> to_physical(np.array([-8, 0, 10], np.int16), Channel("ECG", "mV", 360, 3, 0.5, 1.0))
    array([-3.,  1.,  6.], dtype=float32)
    """
    wide = digital.dtype.itemsize > 2 or abs(channel.offset) > _FLOAT32_STEPS * abs(channel.scale)
    dtype = np.dtype(np.float64 if wide else np.float32)
    physical = digital.astype(dtype)
    physical *= dtype.type(channel.scale)
    physical += dtype.type(channel.offset)
    if channel.missing is not None:
        physical[digital == channel.missing] = np.nan
    return physical


def quantised(values: NDArray[np.float64]) -> tuple[NDArray[np.int32], float]:
    """Turn floats into integers and a scale: 2**-30 of the maximum; NaN is QUANTISED_MISSING.

    >>> quantised(np.array([2.0, -1.0, np.nan]))[0].tolist()
    [1073741824, -536870912, -2147483648]
    """
    finite = np.isfinite(values)
    peak = float(np.abs(values[finite]).max(initial=0.0))
    scale = peak / 2**30 if peak > 0 else 1.0
    steps = np.full(values.shape, QUANTISED_MISSING, dtype=np.int32)
    steps[finite] = np.rint(values[finite] / scale)
    return steps, scale


def unique_names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make channel names unique and report the changes.

    The first of several equal names is kept, the others become ``name-1``, ``name-2``, ...; an
    empty name becomes ``unnamed``.

    Returns
    -------
    names, warnings
        As many names as given, and one sentence per name that was shared or empty.

    >>> unique_names(["EEG", "EOG", "EEG"])
    (('EEG', 'EOG', 'EEG-1'), ('2 channels are called EEG: read as EEG, EEG-1.',))
    """
    taken = {name for name in names if name}
    given: dict[str, list[str]] = {}
    result = []
    for name in names:
        before = given.setdefault(name, [])
        new = name if name and not before else _free_name(name or "unnamed", taken, len(before))
        taken.add(new)
        before.append(new)
        result.append(new)
    warnings = [
        f"{len(new)} channels are called {old}: read as {', '.join(new)}."
        for old, new in given.items()
        if old and len(new) > 1
    ]
    warnings += [f"Channels without a name: read as {', '.join(given[''])}."] if "" in given else []
    return tuple(result), tuple(warnings)


def _free_name(name: str, taken: set[str], number: int) -> str:
    """Return the first of ``name-number``, ``name-number+1``, ... that is not taken."""
    if number == 0 and name not in taken:
        return name
    number = max(number, 1)
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
