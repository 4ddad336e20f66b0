"""Stages: spellings, the recording's clock, the majority rule, hypnogram files."""

from pathlib import Path

import edfio
import numpy as np
import pytest

from biopart.signals.recording import Mark
from biopart.signals.stages import (
    label_epochs,
    numeric_stage,
    read_stage_file,
    stage_code,
    unscored_tail_s,
)
from biopart.store.label_rules import STAGES

SPELLINGS = {
    0: ["W", "wake", "WAKE", "Sleep stage W", "Stage W", " sleep  stage w "],
    1: ["N1", "S1", "Sleep stage 1", "Sleep stage N1", "NREM 1", "stage 1"],
    2: ["N2", "S2", "Sleep stage 2", "sleep stage n2", "Stage2"],
    3: ["N3", "S3", "S4", "Sleep stage 3", "Sleep stage 4", "Sleep stage N3", "N4", "NREM4"],
    4: ["R", "REM", "Rem", "Sleep stage R", "Sleep stage REM", "REM sleep"],
    -1: ["Sleep stage ?", "Movement time", "MT", "?", "unscored", "Artefact", "Sleep stage MT"],
}
NIGHT = {"n_samples": 8 * 3600 * 100, "sfreq_hz": 100.0, "epoch": 3000}


def code_pairs() -> list[tuple[str, int]]:
    return [(text, code) for code, texts in SPELLINGS.items() for text in texts]


def label(marks: list[Mark], n_epochs: int, sfreq_hz: float = 10.0) -> list[int]:
    epoch = round(30 * sfreq_hz)
    labels = label_epochs(
        marks, stage_code, n_samples=n_epochs * epoch, sfreq_hz=sfreq_hz, epoch=epoch
    )
    return labels.tolist()


@pytest.mark.parametrize(("text", "code"), code_pairs())
def test_every_spelling_has_its_code(text: str, code: int) -> None:
    assert stage_code(text) == code


@pytest.mark.parametrize(
    "text", ["(arousal_rera", "resp_hypopnea)", "2", "", "Stages scored by X", "Lights off"]
)
def test_other_marks_are_no_stages(text: str) -> None:
    assert stage_code(text) is None


def test_numbers_follow_the_wearable_convention() -> None:
    texts = [numeric_stage(number) for number in (0, 1, 2, 3, 4, 5, -1)]
    assert texts == ["W", "N1", "N2", "N3", "N3", "R", "?"]
    assert STAGES == ("W", "N1", "N2", "N3", "R")
    with pytest.raises(ValueError, match="Stage 6 is unknown"):
        numeric_stage(6)


def test_eight_hours_give_960_epochs() -> None:
    labels = label_epochs([Mark(0.0, "N2")], stage_code, **NIGHT)
    assert labels.shape == (960,)
    assert labels.dtype == np.int8


def test_a_lead_in_of_seven_minutes_shifts_nothing() -> None:
    labels = label([Mark(420.0, "W"), Mark(480.0, "N1")], 20)
    assert labels == [-1] * 14 + [0, 0] + [1] * 4


@pytest.mark.parametrize(
    ("onset_s", "twelfth"),
    [(370.0, 0), (374.9, 0), (375.0, -1), (375.1, -1), (389.9, -1), (360.0, 0)],
)
def test_the_majority_of_a_split_epoch_wins(onset_s: float, twelfth: int) -> None:
    assert label([Mark(onset_s, "W")], 14) == [-1] * 12 + [twelfth, 0]


def test_the_last_stage_reaches_the_end_of_the_signal() -> None:
    labels = label_epochs([Mark(0.0, "W"), Mark(600.0, "R")], stage_code, **NIGHT)
    assert labels[:20].tolist() == [0] * 20
    assert set(labels[20:].tolist()) == {4}


def test_events_between_stage_marks_do_not_end_a_stage() -> None:
    marks = [Mark(0, "N2"), Mark(40, "(arousal_rera"), Mark(50, "arousal_rera)"), Mark(90, "R")]
    assert label(marks, 4) == [2, 2, 2, 4]


def test_a_stage_with_a_duration_ends_with_it() -> None:
    assert label([Mark(0, "W", 60), Mark(90, "R", 30)], 5) == [0, 0, -1, 4, -1]


def test_of_overlapping_marks_the_later_onset_wins_in_any_order() -> None:
    marks = [Mark(60, "N2", 60), Mark(0, "W", 90), Mark(90, "MT", 30)]
    assert label(marks, 4) == [0, 0, 2, -1]


def test_a_mark_before_the_recording_counts_from_its_first_sample() -> None:
    assert label([Mark(-30, "N1", 60), Mark(30, "N2", 30)], 2) == [1, 2]


def test_a_tail_shorter_than_an_epoch_has_no_label() -> None:
    labels = label_epochs([Mark(0, "W", 90)], stage_code, n_samples=899, sfreq_hz=10.0, epoch=300)
    assert labels.tolist() == [0, 0]


def test_fractional_rates_are_counted_in_samples() -> None:
    assert label([Mark(30 * i, f"N{1 + i % 3}", 30) for i in range(200)], 200, 12.8) == [
        1 + i % 3 for i in range(200)
    ]


@pytest.mark.parametrize("mark", [Mark(120, "W"), Mark(500, "W", 30), Mark(90, "N2", 61)])
def test_stage_marks_beyond_the_signal_are_refused(mark: Mark) -> None:
    with pytest.raises(ValueError, match="but the signal ends at 120 s"):
        label([mark], 4)


def test_a_hypnogram_longer_by_up_to_an_epoch_and_unscored_runs_beyond_are_taken() -> None:
    marks = [Mark(0, "W", 90), Mark(90, "N2", 60), Mark(150, "Sleep stage ?", 36000)]
    assert label(marks, 4) == [0, 0, 0, 2]


def test_an_unscored_mark_beyond_the_end_does_not_refuse_the_stage_before() -> None:
    assert label([Mark(0, "W"), Mark(1000, "?")], 4) == [0, 0, 0, 0]


def test_no_marks_give_unscored_epochs() -> None:
    assert label([], 3) == [-1, -1, -1]


@pytest.mark.parametrize(
    ("marks", "seconds"),
    [
        ([Mark(0, "W", 30), Mark(30, "N1", 40)], 50.0),
        ([Mark(0, "W", 30), Mark(30, "N1")], 0.0),
        ([Mark(0, "W", 500)], 0.0),
        ([Mark(0, "note")], 120.0),
    ],
)
def test_the_unscored_tail_is_measured(marks: list[Mark], seconds: float) -> None:
    assert unscored_tail_s(marks, stage_code, duration_s=120.0) == seconds


@pytest.mark.parametrize(
    "table",
    [
        "epoch,stage\n0,W\n1,N1\n2,S4\n3,?\n",
        "epoch;stage\n1;0\n2;1\n3;4\n4;-1\n",
        "W\nN1\nN3\nMT\n",
        "stage\n0\n1\n3\n-1\n",
        "onset_s,duration_s,stage\n0,30,Sleep stage W\n30,30,Sleep stage 1\n60,30,N3\n90,30,MT\n",
        "onset_s\tstage\n0\tW\n30\tN1\n60\tN3\n90\tMT\n",
    ],
)
def test_a_table_of_stages_is_read(tmp_path: Path, table: str) -> None:
    path = tmp_path / "night.csv"
    path.write_text(table, "utf-8")
    assert label(list(read_stage_file(path)), 4) == [0, 1, 3, -1]


def test_epochs_of_a_table_have_the_length_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "night.txt"
    path.write_text("W\nR\n", "utf-8")
    assert read_stage_file(path, epoch_s=20.0) == (Mark(0.0, "W", 20.0), Mark(20.0, "R", 20.0))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "is empty"),
        ("epoch,stage\n5,W\n", "begin with 5"),
        ("epoch,stage\n0,X9\n", "'X9' is no sleep stage"),
        ("epoch,phase\n0,W\n", "no column 'stage'"),
        ("time,stage\n0,W\n", "no column 'onset_s'"),
        ("epoch,stage\n0,7\n", "Stage 7 is unknown"),
        ("epoch,stage\n0\n", "has a row of 1 cells where 2 were expected"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, table: str, reason: str) -> None:
    path = tmp_path / "night.csv"
    path.write_text(table, "utf-8")
    with pytest.raises(ValueError, match=f"night.csv.*{reason}.*a hypnogram has columns epoch"):
        read_stage_file(path)


def test_a_hypnogram_of_edf_annotations_is_read(tmp_path: Path) -> None:
    notes = [edfio.EdfAnnotation(0, 60, "Sleep stage W"), edfio.EdfAnnotation(60, 30, "Note")]
    edfio.Edf([], annotations=notes).write(tmp_path / "night.edf")
    assert read_stage_file(tmp_path / "night.edf")[0] == Mark(0.0, "Sleep stage W", 60.0)


def test_a_file_without_stages_or_no_file_is_refused(tmp_path: Path) -> None:
    note = edfio.EdfAnnotation(0, None, "Lights off")
    edfio.Edf([], annotations=[note]).write(tmp_path / "night.edf")
    with pytest.raises(ValueError, match=r"None of the 1 annotations of night\.edf"):
        read_stage_file(tmp_path / "night.edf")
    with pytest.raises(FileNotFoundError, match="There is no hypnogram"):
        read_stage_file(tmp_path / "other.csv")


def test_the_hypnogram_of_sleep_edf_is_read(real_data: Path) -> None:
    marks = read_stage_file(real_data / "formats/edf/SC4001EC-Hypnogram.edf")
    labels = label_epochs(marks, stage_code, n_samples=79500 * 100, sfreq_hz=100.0, epoch=3000)
    assert labels[:1021].tolist() == [0] * 1021
    assert labels[1021:1027].tolist() == [1, 1, 1, 1, 2, 2]
    assert len(labels) == 2650
