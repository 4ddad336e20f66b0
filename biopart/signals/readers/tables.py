"""Tables with a time column (CSV, TSV, columns of a text file) as recordings at a regular rate.

Values are interpolated linearly between two rows unless they are further apart than the maximum
gap; samples in gaps are missing. The whole table is read when it is opened.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biopart.files import read_text
from biopart.signals.recording import QUANTISED_MISSING, Channel, Recording, quantised, unique_names
from biopart.store.card import Table

_ABSENT = ("", "na", "nan", "null")  # cells without a value
_MOST = 10**9  # samples: four months at 100 Hz


@dataclass(frozen=True)
class Rows:
    """The cells of a table as text, with the line number of each row."""

    path: Path
    names: tuple[str, ...]
    cells: list[list[str]]
    lines: list[int]

    def column(self, wanted: int | str) -> int:
        """Return the position of a column by name or by number from 1; ValueError lists all."""
        if isinstance(wanted, int) and 1 <= wanted <= len(self.names):
            return wanted - 1
        if isinstance(wanted, str) and wanted in self.names:
            return self.names.index(wanted)
        raise ValueError(
            f"{self.path.name} has no column {wanted!r}; it has {len(self.names)}: "
            f"{', '.join(self.names)}"
        )

    def numbers(self, place: int, *, absent: bool = True) -> NDArray[np.float64]:
        """Return a column as numbers, (row,); cells without a value are NaN, or refused."""
        values = np.empty(len(self.cells))
        for row, cells in enumerate(self.cells):
            values[row] = _number(cells[place])
        empty = [cells[place].casefold() in _ABSENT for cells in self.cells]
        faulty = np.flatnonzero(~np.isfinite(values) & ~(np.array(empty, dtype=bool) & absent))
        if len(faulty):
            row = int(faulty[0])
            raise ValueError(
                f"{self.path.name}, line {self.lines[row]}: {self.cells[row][place]!r} in column "
                f"{self.names[place]} is not a number ({len(faulty)} such cells); correct the table"
            )
        return values


def read_rows(path: Path, *, delimiter: str | None = None, header: bool | None = None) -> Rows:
    """Read a table as text.

    Parameters
    ----------
    path
        Path of the table, in any common encoding; blank lines are skipped.
    delimiter
        Separator of cells; None = the first of tab, semicolon and comma in the first line, else any
        number of spaces.
    header
        Whether the first line has names; None = yes if none of its cells is a number. Without names
        the columns are called ``column1``, ``column2``, ...

    Raises
    ------
    ValueError
        If there are no rows, or one has more or fewer cells than the first.
    """
    lines = read_text(path).split("\n")
    first = next((line for line in lines if line.strip()), "")
    if delimiter is None:
        delimiter = next((mark for mark in "\t;," if mark in first), " ")
    if delimiter == " ":
        rows = list(enumerate((line.split() for line in lines), start=1))
    else:
        reader = csv.reader(lines, delimiter=delimiter)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if rows and (header or (header is None and np.isnan([_number(c) for c in rows[0][1]]).all())):
        names, rows = tuple(rows[0][1]), rows[1:]
    else:
        names = tuple(f"column{number + 1}" for number in range(len(rows[0][1]) if rows else 0))
    if not rows:
        raise ValueError(
            f"{path.name} has no rows below its line of names; copy it again, or give another file"
            if names
            else f"{path.name} is empty; copy it again, or give another file"
        )
    for line, cells in rows:
        if len(cells) != len(names):
            raise ValueError(
                f"{path.name}, line {line} has {len(cells)} cells, but {len(names)} were expected "
                f"({', '.join(names)}): correct it, or state the delimiter"
            )
    return Rows(path, names, [cells for _, cells in rows], [line for line, _ in rows])


def open_table(path: Path, table: Table | None = None) -> Recording:
    """Open a table with a time column as a recording at a regular rate.

    Parameters
    ----------
    path
        Path of the table.
    table
        Columns, rate, gaps and clock, as in section ``table`` of a card. By default the first
        column is the time in seconds, every other column a channel, the rate that of the median
        step (rounded to a whole hertz if within 0.5 %), and steps of more than five median steps
        are gaps.

    Returns
    -------
    Recording
        ``clock_s`` is the time column at sample 0; samples in gaps and before the first row are
        missing. Warnings count rows that were out of order or shared their time.

    Raises
    ------
    ValueError
        If a column does not exist, a cell is not a number (with its line), or no row lies in the
        wanted part of the clock.
    """
    table = table or Table()
    rows = read_rows(path, delimiter=table.delimiter, header=table.header)
    place = rows.column(table.time)
    columns = {name: rows.column(column) for name, column in table.columns.items()}
    warnings: tuple[str, ...] = ()
    if not columns:
        others = [index for index in range(len(rows.names)) if index != place]
        names, warnings = unique_names([rows.names[index] for index in others])
        columns = dict(zip(names, others, strict=True))
    _check_names(path, table, columns)
    times = rows.numbers(place, absent=False)
    grid, sfreq_hz, step_s = _grid(path, table, times)
    max_gap_s = table.max_gap_s or 5 * step_s
    channels, digital = [], []
    for name, column in columns.items():
        known = merged(times, rows.numbers(column), table.repeated)
        integers, scale = quantised(interpolated(*known, grid, max_gap_s=max_gap_s))
        unit = table.units.get(name, "")
        channels.append(Channel(name, unit, sfreq_hz, len(grid), scale, missing=QUANTISED_MISSING))
        digital.append(integers)
    return Recording(
        path=path,
        channels=tuple(channels),
        load=lambda indices: [digital[index] for index in indices],
        warnings=(*warnings, *_disorder(times, table)),
        left_out=_outside(times, grid),
        clock_s=float(grid[0]),
    )


def interpolated(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    grid: NDArray[np.float64],
    *,
    max_gap_s: float,
) -> NDArray[np.float64]:
    """Interpolate values at increasing times to a grid; NaN in longer gaps and outside.

    >>> interpolated(np.array([0, 2, 9.0]), np.array([1, 5, 0.0]), np.arange(4.0), max_gap_s=2)
    array([ 1.,  3.,  5., nan])
    """
    if not len(times):
        return np.full(len(grid), np.nan)
    after = np.searchsorted(times, grid)
    inside = (after < len(times)) & ((after > 0) | (grid == times[0]))
    right = np.minimum(after, len(times) - 1)
    left = np.maximum(right - 1, 0)
    known = (times[right] == grid) | (times[right] - times[left] <= max_gap_s + 1e-9)
    result = np.interp(grid, times, values)
    result[~(inside & known)] = np.nan
    return result


def merged(
    times: NDArray[np.float64], values: NDArray[np.float64], repeated: Literal["mean", "last"]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sort rows by time, drop rows without a value, and merge rows of equal time.

    >>> merged(np.array([2, 1, 1.0]), np.array([5, 3, 4.0]), "mean")
    (array([1., 2.]), array([3.5, 5. ]))
    """
    known = np.isfinite(values)
    unique, inverse = np.unique(times[known], return_inverse=True)
    if repeated == "mean":
        counts = np.bincount(inverse, minlength=len(unique))
        return unique, np.bincount(inverse, values[known], minlength=len(unique)) / counts
    last = np.empty(len(unique))
    last[inverse] = values[known]  # for repeated indices numpy keeps the last value
    return unique, last


def regular_rate(step_s: float) -> float:
    """Return the rate for a step, rounded to a whole hertz if within 0.5 %.

    >>> regular_rate(0.003906), regular_rate(5.0), regular_rate(0.032)
    (256.0, 0.2, 31.25)
    """
    rate = 1 / step_s
    return float(round(rate)) if abs(rate - round(rate)) <= 0.005 * rate else float(f"{rate:.4g}")


def _grid(
    path: Path, table: Table, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """Return the regular times of the samples, their rate and the median step of the rows."""
    unique = np.unique(times)
    if len(unique) < 2:
        raise ValueError(
            f"{path.name} has rows of one time; a signal needs rows of two or more times"
        )
    step_s = float(np.median(np.diff(unique)))
    sfreq_hz = table.sfreq_hz or regular_rate(step_s)
    start = float(unique[0]) if table.start_s is None else table.start_s
    stop = float(unique[-1]) if table.stop_s is None else min(table.stop_s, float(unique[-1]))
    samples = int(np.floor((stop - start) * sfreq_hz + 1e-6)) + 1
    if not 0 < samples <= _MOST or stop < unique[0]:
        raise ValueError(
            f"{path.name} has rows from {unique[0]:g} to {unique[-1]:g} s: {start:g} to {stop:g} s "
            f"at {sfreq_hz:g} Hz give no samples; set start_s, stop_s and the rate, in seconds"
        )
    return start + np.arange(samples) / sfreq_hz, sfreq_hz, step_s


def _check_names(path: Path, table: Table, columns: dict[str, int]) -> None:
    """Refuse a table without a value column, or a unit for a channel that does not exist."""
    if not columns:
        raise ValueError(
            f"{path.name} has one column; a recording in a table needs a column of times in "
            "seconds and one column for each channel"
        )
    strangers = [name for name in table.units if name not in columns]
    if strangers:
        raise ValueError(
            f"{path.name} has the value columns {', '.join(columns)}; a unit was given for "
            f"{', '.join(strangers)}: name columns that have values"
        )


def _disorder(times: NDArray[np.float64], table: Table) -> Sequence[str]:
    """Count rows that are earlier than the previous one, and rows that share their time."""
    early = int((np.diff(times) < 0).sum())
    shared = len(times) - len(np.unique(times))
    kept = "averaged" if table.repeated == "mean" else "the last was kept"
    counts = [f"{early} rows are earlier than the previous row and were sorted"] if early else []
    return counts + ([f"{shared} rows share their time with another: {kept}"] if shared else [])


def _outside(times: NDArray[np.float64], grid: NDArray[np.float64]) -> tuple[str, ...]:
    """Count rows outside the wanted part of the clock."""
    step = grid[1] - grid[0] if len(grid) > 1 else 0.0
    counts = {
        f"before {grid[0]:g} s": times < grid[0],
        f"after {grid[-1]:g} s": times > grid[-1] + step,
    }
    return tuple(f"{int(mask.sum())} rows {where}" for where, mask in counts.items() if mask.any())


def _number(cell: str) -> float:
    """Return the number in a cell, else NaN."""
    try:
        return float(cell)
    except ValueError:
        return np.nan
