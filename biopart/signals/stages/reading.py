"""Read a hypnogram of any supported kind and align it with the clock of its recording."""

import pickle
import tokenize
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

import numpy as np

from biopart.signals.clock import clock_text, seconds_after, time_of
from biopart.signals.readers import open_recording
from biopart.signals.readers.opening import edf_format
from biopart.signals.recording import Mark, Recording, Start
from biopart.signals.stages.marks import no_stage_sentence, stages_among
from biopart.signals.stages.scoring import Night, Scoring, lies_inside
from biopart.signals.stages.tables import read_stage_table, stages_in_order
from biopart.signals.stages.xml import read_stage_xml
from biopart.store.label_rules import StageLabels

# What numpy raises on damaged files.
_NUMPY = (
    *(ValueError, OSError, EOFError, LookupError, TypeError, SyntaxError, MemoryError),
    *(ArithmeticError, zipfile.BadZipFile, tokenize.TokenError, pickle.UnpicklingError),
)
TEXTS = (".csv", ".tsv", ".txt", ".ids", ".hyp", ".eannot", ".tab", ".dat")
KINDS = (
    "a hypnogram is EDF+ or BDF+ annotations, a WFDB annotation file beside its header, a text "
    "file (.csv .tsv .txt ...), NSRR or Compumedics Profusion XML, or a .npy array of stages"
)


def read_stage_file(
    path: Path,
    rule: StageLabels | None = None,
    night: Night | None = None,
    *,
    epoch_s: float = 30.0,
) -> tuple[Mark, ...]:
    """Read a hypnogram from its own file and align it with the clock of its recording.

    Parameters
    ----------
    path
        An EDF+ or BDF+ file with annotations, a WFDB annotation file with its header beside it, a
        text file with one stage per line or with columns, NSRR or Profusion XML, or a numpy
        array.
    rule
        Words, codes and columns that a card adds.
    night
        What is known about the recording; by default only the length of an epoch.
    epoch_s
        That length in seconds, if no night is given.

    Returns
    -------
    marks
        In order of their onset; texts are W, N1, N2, N3, R and ``?`` for unscored.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file does not exist, has no stages, or is ambiguous.
    """
    return read_scoring(path, rule or StageLabels(), night or Night(epoch_s=epoch_s)).marks


def read_scoring(path: Path, rule: StageLabels, night: Night) -> Scoring:
    """Read a hypnogram with its warnings; arguments and errors as for read_stage_file."""
    if not path.exists():
        raise FileNotFoundError(
            f"hypnogram {path} does not exist; give the path of an existing file"
        )
    scoring = replace(_read(path, rule, night), name=path.name)
    return on_clock(scoring, night, path.name) if rule.clock == "compare" else scoring


def _read(path: Path, rule: StageLabels, night: Night) -> Scoring:
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return read_stage_xml(path, rule)
    if suffix == ".npy":
        return _array(path, rule, night)
    if edf_format(path) is not None:
        recording = open_recording(path)
        scoring = of_recording(recording, rule)
        return replace(scoring, warnings=(*recording.warnings, *scoring.warnings))
    if suffix not in (".hea", ".mat") and path.with_suffix(".hea").exists():
        return of_annotation(path, rule)
    if suffix in TEXTS:
        return read_stage_table(path, rule, night)
    raise ValueError(f"{path.name} has no supported format: {KINDS}")


def of_annotation(path: Path, rule: StageLabels) -> Scoring:
    """Read the stages of a WFDB annotation file from its notes, not from its symbols."""
    from biopart.signals.readers.wfdb_marks import read_annotations

    marks = read_annotations(path.with_suffix(""), path.suffix[1:], text="note")
    return _of_marks(path.name, marks, rule)


def of_recording(recording: Recording, rule: StageLabels) -> Scoring:
    """Read the stages among the annotations of a recording, or of an annotation file."""
    scoring = _of_marks(recording.path.name, recording.marks, rule)
    return replace(scoring, start=stated_start(recording))


def stated_start(recording: Recording) -> Start | None:
    """Return the start of a recording; None if it is only a placeholder for an unknown start.

    Placeholders are midnights of a first of January, such as EDF+'s 1 January 1985.
    """
    start = recording.start
    if isinstance(start, datetime) and (start.month, start.day, time_of(start)) == (1, 1, time()):
        return None
    return start


def _of_marks(name: str, marks: Sequence[Mark], rule: StageLabels) -> Scoring:
    staging = stages_among(marks, rule)
    if not staging.known:
        raise ValueError(no_stage_sentence(name, [mark.text for mark in marks]))
    return Scoring(staging.marks, warnings=staging.warnings, name=name)


def _array(path: Path, rule: StageLabels, night: Night) -> Scoring:
    """Read a numpy array of one stage per epoch, or of the probabilities of stages (U-Sleep)."""
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except _NUMPY as error:
        raise ValueError(f"{path.name} is not a plain numpy array ({error})") from None
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{path.name} has several arrays; save one array of stages as .npy")
    values = np.atleast_1d(np.squeeze(values))
    if values.ndim != 1:
        raise ValueError(
            f"{path.name} has the shape {values.shape}; a hypnogram is one stage per epoch"
        )
    try:
        return stages_in_order([f"{value}" for value in values.tolist()], rule, night)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def on_clock(scoring: Scoring, night: Night, name: str) -> Scoring:
    """Shift the marks of a hypnogram by the difference between its start and the recording's.

    Raises ValueError if none of them then lies in the recording.
    """
    if scoring.start is None or night.start is None:
        return scoring
    several = [
        round(seconds, 6)
        for seconds in (
            seconds_after(scoring.start, night.start),
            seconds_after(time_of(scoring.start), time_of(night.start)),
        )
    ]
    for difference in several:  # the date may differ from that of the recording's first sample
        marks = tuple(replace(m, onset_s=round(m.onset_s + difference, 6)) for m in scoring.marks)
        if lies_inside(marks, night):
            break
    starts = f"{name} starts at {clock_text(scoring.start)}, the recording at "
    starts += clock_text(night.start)
    if not lies_inside(marks, night):
        raise ValueError(
            f"{starts}: shifted by {difference:+g} s, none of its marks lies in the recording; "
            "give the hypnogram of this recording, or set labels.clock: ignore"
        )
    if difference == 0:
        return scoring
    warning = f"{starts}: its marks were shifted by {difference:+g} s"
    return replace(scoring, start=night.start, marks=marks, warnings=(*scoring.warnings, warning))
