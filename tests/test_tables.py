"""Tables with a time column: rates, gaps, clocks, and cells that are no numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopart.signals.readers import open_recording
from biopart.signals.readers.tables import interpolated, merged, read_rows
from biopart.store.card import Table

NAN = float("nan")


def opened(folder: Path, text: str, name: str = "a.csv", **settings: Any) -> Any:
    """Write a table and open it; the section of a card only where settings are given."""
    (folder / name).write_text(text)
    return open_recording(folder / name, Table(**settings) if settings else None)


def values_of(recording: Any, name: str) -> list[float]:
    """Return the values of a channel, to nine digits."""
    return [float(f"{value:.9g}") for value in recording.physical([name])[0]]


def test_irregular_times_are_interpolated_and_longer_gaps_are_missing(tmp_path: Path) -> None:
    # 60 at 0 s, 70 at 4 s, 64 at 6.5 s, then nothing for 5.5 s, 50 at 12 s, 52 at 13 s.
    text = "0,60\n4,70\n6.5,64\n12,50\n13,52\n"
    recording = opened(tmp_path, text, sfreq_hz=1.0, max_gap_s=4.0, columns={"rate": 2})
    expected = [60, 62.5, 65, 67.5, 70, 67.6, 65.2, *[NAN] * 5, 50, 52]
    np.testing.assert_allclose(values_of(recording, "rate"), expected, rtol=1e-8)
    assert (recording.channels[0].sfreq_hz, recording.channels[0].n_samples) == (1.0, 14)
    assert (recording.clock_s, recording.warnings, recording.left_out) == (0.0, (), ())


def test_sample_0_is_start_s_and_rows_outside_the_clock_are_counted(tmp_path: Path) -> None:
    text = "-100,9\n-3,10\n-1,14\n1,16\n3,20\n50,30\n"
    settings = {"sfreq_hz": 1.0, "max_gap_s": 2.0, "start_s": -2.0, "stop_s": 3.5}
    recording = opened(tmp_path, text, **settings)
    # -2 lies between the rows at -3 and -1.
    assert values_of(recording, "column2") == [12, 14, 15, 16, 18, 20]
    assert recording.clock_s == -2.0
    assert recording.left_out == ("2 rows before -2 s", "1 rows after 3 s")


def test_a_start_before_the_first_row_is_missing(tmp_path: Path) -> None:
    recording = opened(tmp_path, "1,5\n2,6\n", start_s=-2.0, sfreq_hz=1.0)
    np.testing.assert_array_equal(values_of(recording, "column2"), [NAN] * 3 + [5, 6])


@pytest.mark.parametrize(("repeated", "value"), [("mean", 6.0), ("last", 8.0)])
def test_unsorted_and_repeated_times_are_sorted_merged_and_counted(
    tmp_path: Path, repeated: str, value: float
) -> None:
    kept = {"mean": "averaged", "last": "the last was kept"}[repeated]
    recording = opened(tmp_path, "2,3\n1,4\n1,8\n3,1\n0,0\n", repeated=repeated, sfreq_hz=1.0)
    assert values_of(recording, "column2") == [0, value, 3, 1]
    assert recording.warnings == (
        "2 rows are earlier than the previous row and were sorted",
        f"1 rows share their time with another: {kept}",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "time_s,x,y\n0,1,2\n0.5,3,4\n1,5,6\n"),
        ("a.tsv", "time_s\tx\ty\n0\t1\t2\n0.5\t3\t4\n1\t5\t6\n"),
        ("a.txt", "time_s x   y\n0 1 2\n\n 0.5 3 4 \n1 5 6\n"),
        ("a.csv", '\ufeff"time_s"; "x";"y"\r\n0;1;2\r\n0.5;3;4\r\n1;5;6\r\n'),
    ],
)
def test_separator_header_and_rate_are_found(tmp_path: Path, name: str, text: str) -> None:
    recording = opened(tmp_path, text, name)
    assert recording.names[-1] == "y"
    assert recording.channels[0].sfreq_hz == 2.0
    assert values_of(recording, "y") == [2, 4, 6]


def test_without_settings_five_median_steps_are_a_gap(tmp_path: Path) -> None:
    rows = [(0, 0), (1, 1), (2, 2), (3, 3), (8, 8), (13.5, 0)]
    recording = opened(tmp_path, "".join(f"{time},{value}\n" for time, value in rows))
    assert values_of(recording, "column2")[:9] == list(range(9))
    assert np.isnan(recording.physical(["column2"])[0][9:]).all()


def test_columns_are_chosen_by_name_or_number_with_their_units(tmp_path: Path) -> None:
    text = "x,t,y\n1,0,10\n2,1,20\n"
    columns = {"first": "x", "second": 3}
    recording = opened(tmp_path, text, time="t", columns=columns, units={"second": "1/min"})
    assert recording.names == ("first", "second")
    assert [channel.unit for channel in recording.channels] == ["", "1/min"]
    assert values_of(recording, "second") == [10, 20]


def test_cells_without_a_value_are_bridged_like_any_step(tmp_path: Path) -> None:
    text = "0,1,5\n1,,nan\n2,3,NA\n3,4,11\n"
    recording = opened(tmp_path, text, sfreq_hz=1.0, max_gap_s=2.0)
    assert values_of(recording, "column2") == [1, 2, 3, 4]
    np.testing.assert_array_equal(values_of(recording, "column3"), [5, NAN, NAN, 11])


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (
            "t,x\n0,1\n1,high\n",
            {},
            r"a\.csv, line 3: 'high' in column x is not a number \(1 such cells\)",
        ),
        ("t,x\n\n0,1\n,2\n", {}, r"line 4: '' in column t is not a number"),
        ("0,1\n1,inf\n", {}, "line 2: 'inf' in column column2 is not a number"),
        ("0,1\n1\n", {}, r"line 2 has 1 cells, but 2 were expected \(column1, column2\)"),
        ("0,1\n1,2\n", {"columns": {"x": 3}}, "has no column 3; it has 2: column1, column2"),
        ("t,x\n1,2\n2,2\n", {"time": "s"}, "has no column 's'; it has 2: t, x"),
        ("t,x\n1,2\n2,2\n", {"units": {"y": "V"}}, "the value columns x; a unit was given for y"),
        ("0\n1\n", {}, "has one column; a recording in a table needs a column of times in seconds"),
        ("", {}, r"a\.csv is empty; copy it again, or give another file"),
        ("t,x\n", {}, r"a\.csv has no rows below its line of names; copy it again"),
        ("hello\n", {}, r"a\.csv has no rows below its line of names"),
        ("1,1\n1,2\n", {}, "has rows of one time; a signal needs rows of two or more times"),
        ("0,1\n9,2\n", {"start_s": 10.0}, "has rows from 0 to 9 s: 10 to 9 s .* give no samples"),
        ("5,1\n9,2\n", {"start_s": 1.0, "stop_s": 4.0}, "has rows from 5 to 9 s: 1 to 4 s"),
    ],
)
def test_a_table_that_makes_no_signal_is_refused(
    tmp_path: Path, text: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, text, **settings)


def test_interpolation_is_numpys_where_no_gap_is_too_long() -> None:
    rng = np.random.default_rng(0)
    times, values = np.cumsum(rng.uniform(0.1, 3.0, 200)), rng.normal(size=200)
    grid = np.arange(np.ceil(times[0]), times[-1])
    dense = interpolated(times, values, grid, max_gap_s=3.0)
    np.testing.assert_array_equal(dense, np.interp(grid, times, values))
    sparse = interpolated(times, values, grid, max_gap_s=1.0)
    steps = np.array([times[times >= g].min() - times[times <= g].max() for g in grid])
    np.testing.assert_array_equal(np.isnan(sparse), steps > 1.0 + 1e-9)


def test_merging_without_any_value_gives_none() -> None:
    times, values = merged(np.array([1.0, 2.0]), np.array([NAN, NAN]), "mean")
    assert (len(times), len(values)) == (0, 0)
    assert np.isnan(interpolated(times, values, np.arange(3.0), max_gap_s=9)).all()


def test_a_stated_header_and_separator_are_kept_to(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1|2\n3|4\n")
    rows = read_rows(tmp_path / "a.txt", delimiter="|", header=True)
    assert (rows.names, rows.cells, rows.lines) == (("1", "2"), [["3", "4"]], [2])


def test_a_watchs_heart_rate_is_read_around_its_night(real_data: Path) -> None:
    path = real_data / "sleep_wearable" / "46343_heartrate.txt"
    table = Table(columns={"rate": 2}, sfreq_hz=1.0, max_gap_s=60.0, start_s=-600.0)
    (values,) = open_recording(path, table).physical(["rate"])
    times, rates = np.loadtxt(path, delimiter=",").T
    # The watch was silent until 341.8 s before the night, from which on no step is over 14 s.
    assert np.flatnonzero(~np.isnan(values))[0] == 259
    clock = np.arange(259, len(values)) - 600.0
    np.testing.assert_allclose(values[259:], np.interp(clock, times, rates), rtol=1e-6)
