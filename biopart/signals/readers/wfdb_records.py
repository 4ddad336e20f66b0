"""WFDB records of one or several segments, through wfdb.

Physical value = (digital - baseline) / gain. Segments are joined here and not by wfdb, which uses
the gain of the first segment for all of them and fails on a signal that no segment has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.signals.readers.wfdb_headers import (
    MISSING,
    Header,
    count_frames,
    read_header,
    refusals,
    wfdb,
    with_length,
)
from biopart.signals.recording import Channel, Recording, unique_names
from biopart.signals.units import unit_name

_WIDE = ("8", "24", "32", "524")  # formats of more than 16 bits; 8 holds differences
_NARROW = ("16", "80", "160", "212", "310", "311", "508", "516")
_BLOCK = 16384  # samples copied at once, so that interleaved signals share the cache


@dataclass(frozen=True)
class _Segment:
    """A section of a record, in frames; ``places`` maps signals of the record to its own."""

    header: Header
    start: int
    n_frames: int
    places: Mapping[int, int]

    def field(self, name: str, signal: int) -> Any:
        """Return a field of the header for one signal of the record."""
        return getattr(self.header.record, name)[self.places[signal]]


def open_wfdb(path: Path) -> Recording:
    """Open the WFDB record of a header, of one or several segments.

    Raises
    ------
    FileNotFoundError
        If the header, a segment's header or a signal file is missing.
    ValueError
        If a header cannot be interpreted, a signal file is too short, or scales differ by segment.
    """
    header = read_header(path)
    if hasattr(header.record, "seg_name"):
        layout, segments, n_frames = _segments(header)
    else:
        n_frames = count_frames(header)
        layout = header = with_length(header, n_frames)
        segments = [_Segment(header, 0, n_frames, {i: i for i in range(header.record.n_sig)})]
    names, warnings = unique_names([name or "" for name in layout.record.sig_name or ()])
    channels = []
    for index, name in enumerate(names):
        holders = [segment for segment in segments if index in segment.places]
        if not holders:
            warnings += (
                f"Signal {name} is in no segment of {path.name}: all samples are missing.",
            )
        channels.append(_channel(name, index, layout, holders, n_frames=n_frames))
    return Recording(
        path=path,
        channels=tuple(channels),
        load=lambda indices: _load(indices, segments, channels),
        start=header.record.base_datetime or header.record.base_time,
        warnings=warnings,
        files=_files(header, segments),
    )


def _files(header: Header, segments: Sequence[_Segment]) -> tuple[Path, ...]:
    """Return the header, those of its segments, and the signal files of all."""
    headers = dict.fromkeys([header.path, *(segment.header.path for segment in segments)])
    signals = dict.fromkeys(
        segment.header.path.parent / name
        for segment in segments
        for name in segment.header.record.file_name or ()
    )
    return (*headers, *signals)


def _segments(header: Header) -> tuple[Header, list[_Segment], int]:
    """Read the headers of all segments: the one with the signal names, the others, the frames."""
    record, folder = header.record, header.path.parent
    layout: Header | None = None
    segments: list[_Segment] = []
    start = 0
    for name, n_frames in zip(record.seg_name, record.seg_len, strict=True):
        if name != "~":
            segment = read_header(folder / f"{name}.hea")
            layout = layout or segment
            if n_frames:
                _check_length(header, segment, n_frames)
                segments.append(
                    _Segment(segment, start, n_frames, _places(record, layout, segment))
                )
        start += n_frames
    if layout is None or (record.sig_len or start) != start:
        raise ValueError(
            f"{header.path.name} states {record.sig_len} frames, its segments have {start} in all; "
            "copy the record again."
        )
    return layout, segments, start


def _check_length(header: Header, segment: Header, n_frames: int) -> None:
    found = count_frames(segment)
    if found != n_frames:
        raise ValueError(
            f"{header.path.name} needs {n_frames} frames of its segment {segment.path.name}, "
            f"which has {found}; copy it again."
        )


def _places(record: Any, layout: Header, segment: Header) -> dict[int, int]:
    """Map the signals of a record to those of a segment: by position, or by name if they vary."""
    if record.layout == "fixed":
        return {index: index for index in range(record.n_sig)}
    names = segment.record.sig_name
    return {i: names.index(name) for i, name in enumerate(layout.record.sig_name) if name in names}


def _channel(
    name: str, index: int, layout: Header, holders: Sequence[_Segment], *, n_frames: int
) -> Channel:
    """Describe a signal; all segments that have it must agree on scale and rate."""
    per_frame = layout.record.samps_per_frame[index] or 1
    scales = {
        (s.field("adc_gain", index), s.field("baseline", index), s.field("units", index))
        for s in holders
    }
    rates = {s.field("samps_per_frame", index) or 1 for s in holders} | {per_frame}
    if len(scales) > 1 or len(rates) > 1:
        raise ValueError(
            f"{layout.path.name}: the segments store signal {name} with different gains, units or "
            f"rates {sorted(map(str, scales or rates))}: write it as a record of one segment."
        )
    gain, baseline, unit = scales.pop() if scales else (1.0, 0, layout.record.units[index])
    missing = min((MISSING[s.field("fmt", index)] for s in holders), default=MISSING["16"])
    resolution, zero = (layout.record.adc_res[index], layout.record.adc_zero[index])
    lowest, highest = _limits(resolution, zero, missing)
    return Channel(
        name=name,
        unit=unit_name(unit),
        sfreq_hz=float(layout.record.fs * per_frame),
        n_samples=n_frames * per_frame,
        scale=1.0 / gain,
        offset=-baseline / gain,
        missing=missing,
        digital_min=lowest,
        digital_max=highest,
    )


def _limits(
    resolution: int | None, zero: int | None, missing: int
) -> tuple[int, int] | tuple[None, None]:
    """Return the range of the converter, which signal(5) centres on its zero; None = not stated."""
    if not resolution:
        return None, None
    half, centre = 2 ** (resolution - 1), zero or 0
    lowest = centre - half
    return lowest + (lowest == missing), centre + half - 1


def _load(
    indices: Sequence[int], segments: Sequence[_Segment], channels: Sequence[Channel]
) -> list[NDArray[np.integer]]:
    """Read the digital samples of signals; sections that no segment covers are missing."""
    values: dict[int, NDArray[np.integer]] = {}
    for index in indices:
        formats = {s.field("fmt", index) for s in segments if index in s.places}
        dtype = np.int32 if formats & set(_WIDE) else np.int16
        values[index] = np.full(channels[index].n_samples, channels[index].missing, dtype)
    for segment in segments:
        held = [index for index in values if index in segment.places]
        for group in (_WIDE, _NARROW, ("61",)):
            chosen = [index for index in held if segment.field("fmt", index) in group]
            if chosen:
                _copy(_read(segment, chosen, group), [values[i] for i in chosen], segment)
        for index in held:
            _translate(values[index], segment, index, channels[index])
    return [values[index] for index in indices]


def _read(segment: _Segment, signals: Sequence[int], formats: Sequence[str]) -> Any:
    """Read signals of one segment, all of these formats, as a wfdb record of digital samples."""
    options = {"channels": [segment.places[index] for index in signals], "smooth_frames": False}
    sentence = f"wfdb cannot read the signals of {segment.header.path.name}, copy it again"
    with refusals(sentence), segment.header.readable() as name:
        if formats != ("61",):
            bits = 32 if formats == _WIDE else 16
            return wfdb.rdrecord(name, physical=False, return_res=bits, **options)
        # wfdb 4.3.1 cannot give the integers of this big-endian format: derive them from its
        # values.
        record = wfdb.rdrecord(name, **options)
    record.e_d_signal = [
        np.where(np.isnan(physical), MISSING["61"], np.rint(physical * gain + baseline))
        for physical, gain, baseline in zip(
            record.e_p_signal, record.adc_gain, record.baseline, strict=True
        )
    ]
    return record


def _copy(record: Any, targets: Sequence[NDArray[np.integer]], segment: _Segment) -> None:
    """Copy a segment's samples, strided views of one array, into the signals."""
    starts = [segment.start * (n or 1) for n in record.samps_per_frame]
    for first in range(0, max(map(len, record.e_d_signal)), _BLOCK):
        for target, source, start in zip(targets, record.e_d_signal, starts, strict=True):
            block = source[first : first + _BLOCK]
            target[start + first : start + first + len(block)] = block


def _translate(
    values: NDArray[np.integer], segment: _Segment, index: int, channel: Channel
) -> None:
    """Replace the missing code of a segment by that of the whole record, if they differ."""
    code = MISSING[segment.field("fmt", index)]
    if channel.missing is not None and code != channel.missing:
        per_frame = segment.field("samps_per_frame", index) or 1
        start = segment.start * per_frame
        stretch = values[start : start + segment.n_frames * per_frame]
        stretch[stretch == code] = channel.missing
