"""Text hypnograms: one stage per line, or tables with onsets, epochs or clock times."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from biopart.files import read_text
from biopart.signals.clock import clock_text, moved, onsets_after
from biopart.signals.recording import Mark, Start
from biopart.signals.stages.columns import (
    FORMS,
    Columns,
    Row,
    find_roles,
    header_place,
    is_stage,
    read_columns,
)
from biopart.signals.stages.marks import stages_among
from biopart.signals.stages.rows import split_rows
from biopart.signals.stages.scoring import (
    Night,
    Scoring,
    check_inside,
    epoch_places,
    numbered_epoch_s,
    scored_epoch_s,
)
from biopart.store.label_rules import UNSCORED, StageLabels

_TITLES = ("hypnogram", "stage", "scor", "epoch", "schlaf", "stade")


def read_stage_table(path: Path, rule: StageLabels, night: Night) -> Scoring:
    """Read a hypnogram that is a text file.

    Parameters
    ----------
    path
        Text in any common encoding; cells separated by tab, semicolon, comma or blanks.
    rule
        Columns, words, codes, epoch length and number of the first epoch that a card states.
    night
        What is known about the recording.

    Raises
    ------
    ValueError
        Names the file and the problem, and the line number where there is one.
    """
    try:
        lines = read_text(path).split("\n")
        while lines and not lines[-1].strip(" \t;,\x1a"):
            lines.pop()
        return _scoring(lines, rule, night)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path.name} ")
        raise ValueError(f"{path.name}: {reason}") from None


def stages_in_order(stages: Sequence[str], rule: StageLabels, night: Night) -> Scoring:
    """Read one stage per epoch, from the start of the recording; empty = not scored."""
    return _epochs(stages, range(len(stages)), rule, night)


def _scoring(lines: Sequence[str], rule: StageLabels, night: Night) -> Scoring:
    if not any(line.strip() for line in lines):
        raise ValueError(f"it is empty; {FORMS}")
    rows = split_rows(lines)
    place = header_place(rows)
    names: list[str] = []
    if place is None and _is_header(rows[0][1], rule.columns.stage):
        place = 0
    if place is not None:
        names, rows = rows[place][1], rows[place + 1 :]
    if not rows:
        raise ValueError(f"it has a header but no rows; {FORMS}")
    if max(len(names), *(len(cells) for _, cells in rows)) > 1:
        return _table(names, rows, rule, night)
    return stages_in_order(_without_title([cells[0] for _, cells in rows]), rule, night)


def _is_header(cells: Sequence[str], stage: int | str | None) -> bool:
    """Tell whether a first row has the column names that a card states."""
    if isinstance(stage, int):
        return len(cells) >= stage and not is_stage(cells[stage - 1])
    return stage is not None


def _without_title(stages: Sequence[str]) -> Sequence[str]:
    """Skip a first line that is a title, such as DREAMS' ``[hypnogram]``."""
    first = stages[0].casefold()
    titled = first.startswith("[") or (not is_stage(first) and any(t in first for t in _TITLES))
    return stages[1:] if titled else stages


def _table(names: Sequence[str], rows: Sequence[Row], rule: StageLabels, night: Night) -> Scoring:
    first = rows[0][1]
    if not names and len(rows) == 1 and all(is_stage(cell) for cell in first):
        return stages_in_order(first, rule, night)  # all of them in one line
    roles = find_roles(names, rows, rule.columns)
    columns = read_columns(rows, roles, len(names) or len(first))
    if columns.clock is not None and night.start is not None and rule.clock == "compare":
        return _clocked(columns, columns.clock, rule, night)
    if columns.onset is not None:
        return _timed(columns, columns.onset, rule)
    if columns.epoch is not None:
        return _numbered(columns, columns.epoch, rule, night)
    if columns.clock is not None:
        raise ValueError(
            f"its clock times begin at {clock_text(columns.clock[0])}, but the recording does not "
            "state its start; give onsets in seconds instead"
        )
    return stages_in_order(columns.stage, rule, night)


def _clocked(columns: Columns, clock: list[Start], rule: StageLabels, night: Night) -> Scoring:
    """Read stages by their clock times, in preference to onsets or epochs in the same table."""
    assert night.start is not None
    onsets = onsets_after(clock, night.start)
    scoring = check_inside(_timed(columns, onsets, rule), night, clock_text(clock[0]))
    if columns.onset is not None:
        own = columns.onset[0]
    elif columns.epoch is not None:
        own = (columns.epoch[0] - min(columns.epoch)) * (scoring.epoch_s or 0.0)
    else:
        return scoring
    difference = onsets[0] - own
    if abs(difference) < 1:
        return scoring
    warning = (
        f"its rows count from {clock_text(moved(clock[0], -own))}, the recording starts at "
        f"{clock_text(night.start)}: its marks were shifted by {difference:+g} s"
    )
    return replace(scoring, warnings=(*scoring.warnings, warning))


def _timed(columns: Columns, onsets: Sequence[float], rule: StageLabels) -> Scoring:
    """Read stages by their onsets in seconds; epochs without durations get a length."""
    length = rule.epoch_s if rule.epoch_s is not None else _epoch_of(onsets, columns.stage)
    open_ended = all(duration is None for duration in columns.duration)
    marks = [
        Mark(onset, text or UNSCORED, length if open_ended else duration)
        for onset, text, duration in zip(onsets, columns.stage, columns.duration, strict=True)
    ]
    staging = stages_among(marks, rule)
    if not staging.known:
        raise ValueError(f"none of its rows is a known sleep stage; {FORMS}")
    times = Counter(mark.onset_s for mark in staging.marks)
    twice = [onset for onset, count in times.items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} onsets occur more than once, the first is {twice[0]:g} s; keep one "
            "scorer, and clock times with seconds"
        )
    return Scoring(staging.marks, None, length or 0.0, staging.warnings)


def _epoch_of(onsets: Sequence[float], stages: Sequence[str]) -> float | None:
    """Return the length of the epochs that onsets belong to; None = each lasts to the next.

    Regular onsets are epochs. With gaps they are epochs if neighbours repeat a stage, which
    runs never do.
    """
    steps = [round(two - one, 3) for one, two in pairwise(onsets)]
    if not steps or min(steps) <= 0:
        return None
    shortest = min(steps)
    if set(steps) == {shortest}:
        return shortest
    whole = all(abs(step / shortest - round(step / shortest)) < 1e-6 for step in steps)
    repeats = any(
        one == two and step == shortest
        for (one, two), step in zip(pairwise(stages), steps, strict=True)
    )
    return shortest if whole and repeats else None


def _numbered(columns: Columns, numbers: list[int], rule: StageLabels, night: Night) -> Scoring:
    """Read stages by the numbers of their epochs."""
    stated = set(columns.duration)
    if len(stated) > 1:
        raise ValueError("its epochs have different durations; give onsets instead of numbers")
    if len(set(numbers)) < len(numbers):
        twice = next(number for number, count in Counter(numbers).items() if count > 1)
        raise ValueError(f"epoch {twice} occurs more than once; keep one scorer")
    length = stated.pop()
    if length is None:
        length = numbered_epoch_s(max(numbers), rule, night)
    count = None if night.duration_s is None else night.duration_s / length
    return _epochs(columns.stage, epoch_places(numbers, rule, count), rule, night, length=length)


def _epochs(
    stages: Sequence[str],
    places: Sequence[int],
    rule: StageLabels,
    night: Night,
    *,
    length: float | None = None,
) -> Scoring:
    """Read the stages of epochs by their positions from 0."""
    if not stages:
        raise ValueError("it has no stages; give a hypnogram with at least one")
    length = length or scored_epoch_s(max(places) + 1, rule, night)
    marks = [
        Mark(place * length, stage or UNSCORED, length)
        for place, stage in zip(places, stages, strict=True)
    ]
    blank = sum(not stage for stage in stages)
    staging = stages_among(marks, rule, events=False)
    if staging.known == blank:
        raise ValueError(f"none of its lines is a known sleep stage; {FORMS}")
    unscored = (
        (f"{blank} of {len(stages)} epochs have no stage and count as unscored",) if blank else ()
    )
    return Scoring(staging.marks, None, length, (*unscored, *staging.warnings))
