"""Assign roles to the columns of a table of stages: by name, by card, by content."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

from biopart.codes import is_event, stage_code
from biopart.signals.clock import read_clock
from biopart.signals.recording import Start
from biopart.store.label_rules import StageColumns

FORMS = (
    "a hypnogram has columns epoch,stage or onset_s,duration_s,stage or time,stage (clock times), "
    "or one stage per line"
)
Role = Literal["stage", "onset", "duration", "end", "epoch", "clock", "event"]
Roles = Mapping[Role, int]
Row = tuple[int, list[str]]
"""The number of a line and its cells."""

# Names without case, spaces and signs, the best first. Sources: BIDS (onset, duration,
# trial_type), YASA (Epoch, Stage, Time, value, description), U-Sleep (initial), Luna, Embla and
# REMlogic (Sleep Stage, Time [hh:mm:ss], Duration[s]), SOMNOmedics, biopart itself.
NAMES: dict[Role, tuple[str, ...]] = {
    "stage": (
        *("stage", "sleepstage", "stages", "sleepstages", "stagename", "hypnogram", "hypno"),
        *("trialtype", "description", "annotation", "event", "eventconcept", "label", "score"),
        *("scoring", "sleepscore", "schlafstadium", "stadium", "stade", "stadio", "value"),
    ),
    "onset": (
        *("onset", "onsets", "onsetsec", "onsetseconds", "start", "starts", "startsec"),
        *("startseconds", "initial", "seconds", "sec", "times", "timesec", "timeseconds"),
    ),
    "duration": ("duration", "durations", "durationsec", "durationseconds", "length", "dur"),
    "end": ("end", "ends", "endsec", "endseconds", "stop", "stops", "stopsec", "offset"),
    "event": ("event", "eventtype", "eventname", "annotation", "description", "type"),
    "epoch": ("epoch", "epochs", "epochnumber", "epochno", "epochnr", "epochid", "epochindex"),
    "clock": (
        *("time", "clock", "clocktime", "starttime", "timestamp", "datetime", "timeofday"),
        *("timehhmmss", "epochstart", "uhrzeit", "heure", "hora", "ora"),
    ),
}
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d*)?(?:e[+-]?\d+)?", re.I)
_ABSENT = ("", "n/a", "na", "nan")
_PREAMBLE = 60
MOST_S = 1e8  # three years; a larger number is not a time of a night


@dataclass(frozen=True)
class Columns:
    """The columns of a table of stages, a value per row; None = the column does not exist."""

    stage: list[str]
    onset: list[float] | None
    duration: list[float | None]
    epoch: list[int] | None
    clock: list[Start] | None


def number_of(cell: str) -> float | None:
    """Return the number in a cell, with a decimal point or comma; None if it is not a number.

    Examples
    --------
    >>> number_of("30"), number_of("0,5"), number_of("W")
    (30.0, 0.5, None)
    """
    value = float(cell.replace(",", ".")) if _NUMBER.fullmatch(cell) else None
    return value if value is not None and abs(value) < MOST_S else None


def is_stage(cell: str) -> bool:
    """Tell whether a cell may be a stage: a word, a small number, or nothing."""
    number = number_of(cell)
    if number is not None:
        return number.is_integer() and -9 <= number <= 9
    return not cell or stage_code(cell) is not None


def header_place(rows: Sequence[Row]) -> int | None:
    """Return the position of the row with the column names, which may follow a preamble."""
    for place, (_, cells) in enumerate(rows[:_PREAMBLE]):
        if "stage" in named_roles(cells) and all(number_of(cell) is None for cell in cells):
            return place
    return None


def named_roles(names: Sequence[str]) -> dict[Role, int]:
    """Return the columns with known names; of several for one role, the best."""
    plain = [re.sub(r"[\W_]+", "", name.casefold()) for name in names]
    found: dict[Role, int] = {}
    for role, wanted in NAMES.items():
        places = [plain.index(name) for name in wanted if name in plain]
        if places:
            found[role] = places[0]
    return found


def stated_roles(columns: StageColumns, names: Sequence[str]) -> dict[Role, int]:
    """Return the columns that a card names; ValueError lists the existing ones."""
    found: dict[Role, int] = {}
    plain = [name.casefold() for name in names]
    for role, wanted in columns.model_dump().items():
        if wanted is None:
            continue
        if isinstance(wanted, int) and 1 <= wanted <= len(names):
            found[cast(Role, role)] = wanted - 1
        elif str(wanted).casefold() in plain:
            found[cast(Role, role)] = plain.index(str(wanted).casefold())
        else:
            raise ValueError(f"there is no column {wanted!r} ({role}); it has {', '.join(names)}")
    return found


def find_roles(names: Sequence[str], rows: Sequence[Row], stated: StageColumns) -> Roles:
    """Return the role of each column: from the card, the names, or the content.

    Raises ValueError if no column has the stage, or the content is ambiguous.
    """
    given = stated_roles(stated, names or [f"column {n + 1}" for n in range(len(rows[0][1]))])
    roles = named_roles(names) | given
    if {"onset", "epoch", "clock"} & set(given):  # the card's choice of the time column wins
        roles = {r: n for r, n in roles.items() if r in ("stage", "duration", "end") or r in given}
    if "stage" in roles:
        return roles
    if names:
        raise ValueError(
            f"no column has the stage; it has {', '.join(names)}; name one with labels.columns "
            f"({FORMS})"
        )
    found = _roles_by_content(rows)
    if found is None:
        number, cells = rows[0]
        raise ValueError(
            f"line {number} ({', '.join(cells)}) has no column names; name the columns with "
            "labels.columns, by their names or by their numbers from 1"
        )
    return found


def _roles_by_content(rows: Sequence[Row]) -> dict[Role, int] | None:
    """Return the columns of a table without names; None if that is ambiguous.

    A column of stages, and before it an onset, an onset and a duration, the number of an epoch or
    a clock time.
    """
    width = len(rows[0][1])
    if width not in (2, 3) or any(len(cells) != width for _, cells in rows):
        return None
    if width == 2 and all(read_clock(cells[0]) is not None for _, cells in rows):
        return {"clock": 0, "stage": 1}
    heads = [[number_of(cell) for cell in cells[:-1]] for _, cells in rows]
    values = [[float(v) for v in head if v is not None] for head in heads]
    if any(len(one) < width - 1 for one in values):
        return None
    pairs = list(pairwise(values))
    if width == 3:
        by_length = all(abs(one[0] + one[1] - two[0]) < 0.01 for one, two in pairs)
        by_end = all(abs(one[1] - two[0]) < 0.01 for one, two in pairs)
        if by_length == by_end:
            return None
        return {"onset": 0, "duration" if by_length else "end": 1, "stage": 2}
    steps = {two[0] - one[0] for one, two in pairs}
    if steps == {1.0}:
        return {"epoch": 0, "stage": 1}
    return {"onset": 0, "stage": 1} if steps and min(steps) > 1 else None


def read_columns(rows: Sequence[Row], roles: Roles, width: int) -> Columns:
    """Read the columns of a table.

    Parameters
    ----------
    rows, roles
        Cells, and the role of each column.
    width
        Cells of a row.

    Raises
    ------
    ValueError
        Names the line that has another number of cells, or the cell that cannot be interpreted.
    """
    for number, cells in rows:
        if len(cells) != width:
            raise ValueError(
                f"line {number} has {len(cells)} cells, but {width} were expected "
                f"({', '.join(cells)}); {FORMS}"
            )
    rows = _without_events(rows, roles)
    clock = _moments(rows, roles)
    onset = _numbers(rows, roles, "onset")
    durations = _cells(rows, roles, "duration")
    epochs = _numbers(rows, roles, "epoch")
    ends = _numbers(rows, roles, "end") if durations is None and onset is not None else None
    if ends is not None and onset is not None:
        lengths = [f"{end - begin}" for begin, end in zip(onset, ends, strict=True)]
        durations = [(n, length) for (n, _), length in zip(rows, lengths, strict=True)]
    fraction = [number for number in epochs or () if not number.is_integer()]
    if fraction:
        raise ValueError(
            f"{fraction[0]:g} is not the number of an epoch; number them in whole steps"
        )
    return Columns(
        stage=[cells[roles["stage"]] for _, cells in rows],
        onset=onset,
        duration=[_duration(number, cell) for number, cell in durations or ()]
        or [None] * len(rows),
        epoch=None if epochs is None else [int(number) for number in epochs],
        clock=clock,
    )


def _cells(rows: Sequence[Row], roles: Roles, role: Role) -> list[tuple[int, str]] | None:
    """Return the cells of a column with their line numbers; None if it does not exist."""
    place = roles.get(role)
    return None if place is None else [(number, cells[place]) for number, cells in rows]


def _duration(number: int, cell: str) -> float | None:
    value = number_of(cell)
    if (value is None and cell.casefold() not in _ABSENT) or (value or 0.0) < 0:
        raise ValueError(f"line {number}: {cell!r} is not a duration in seconds")
    return value


def _without_events(rows: Sequence[Row], roles: Roles) -> Sequence[Row]:
    """Drop the rows of events that state the stage in which they happened.

    Raises ValueError if no other rows are left.
    """
    place = roles.get("event")
    if place is None or place == roles["stage"]:
        return rows
    kept = [(n, cells) for n, cells in rows if not is_event(cells[place])]
    if not kept:
        raise ValueError("its rows are events with the stage they happened in, not stages")
    return kept


def _numbers(rows: Sequence[Row], roles: Roles, role: Role) -> list[float] | None:
    """Return the numbers of a column; ValueError names a line without one."""
    given = _cells(rows, roles, role)
    if given is None:
        return None
    values = []
    for number, cell in given:
        value = number_of(cell)
        if value is None:
            hint = "; name a column of clock times with labels.columns, {clock: ...}"
            raise ValueError(
                f"line {number}: {cell!r} is not a number ({role})"
                f"{hint if read_clock(cell) is not None else ''}"
            )
        values.append(value)
    return values


def _moments(rows: Sequence[Row], roles: Roles) -> list[Start] | None:
    """Return the clock times of a table; None if a better column states the time."""
    moments = []
    for number, cell in _cells(rows, roles, "clock") or ():
        moment = read_clock(cell)
        if moment is None:
            if {"onset", "epoch"} & set(roles):
                return None
            raise ValueError(
                f"line {number}: {cell!r} is not a clock time (hh:mm:ss or ISO); if the column is "
                "in seconds, name it with labels.columns, {onset: ...}"
            )
        moments.append(moment)
    return moments or None
