"""The content of a hypnogram, and what is known about its recording."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from biopart.signals.clock import clock_text
from biopart.signals.recording import Mark, Start
from biopart.store.label_rules import StageLabels

USUAL_EPOCHS_S = (30.0, 20.0)


@dataclass(frozen=True)
class Night:
    """Properties of a recording that determine how its hypnogram is read.

    Attributes
    ----------
    duration_s : float, optional
        Length of the recording; None = unknown.
    start : datetime or time, optional
        Time of sample 0; None = unknown.
    epoch_s : float
        Length of an epoch of the store.
    """

    duration_s: float | None = None
    start: Start | None = None
    epoch_s: float = 30.0


@dataclass(frozen=True)
class Scoring:
    """The marks of a hypnogram.

    Attributes
    ----------
    marks : tuple of Mark
        In order of their onset; texts are W, N1, N2, N3, R and ``?`` for unscored.
    start : datetime or time, optional
        The clock time that its onsets count from; None = the start of the recording.
    epoch_s : float
        Length of the longest epoch that was scored as one, 0 = unknown.
    warnings : tuple of str
        Assumptions that were made, and unknown texts.
    name : str
        Name of the file.
    """

    marks: tuple[Mark, ...]
    start: Start | None = None
    epoch_s: float = 0.0
    warnings: tuple[str, ...] = field(default=())
    name: str = ""


def check_inside(scoring: Scoring, night: Night, starts: str) -> Scoring:
    """Return a scoring if any of its marks lies in the recording, else raise ValueError."""
    if not lies_inside(scoring.marks, night):
        start = "" if night.start is None else f", the recording at {clock_text(night.start)}"
        raise ValueError(
            f"it starts at {starts}{start}: none of its marks lies in the recording; give the "
            "hypnogram of this recording, or set labels.clock: ignore"
        )
    return scoring


def lies_inside(marks: Sequence[Mark], night: Night) -> bool:
    """Tell whether any mark covers a part of the recording."""
    end = float("inf") if night.duration_s is None else night.duration_s
    last = marks[-1] if marks else None
    return any(
        mark.onset_s < end
        and (mark.onset_s + (mark.duration_s or 0.0) > 0 or (mark is last and not mark.duration_s))
        for mark in marks
    )


def scored_epoch_s(count: int, rule: StageLabels, night: Night) -> float:
    """Return the length of the epochs of a hypnogram without times.

    The card's value; else the first of the store's epoch length, 30 s and 20 s of which this number
    fits the recording; 30 s if the hypnogram is shorter and the store's epochs are 30 s.

    Raises
    ------
    ValueError
        If none fits; the message states which length would.

    Examples
    --------
    >>> scored_epoch_s(12, StageLabels(), Night(240.0, epoch_s=30.0))
    20.0
    """
    if rule.epoch_s is not None:
        return rule.epoch_s
    if night.duration_s is None:
        return night.epoch_s
    for length in dict.fromkeys((night.epoch_s, *USUAL_EPOCHS_S)):
        whole = int(night.duration_s / length + 1e-6)
        if count in (whole, whole + (whole * length < night.duration_s - 1e-6)):
            return length
    if night.epoch_s == USUAL_EPOCHS_S[0] and count * night.epoch_s < night.duration_s:
        return night.epoch_s
    raise ValueError(
        f"{count} scored epochs do not fit a recording of {night.duration_s:g} s; state their "
        f"length with labels.epoch_s ({night.duration_s / count:.3g} s would fill it)"
    )


def numbered_epoch_s(highest: int, rule: StageLabels, night: Night) -> float:
    """Return the length of epochs that are numbered up to ``highest``, from 0 or from 1.

    As ``scored_epoch_s``: the first length of which the recording has about this number.
    """
    if rule.epoch_s is not None:
        return rule.epoch_s
    if night.duration_s is None:
        return night.epoch_s
    for length in dict.fromkeys((night.epoch_s, *USUAL_EPOCHS_S)):
        whole = int(night.duration_s / length + 1e-6)
        if whole - 1 <= highest <= whole + 1:
            return length
    if night.epoch_s == USUAL_EPOCHS_S[0]:
        return night.epoch_s
    return scored_epoch_s(highest + 1, rule, night)


def epoch_places(numbers: Sequence[int], rule: StageLabels, count: float | None) -> list[int]:
    """Return the positions from 0 of epochs that are numbered from 0 or from 1.

    Parameters
    ----------
    numbers
        As in the hypnogram.
    rule
        ``first_epoch`` decides.
    count
        Epochs of the recording, with a fraction for its tail; None = unknown.

    Raises
    ------
    ValueError
        If the numbering is ambiguous, or the numbers fit neither.

    Examples
    --------
    >>> epoch_places([1, 2, 3], StageLabels(), 3), epoch_places([0, 2], StageLabels(), None)
    ([0, 1, 2], [0, 2])
    """
    low, high = min(numbers), max(numbers)
    first = rule.first_epoch
    if first is None and low == 0:
        first = 0
    if first is None and count is not None and low > 0:
        whole, most = int(count + 1e-6), math.ceil(count - 1e-6)
        if high > most:
            raise ValueError(f"its epochs reach {high}, but the recording has {most}")
        complete = low == 1 and len(set(numbers)) == high == whole
        first = 1 if high == most or complete else None
    if first is None or low < first:
        raise ValueError(
            f"its epochs run from {low} to {high}"
            + ("" if count is None else f" of {count:g}")
            + ", which may count from 0 or from 1; state labels.first_epoch"
        )
    return [number - first for number in numbers]
