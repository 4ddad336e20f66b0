"""Annotations of EDF+ and BDF+: time-stamped lists, record times and the check for gaps.

Source: Kemp and Olivan 2003, EDF+ specification, sections 2.2.2 to 2.2.4. An annotation list is
``onset [0x15 duration] 0x14 text 0x14 ... 0x00``; the first list of a data record has an empty
text and states when the record starts.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biopart.signals.recording import Mark

_ONSET = re.compile(rb"([+-]\d+(?:[.,]\d*)?)(?:\x15(\d*(?:[.,]\d*)?))?")
_TIMED = re.compile(rb"([+-]\d+(?:[.,]\d*)?)\x14")
_DRIFT_S = 1.0  # between the times that records state and their stated length
_ROUNDED_S = 0.001  # error of writers that round times to milliseconds, with a small margin


def first_onset_s(records: NDArray[np.uint8]) -> float:
    """Return the time of the first data record, (record, byte), after the header's start."""
    onset = _TIMED.match(records[0].tobytes())
    return _seconds(onset[1]) if onset else 0.0


def read_marks(
    signals: Sequence[NDArray[np.uint8]], offset_s: float
) -> tuple[tuple[Mark, ...], tuple[str, ...]]:
    """Read the annotations of all annotation signals, in order of time.

    Lists that deviate from the specification are accepted: an empty duration, a decimal comma, a
    missing closing byte.

    Parameters
    ----------
    signals
        Bytes of each annotation signal, (record, byte).
    offset_s
        Time of the first data record; onsets are counted from there.

    Returns
    -------
    marks, warnings
        The warnings count lists without an onset.
    """
    marks: list[Mark] = []
    lost = 0
    for records in signals:
        for row in records:
            for given in row.tobytes().split(b"\0"):
                onset = None
                parts = given.split(b"\x14")
                for part, after in zip(parts, (*parts[1:], b""), strict=True):
                    found = _ONSET.fullmatch(part)
                    if found is not None and (onset is None or after):
                        onset = found  # of a list that follows without a closing byte, unless first
                    elif part and onset is not None:
                        marks.append(_mark(onset, part, offset_s))
                    elif part.strip():
                        lost += 1
    warnings = (f"{lost} annotations have no onset and were skipped.",) if lost else ()
    return tuple(sorted(marks, key=lambda mark: mark.onset_s)), warnings


def _mark(onset: re.Match[bytes], text: bytes, offset_s: float) -> Mark:
    duration = _seconds(onset[2]) if (onset[2] or b"").strip(b".,") else None
    return Mark(round(_seconds(onset[1]) - offset_s, 9), _decode(text), duration)


def _seconds(number: bytes) -> float:
    return float(number.replace(b",", b"."))


def check_continuous(
    name: str,
    records: NDArray[np.uint8] | None,
    *,
    record_s: float,
    tolerance_s: float,
    discontinuous: bool,
) -> None:
    """Raise ValueError at the first data record that does not follow the previous one.

    Parameters
    ----------
    name
        Name of the file, for the message.
    records
        Bytes of the first annotation signal, (record, byte); None = the file has none.
    record_s, tolerance_s
        Duration of a record and half a sample of the fastest signal, in seconds; times
        rounded to milliseconds are not gaps either.
    discontinuous
        Whether the header says EDF+D; then every record must state its time.
    """
    step_s = max(tolerance_s, _ROUNDED_S * 1.01)
    last: tuple[int, float] | None = None
    first: tuple[int, float] | None = None
    for index, row in enumerate(records if records is not None else ()):
        onset = _TIMED.match(row.tobytes())
        if onset is None and discontinuous:
            raise ValueError(
                f"{name} is discontinuous (EDF+D) and data record {index} does not state when it "
                "starts: export it as a continuous EDF."
            )
        if onset is None:
            continue
        now = _seconds(onset[1])
        if last is not None:
            expected = last[1] + record_s * (index - last[0])
            if abs(now - expected) > step_s:
                raise ValueError(
                    f"{name} is discontinuous (EDF+D): the first gap is at {expected:g} s, "
                    f"the next record starts at {now:g} s; export it without gaps."
                )
        last, first = (index, now), first or (index, now)
        drift = now - first[1] - record_s * (index - first[0])
        if abs(drift) > max(_DRIFT_S, tolerance_s):
            raise ValueError(
                f"{name} has data records of {record_s:g} s by its header, but after {index} "
                f"records the times differ by {drift:+.3g} s; export it with the correct duration."
            )
    if discontinuous and records is None:
        raise ValueError(
            f"{name} is discontinuous (EDF+D) but has no annotations that locate the gaps; "
            "export it as a continuous EDF."
        )


def _decode(text: bytes) -> str:
    """Decode a text as UTF-8, as specified, else as Latin-1, as old writers did."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")
