"""Sleep stages: their spellings, and from marks on a recording's clock to labels of epochs.

Codes are W=0, N1=1, N2=2, N3=3, R=4 and -1 for unscored, artefact and movement. Rechtschaffen and
Kales' stages 3 and 4 are N3, as the AASM manual has it. Epochs are counted in samples.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.signals.readers import open_recording
from biopart.signals.recording import Mark
from biopart.store.label_rules import STAGES

_WORDS = {
    **dict.fromkeys(("w", "wake", "awake", "wakefulness"), 0),
    **dict.fromkeys(("r", "rem", "remsleep"), 4),
    **{f"{kind}{stage}": min(stage, 3) for kind in ("n", "s", "nrem") for stage in (1, 2, 3, 4)},
    **dict.fromkeys(("?", "mt", "movement", "movementtime", "artefact", "artifact"), -1),
    **dict.fromkeys(("unscored", "notscored", "unknown"), -1),
}
_STAGE = re.compile(r"(?:sleep[ _]?)?stage[ _:-]*(\S+(?: (?:[1-4]|time|sleep|scored))?)")
_COLUMNS = "columns epoch,stage or onset_s,duration_s,stage, or one stage per line"


def stage_code(text: str) -> int | None:
    """Return the code of a stage mark, None if the text is no stage mark at all.

    Any case; ``N2``, ``S2``, ``NREM 2``, ``Stage 2``, ``Sleep stage 2``, ``REM``, ``WAKE``,
    ``Movement time``, ``Sleep stage ?`` and the like. A digit alone is no stage mark: what it
    means depends on the file (``numeric_stage``). An unknown word after ``Sleep stage`` is
    unscored.

    >>> [stage_code(text) for text in ("Sleep stage 4", "Rem", "MT", "(arousal_rera", "2")]
    [3, 4, -1, None, None]
    """
    plain = " ".join(text.split()).casefold()
    prefixed = _STAGE.fullmatch(plain)
    if prefixed is None:
        return _WORDS.get(plain.replace(" ", ""))
    word = prefixed[1].replace(" ", "")
    if word in ("1", "2", "3", "4"):
        return min(int(word), 3)
    return _WORDS.get(word, -1)


def numeric_stage(number: int) -> str:
    """Return the stage that a number means: 0 W, 1 N1, 2 N2, 3 and 4 N3, 5 R, negative ``?``.

    This is the convention of Walch et al. 2019 (PhysioNet sleep-accel) and of most numbered
    hypnograms; other numbers raise ValueError.

    >>> [numeric_stage(number) for number in (0, 4, 5, -1)]
    ['W', 'N3', 'R', '?']
    """
    if number < 0:
        return "?"
    if number > 5:
        raise ValueError(
            f"Stage {number} is unknown: a numbered hypnogram has 0 W, 1 N1, 2 N2, 3 and 4 N3, "
            "5 R and -1 unscored."
        )
    return STAGES[(0, 1, 2, 3, 3, 4)[number]]


def label_epochs(
    marks: Sequence[Mark],
    codes: Callable[[str], int | None],
    *,
    n_samples: int,
    sfreq_hz: float,
    epoch: int,
) -> NDArray[np.int8]:
    """Label epochs with the code that covers more than half of each, else -1.

    Parameters
    ----------
    marks
        Marks on the recording's clock, in any order. One without a duration (None or 0) holds to
        the next that has a code, the last one to the end; of overlapping marks the later onset
        wins. What is before the first is -1.
    codes
        Code of a mark's text, None for marks that are none, such as ``stage_code``.
    n_samples, sfreq_hz
        Length in samples and rate of the signal.
    epoch
        Length of an epoch in samples; epoch e is samples [e * epoch, (e + 1) * epoch).

    Returns
    -------
    labels
        (n_samples // epoch,)

    Raises
    ------
    ValueError
        If a mark other than -1 begins at or beyond the end of the signal, or runs beyond it by
        more than one epoch.

    >>> label_epochs([Mark(2, "W")], stage_code, n_samples=9, sfreq_hz=1, epoch=3)
    array([-1,  0,  0], dtype=int8)
    """
    labels = np.full(n_samples, -1, np.int8)
    runs = _runs(marks, codes, n_samples=n_samples, sfreq_hz=sfreq_hz)
    for start, stop, code, text in runs:
        if code != -1 and (start >= n_samples or stop > n_samples + epoch):
            raise ValueError(
                f"Mark {text!r} covers {start / sfreq_hz:g} s to {stop / sfreq_hz:g} s, but the "
                f"signal ends at {n_samples / sfreq_hz:g} s: give the marks of this recording."
            )
        labels[max(start, 0) : max(stop, 0)] = code
    n_epochs = n_samples // epoch
    epochs = labels[: n_epochs * epoch].reshape(n_epochs, epoch)
    result = np.full(n_epochs, -1, np.int8)
    for code in {code for _, _, code, _ in runs}:
        result[2 * (epochs == code).sum(axis=1) > epoch] = code
    return result


def unscored_tail_s(
    marks: Sequence[Mark], codes: Callable[[str], int | None], *, duration_s: float
) -> float:
    """Return how many seconds at the end of a recording no mark with a code covers.

    Parameters
    ----------
    marks, codes
        As for ``label_epochs``.
    duration_s
        Length of the recording in seconds; returned whole if there is no such mark.

    >>> unscored_tail_s([Mark(0, "W", 30), Mark(30, "N1", 30)], stage_code, duration_s=90)
    30.0
    """
    coded = [mark for mark in marks if codes(mark.text) is not None]
    last = max(coded, key=lambda mark: mark.onset_s, default=None)
    if last is not None and not last.duration_s:
        return 0.0
    end_s = max((mark.onset_s + (mark.duration_s or 0.0) for mark in coded), default=0.0)
    return max(0.0, float(duration_s - end_s))


def read_stage_file(path: Path, *, epoch_s: float = 30.0) -> tuple[Mark, ...]:
    """Read a hypnogram from a file of its own.

    Parameters
    ----------
    path
        An EDF+ file with annotations, a WFDB annotation file with its header beside it, or a table
        (``.csv``, ``.tsv``, ``.txt``) with the columns ``epoch`` (from 0 or 1) and ``stage``,
        or ``onset_s``, ``stage`` and perhaps ``duration_s``, or with one stage per line. Numbers
        mean what ``numeric_stage`` says.
    epoch_s
        Length in seconds of an epoch of a table that gives no times.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it has no stages, or a stage that is unknown.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no hypnogram {path}: give a file that exists.")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _read_table(path, epoch_s)
    if path.suffix not in (".hea", ".dat", ".mat") and path.with_suffix(".hea").exists():
        from biopart.signals.readers.wfdb_marks import read_annotations

        marks = read_annotations(path.with_suffix(""), path.suffix[1:])
    else:
        marks = open_recording(path).marks
    if all(stage_code(mark.text) is None for mark in marks):
        raise ValueError(f"None of the {len(marks)} annotations of {path.name} is a sleep stage.")
    return marks


def _read_table(path: Path, epoch_s: float) -> tuple[Mark, ...]:
    """Read a table of stages; the separator is the first of tab, semicolon and comma in it."""
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path.name} is empty: a hypnogram has {_COLUMNS}.")
    separator = next((mark for mark in "\t;," if mark in lines[0]), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    names = [name.casefold() for name in rows[0]]
    if len(names) == 1 and names != ["stage"]:
        names = ["stage"]
    else:
        rows = rows[1:]
    uneven = next((row for row in rows if len(row) != len(names)), None)
    if uneven is not None:
        raise ValueError(
            f"{path.name} has a row of {len(uneven)} cells where {len(names)} were expected "
            f"({','.join(uneven)}); a hypnogram has {_COLUMNS}."
        )
    try:
        return tuple(_table_marks([dict(zip(names, row, strict=True)) for row in rows], epoch_s))
    except (KeyError, ValueError) as error:
        reason = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path.name}: {reason}; a hypnogram has {_COLUMNS}.") from None


def _table_marks(rows: Sequence[Mapping[str, str]], epoch_s: float) -> Iterator[Mark]:
    """Turn the rows of a table into marks; epochs may be counted from 0 or from 1."""
    first = min((int(row["epoch"]) for row in rows if "epoch" in row), default=0)
    if first not in (0, 1):
        raise ValueError(f"its epochs begin with {first}, neither 0 nor 1")
    for index, row in enumerate(rows):
        text = _stage_text(row["stage"])
        if "onset_s" in row:
            duration = row.get("duration_s")
            yield Mark(float(row["onset_s"]), text, float(duration) if duration else None)
        elif "epoch" in row or len(row) == 1:
            epoch = int(row["epoch"]) - first if "epoch" in row else index
            yield Mark(epoch * epoch_s, text, epoch_s)
        else:
            raise KeyError("onset_s")


def _stage_text(cell: str) -> str:
    """Check a stage of a table; numbers become the stages that they mean."""
    if re.fullmatch(r"-?\d+(\.0+)?", cell):
        return numeric_stage(int(float(cell)))
    if stage_code(cell) is None:
        raise ValueError(f"{cell!r} is no sleep stage")
    return cell


def _runs(
    marks: Sequence[Mark],
    codes: Callable[[str], int | None],
    *,
    n_samples: int,
    sfreq_hz: float,
) -> list[tuple[int, int, int, str]]:
    """Return start and stop in samples, code and text of each coded mark, in order of onset."""
    coded = [
        (mark, code)
        for mark in sorted(marks, key=lambda mark: mark.onset_s)
        if (code := codes(mark.text)) is not None
    ]
    starts = [round(mark.onset_s * sfreq_hz) for mark, _ in coded]
    stops = [min(stop, n_samples) for stop in (*starts[1:], n_samples)]
    return [
        (
            start,
            round((mark.onset_s + mark.duration_s) * sfreq_hz) if mark.duration_s else stop,
            code,
            mark.text,
        )
        for (mark, code), start, stop in zip(coded, starts, stops[: len(coded)], strict=True)
    ]
