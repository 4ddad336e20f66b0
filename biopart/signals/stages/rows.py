"""Split the lines of a text hypnogram into cells, whatever the separator."""

import csv
from collections import Counter
from collections.abc import Sequence

from biopart.signals.clock import read_clock
from biopart.signals.stages.columns import Row, is_stage, number_of

_PREAMBLE = 60  # lines that are searched for the column names, and so for the separator


def split_rows(lines: Sequence[str]) -> list[Row]:
    """Split lines into cells, with line numbers from 1; lines that begin with # are skipped.

    Blank lines are kept if a line is one stage, since they are epochs; in tables they are skipped.

    Examples
    --------
    >>> split_rows(["0;W", "# by X", "1;"]), split_rows(["Sleep stage W", "", "MT"])
    ([(1, ['0', 'W']), (3, ['1', ''])], [(1, ['Sleep stage W']), (2, ['']), (3, ['MT'])])
    """
    kept = [(n, line) for n, line in enumerate(lines, 1) if not line.lstrip().startswith("#")]
    filled = [line for _, line in kept if line.strip()]
    mark = next((m for m in "\t;," if any(m in line for line in filled[:_PREAMBLE])), None)
    if mark is None:
        if _apart_by_blanks(filled):
            return [(number, line.split()) for number, line in kept if line.strip()]
        return [(number, [line.strip()]) for number, line in kept]
    ended = all(line.rstrip(" ").endswith(mark) for line in filled)
    rows = []
    for number, line in kept:
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=mark), [""])]
        except csv.Error as error:
            raise ValueError(f"line {number} cannot be split into cells ({error})") from None
        rows.append((number, cells[:-1] if ended and len(cells) > 1 else cells))
    if max(len(cells) for _, cells in rows) > 1:
        rows = [(number, cells) for number, cells in rows if any(cells)]
        usual = Counter(len(cells) for _, cells in rows).most_common(1)[0][0]
        while usual > 1 and len(rows[0][1]) == 1:  # a preamble of plain sentences
            rows.pop(0)
    return rows


def _apart_by_blanks(lines: Sequence[str]) -> bool:
    """Distinguish columns separated by blanks from words of several parts: numbers come first."""
    parts = [line.split() for line in lines]
    if len(parts) == 1:
        return all(is_stage(cell) for cell in parts[0])
    below = parts[1:]  # the first may have names
    starts_with_numbers = all(
        number_of(cells[0]) is not None or read_clock(cells[0]) for cells in below
    )
    return starts_with_numbers and len({len(cells) for cells in below}) == 1 and len(below[0]) > 1
