"""Clock times of recordings and of their hypnograms: parsing, comparison, alignment."""

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from biopart.signals.recording import Start

DAY_S = 86_400.0
NEUTRAL = datetime(1985, 1, 1)  # what EDF writers state if they do not know the start
_CLOCK = re.compile(r"(\d{1,2})[:.](\d\d)(?:[:.](\d\d)(?:[.,](\d+))?)?(?: ?([ap])\.?m\.?)?", re.I)
_DATED = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ,]+(.+)")


def read_clock(text: str) -> Start | None:
    """Parse a clock time, with a date if it is in ISO form; None if the text is not a time.

    Examples
    --------
    >>> read_clock("22:00:30"), read_clock("10:05 PM")
    (datetime.time(22, 0, 30), datetime.time(22, 5))
    >>> read_clock("2020-01-01T22:00:00"), read_clock("01/02/2020 22:00:00"), read_clock("30")
    (datetime.datetime(2020, 1, 1, 22, 0), datetime.time(22, 0), None)
    """
    text = text.strip()
    try:
        if re.match(r"\d{4}-\d\d-\d\d[T ]", text):
            return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None
    dated = _DATED.fullmatch(text)
    found = _CLOCK.fullmatch(dated[1] if dated else text)
    if found is None or (found[3] is None and "." in found[0]):
        return None
    hour = int(found[1])
    if found[5]:
        hour = hour % 12 + (12 if found[5].lower() == "p" else 0)
    micro = int((found[4] or "0")[:6].ljust(6, "0"))
    try:
        return time(hour, int(found[2]), int(found[3] or 0), micro)
    except ValueError:
        return None


def time_of(moment: Start) -> time:
    """Return the time of day."""
    return moment.time() if isinstance(moment, datetime) else moment


def of_day_s(moment: Start) -> float:
    """Return the seconds since midnight."""
    return (datetime.combine(date.min, time_of(moment)) - datetime.min).total_seconds()


def seconds_after(moment: Start, start: Start) -> float:
    """Return how many seconds after a start a moment is.

    Exact if both have a date and are within a day of each other. Otherwise the nearest difference
    of the times of day, since dates may have been changed to protect a person.

    Examples
    --------
    >>> seconds_after(time(0, 10), time(23, 50)), seconds_after(time(23, 50), time(0, 10))
    (1200.0, -1200.0)
    >>> seconds_after(datetime(2020, 1, 2, 11, 0), datetime(2020, 1, 1, 22, 0)) / 3600
    13.0
    """
    if isinstance(moment, datetime) and isinstance(start, datetime):
        exact = (moment - start).total_seconds()
        if abs(exact) < DAY_S:
            return exact
    difference = (of_day_s(moment) - of_day_s(start)) % DAY_S
    return difference if difference <= DAY_S / 2 else difference - DAY_S


def onsets_after(moments: Sequence[Start], start: Start) -> list[float]:
    """Return how long after a start increasing moments are, across midnight too."""
    onsets = [seconds_after(moments[0], start)] if moments else []
    for before, moment in pairwise(moments):
        if isinstance(before, datetime) and isinstance(moment, datetime):
            step = (moment - before).total_seconds()
        else:
            step = seconds_after(moment, before)
        onsets.append(onsets[-1] + step)
    return onsets


def clock_text(moment: Start) -> str:
    """Format the time of day for a message.

    Examples
    --------
    >>> clock_text(datetime(2020, 1, 1, 22, 0, 5))
    '22:00:05'
    """
    return f"{moment:%H:%M:%S}"


def read_start(text: str) -> datetime | None:
    """Parse the start that a staged night states; a time without a date gets a neutral date.

    Examples
    --------
    >>> read_start("2020-01-01T22:00:00"), read_start("22:00:00"), read_start("")
    (datetime.datetime(2020, 1, 1, 22, 0), datetime.datetime(1985, 1, 1, 22, 0), None)
    """
    if not text:
        return None
    if "T" in text:
        return datetime.fromisoformat(text)
    return datetime.combine(NEUTRAL, time.fromisoformat(text))


def moved(moment: Start, seconds: float) -> Start:
    """Return a moment some seconds later; a time of day wraps at midnight."""
    if isinstance(moment, datetime):
        return moment + timedelta(seconds=seconds)
    return (datetime.combine(NEUTRAL, moment) + timedelta(seconds=seconds)).time()
