"""EDF, EDF+ and BDF: edfio decodes the header, samples are mapped and read on demand.

edfio itself maps EDF only and would read a whole BDF, at 19 bytes per sample, to open it.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import edfio

from biopart.signals.readers.edf_layout import N_RECORDS, RESERVED, START, Layout, read_layout
from biopart.signals.readers.edf_marks import check_continuous, first_onset_s, read_marks
from biopart.signals.recording import Channel, Recording, unique_names, unit_name


def open_edf(path: Path) -> Recording:
    """Open an EDF, EDF+ or BDF file; a name that comes twice is made unique with a warning.

    Raises
    ------
    ValueError
        If the file is empty, not EDF or BDF, shorter or longer than its header says, or has gaps
        in time (EDF+D); the message says which, with the time of the first gap.
    """
    layout = read_layout(path)
    ordinary = layout.indices(marks=False)
    marks = [layout.read(index) for index in layout.indices(marks=True)]
    if ordinary:
        check_continuous(
            path.name,
            marks[0] if marks else None,
            record_s=layout.record_s,
            tolerance_s=layout.record_s / max(layout.widths[index] for index in ordinary) / 2,
            discontinuous=layout.header[RESERVED].startswith((b"EDF+D", b"BDF+D")),
        )
    offset_s = first_onset_s(marks[0]) if marks else 0.0
    channels, warnings = _channels(layout)
    return Recording(
        path=path,
        channels=channels,
        load=lambda indices: [layout.samples(ordinary[index]) for index in indices],
        marks=read_marks(marks, offset_s),
        start=_start(layout.header[START], offset_s),
        warnings=(*layout.warnings, *warnings),
    )


def _channels(layout: Layout) -> tuple[tuple[Channel, ...], tuple[str, ...]]:
    """Describe the ordinary signals; edfio decodes a copy of the header that has no data."""
    header = layout.header
    no_records = header[: N_RECORDS.start] + b"0".ljust(8) + header[N_RECORDS.stop :]
    signals: Sequence[edfio.EdfSignal | edfio.BdfSignal]
    if layout.kind == "EDF":
        signals = edfio.read_edf(no_records, header_encoding=layout.encoding).signals
    else:
        signals = edfio.read_bdf(no_records, header_encoding=layout.encoding).signals
    names, warnings = unique_names([signal.label for signal in signals])
    channels = []
    for index, name in enumerate(names):
        signal = signals[index]
        try:
            channels.append(_channel(name, signal, layout))
        except ValueError as error:
            raise ValueError(
                f"{layout.path.name}: the header of signal {name} is damaged: {error}."
            ) from None
        if signal.digital_min == signal.digital_max or signal.physical_min == signal.physical_max:
            warnings += (f"Signal {name} states no range: its values are the file's integers.",)
    return tuple(channels), warnings


def _channel(name: str, signal: edfio.EdfSignal | edfio.BdfSignal, layout: Layout) -> Channel:
    """Describe one signal; without a usable range its values are the integers themselves."""
    steps = signal.digital_max - signal.digital_min
    extent = signal.physical_max - signal.physical_min
    usable = steps != 0 and extent != 0
    scale = extent / steps if usable else 1.0
    return Channel(
        name=name,
        unit=unit_name(signal.physical_dimension) if usable else "",
        sfreq_hz=signal.samples_per_data_record / layout.record_s,
        n_samples=signal.samples_per_data_record * layout.n_records,
        scale=scale,
        offset=signal.physical_max - signal.digital_max * scale if usable else 0.0,
        digital_min=signal.digital_min,
        digital_max=signal.digital_max,
    )


def _start(field: bytes, offset_s: float) -> datetime | None:
    """Return the start of the recording, None if the header states no date and time.

    Two digits stand for the years 1985 to 2084, as the EDF+ specification says.
    """
    parts = [int(part) for part in re.findall(rb"\d\d", field)]
    if len(parts) != 6:
        return None
    day, month, year, hour, minute, second = parts
    year += 1900 if year >= 85 else 2000
    try:
        start = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    return start + timedelta(seconds=offset_s)
