"""EDF, EDF+ and BDF: edfio decodes the header; samples are mapped and read on demand.

edfio itself maps only EDF and would read a whole BDF, at 19 bytes per sample, to open it.
"""

import math
import re
from datetime import date, datetime, time
from pathlib import Path

import edfio

from biopart.signals.clock import moved
from biopart.signals.readers.edf_layout import RESERVED, START, Layout, read_layout
from biopart.signals.readers.edf_marks import check_continuous, first_onset_s, read_marks
from biopart.signals.recording import Channel, Recording, Start, unique_names
from biopart.signals.units import unit_name


def open_edf(path: Path) -> Recording:
    """Open an EDF, EDF+ or BDF file; duplicate names are made unique with a warning.

    Raises
    ------
    ValueError
        If the file is empty, not EDF or BDF, shorter or longer than its header says, or has gaps
        in time (EDF+D); the message states which, with the time of the first gap.
    """
    layout = read_layout(path)
    ordinary = layout.indices(marks=False)
    lists = [layout.read(index) for index in layout.indices(marks=True)]
    widest = max((layout.widths[index] for index in ordinary), default=0)
    if widest:
        check_continuous(
            path.name,
            lists[0] if lists else None,
            record_s=layout.record_s,
            tolerance_s=layout.record_s / widest / 2,
            discontinuous=layout.header[RESERVED].startswith((b"EDF+D", b"BDF+D")),
        )
    offset_s = first_onset_s(lists[0]) if lists else 0.0
    channels, warnings = _channels(layout)
    marks, lost = read_marks(lists, offset_s)
    return Recording(
        path=path,
        channels=channels,
        load=lambda indices: [layout.samples(ordinary[index]) for index in indices],
        marks=marks,
        start=_start(layout.header[START], offset_s),
        warnings=(*layout.warnings, *warnings, *lost),
    )


def _channels(layout: Layout) -> tuple[tuple[Channel, ...], tuple[str, ...]]:
    """Describe the ordinary signals; edfio decodes a copy of the header that has no data.

    Damage in the description of one signal is reported only if that signal is wanted.
    """
    decoded = _decoded(layout)
    names, warnings = unique_names([label for label, _ in decoded])
    channels = []
    for (_, signal), name, index in zip(decoded, names, layout.indices(marks=False), strict=True):
        channel = _channel(name, signal, layout, layout.widths[index])
        channels.append(channel)
        if channel.fault is None and not isinstance(signal, str) and not _usable(signal):
            warnings += (
                f"Signal {name} states no range: its values are the integers of the file.",
            )
    return tuple(channels), warnings


_Signal = edfio.EdfSignal | edfio.BdfSignal


def _decoded(layout: Layout) -> list[tuple[str, _Signal | str]]:
    """Return the label of each ordinary signal with its description, or what is damaged."""
    read = edfio.read_edf if layout.kind == "EDF" else edfio.read_bdf
    found: list[tuple[str, _Signal | str]] = []
    for index in layout.indices(marks=False):
        label = layout.labels[index]
        try:
            (signal,) = read(layout.header_of(index), header_encoding=layout.encoding).signals
            limits = signal.digital_min, signal.digital_max, signal.physical_min
            whole = all(math.isfinite(limit) for limit in (*limits, signal.physical_max))
            found.append((label, signal if whole else "its range is not a number"))
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            found.append((label, f"its range or unit cannot be read: {error}"))
    return found


def _usable(signal: _Signal) -> bool:
    """Tell whether a signal states a range for both its integers and its values."""
    whole = signal.digital_max != signal.digital_min
    return whole and signal.physical_max != signal.physical_min


def _channel(name: str, signal: _Signal | str, layout: Layout, width: int) -> Channel:
    """Describe one signal; without a usable range its values are the integers."""
    sfreq_hz, n_samples = width / (layout.record_s or 1.0), width * layout.n_records
    if isinstance(signal, str) or width == 0:
        fault = f"its header is damaged ({signal})" if width else "it has no samples"
        return Channel(name, "", sfreq_hz, n_samples, 1.0, fault=fault)
    usable = _usable(signal)
    steps, extent = signal.digital_max - signal.digital_min, signal.physical_max
    scale = (extent - signal.physical_min) / steps if usable else 1.0
    return Channel(
        name=name,
        unit=unit_name(signal.physical_dimension) if usable else "",
        sfreq_hz=sfreq_hz,
        n_samples=n_samples,
        scale=scale,
        offset=signal.physical_max - signal.digital_max * scale if usable else 0.0,
        digital_min=signal.digital_min,
        digital_max=signal.digital_max,
    )


def _start(field: bytes, offset_s: float) -> Start | None:
    """Return the start of the recording; a time without a date, or None, if that is all.

    Two digits stand for the years 1985 to 2084, as the EDF+ specification says.
    """
    day_of, clock_of = field[:8], field[8:]
    clock = _numbers(clock_of)
    try:
        moment = time(clock[0], clock[1], clock[2]) if len(clock) == 3 else None
    except ValueError:
        moment = None
    if moment is None:
        return None
    numbers = _numbers(day_of)
    try:
        day, month, year = numbers
        start = datetime.combine(date(year + (1900 if year >= 85 else 2000), month, day), moment)
    except ValueError:
        return moved(moment, offset_s)
    try:
        return moved(start, offset_s)
    except OverflowError:
        return None


def _numbers(field: bytes) -> list[int]:
    """Return the two-digit numbers of a date or a time."""
    return [int(part) for part in re.findall(rb"\d\d", field)]
