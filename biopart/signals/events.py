"""Events of a recording by the rule of its card: start, stop and class of each."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.signals.companions import Stem, only_one
from biopart.signals.readers.opening import open_recording
from biopart.signals.readers.tables import Rows, read_rows
from biopart.signals.readers.wfdb_marks import read_annotations
from biopart.signals.recording import Mark, Recording
from biopart.store.card import Card
from biopart.store.event_rules import EventRule

ANNOTATED = (".edf", ".bdf")  # files with annotations, not tables


def events_of(
    recording: Recording, card: Card, samples: int, warnings: list[str]
) -> NDArray[np.int64] | None:
    """Return the events of a recording, sorted by their start; None where the card has no rule.

    An event that begins before the signal or ends after it is cut there, one that lies outside is
    left out; both are counted in ``warnings``.

    Parameters
    ----------
    recording : Recording
        Its marks, or files in its folder, have the events.
    card : Card
        The rule.
    samples : int
        Length of the signal at the rate of the card.
    warnings : list of str
        Gets a sentence if the file is missing, or events leave the signal.

    Returns
    -------
    int64 (event, 3)
        Start and stop in samples of the card's rate, and code of the class.

    Raises
    ------
    ValueError
        If several files fit, a table is damaged, or a mark of an event has no duration and the
        rule gives none.
    """
    rule = card.events
    if rule is None:
        return None
    found, rate = [], card.sfreq_hz
    n_cut = n_outside = 0
    marks = _marks(recording, rule, warnings)
    for mark in marks:
        code = rule.code_of(mark.text)
        if code is None:
            continue
        start, stop = _bounds(mark, rule, rate)
        if stop <= 0 or start >= samples:
            n_outside += 1
            continue
        n_cut += start < 0 or stop > samples
        found.append((max(start, 0), min(stop, samples), code))
    if marks and not found and not n_outside:
        texts = Counter(mark.text for mark in marks).most_common(5)
        listed = ", ".join(f"{text!r} ({count})" for text, count in texts)
        warnings.append(f"no mark is an event of the card; the most frequent texts are {listed}")
    if n_outside:
        warnings.append(f"{counted(n_outside)} outside the signal left out")
    if n_cut:
        warnings.append(f"{counted(n_cut)} cut at the ends of the signal")
    return np.array(sorted(found), np.int64).reshape(-1, 3)


def counted(number: int) -> str:
    """Return a number of events.

    Examples
    --------
    >>> counted(1), counted(2)
    ('1 event', '2 events')
    """
    return f"{number} event{'s' if number != 1 else ''}"


def event_file(path: Path, rule: EventRule) -> Path | None:
    """Return the file with the events of a recording, if it exists; ValueError if several fit."""
    if rule.annotation is not None:
        file = path.with_suffix(f".{rule.annotation}")
        return file if file.is_file() else None
    if rule.file is None:
        return None
    wanted = rule.file.format(stem=Stem(path.stem))
    return only_one(sorted(path.parent.glob(wanted)), path, "files of events")


def _marks(recording: Recording, rule: EventRule, warnings: list[str]) -> list[Mark]:
    """Return the marks that the rule looks at, on the clock of the recording."""
    if rule.annotation is None and rule.file is None:
        if not recording.marks:
            warnings.append("the recording has no annotations, so it has no events")
        return list(recording.marks)
    file = event_file(recording.path, rule)
    if file is None:
        wanted = rule.file or f"{{stem}}.{rule.annotation}"
        warnings.append(f"there is no event file {wanted}, so the recording has no events")
        return []
    if rule.annotation is not None:
        stem = recording.path.with_suffix("")
        return list(read_annotations(stem, rule.annotation, text="symbol"))
    if file.suffix.lower() in ANNOTATED:
        return list(open_recording(file).marks)
    rows = read_rows(file)
    onsets = rows.numbers(rows.column(rule.onset), absent=False) - recording.clock_s
    length, text = (_column(rows, name, rule) for name in ("duration", "text"))
    lasting = np.full(len(onsets), np.nan) if length is None else rows.numbers(length, absent=False)
    if text is None and len(rule.classes) > 1:
        raise ValueError(
            f"{file.name} has no column named text, and the card names none, so its events cannot "
            "be told apart; add text: NAME to the card's events"
        )
    only = next(iter(rule.classes.values()))[:1]
    texts = only * len(onsets) if text is None else [cells[text] for cells in rows.cells]
    return [
        Mark(float(onset), text, None if np.isnan(seconds) else float(seconds))
        for onset, text, seconds in zip(onsets, texts, lasting, strict=True)
    ]


def _column(rows: Rows, name: str, rule: EventRule) -> int | None:
    """Return the position of a column that the rule names, or that is named so; None without."""
    given: int | str | None = getattr(rule, name)
    if given is None and name not in rows.names:
        return None
    return rows.column(name if given is None else given)


def _bounds(mark: Mark, rule: EventRule, rate: float) -> tuple[int, int]:
    """Return start and stop of an event in samples, at least one apart."""
    if mark.duration_s is not None and not 0 <= mark.duration_s < np.inf:
        raise ValueError(
            f"the mark {mark.text!r} at {mark.onset_s:g} s has a duration of {mark.duration_s:g} "
            "s; correct its file"
        )
    if mark.duration_s:
        start_s, stop_s = mark.onset_s, mark.onset_s + mark.duration_s
    elif rule.before_s + rule.after_s > 0:
        start_s, stop_s = mark.onset_s - rule.before_s, mark.onset_s + rule.after_s
    else:
        raise ValueError(
            f"the mark {mark.text!r} at {mark.onset_s:g} s has no duration; name its column "
            "with duration: NAME in the card's events, or give before_s and after_s"
        )
    start = round(start_s * rate)
    return start, max(round(stop_s * rate), start + 1)
