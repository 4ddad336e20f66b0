"""Stages: spellings, the recording's clock, the majority rule, hypnogram files."""

from pathlib import Path

import edfio
import numpy as np
import pytest

from biopart.signals.recording import Mark
from biopart.signals.stages import (
    Night,
    is_event,
    label_epochs,
    read_scoring,
    read_stage_file,
    stage_code,
    unscored_tail_s,
)
from biopart.store.label_rules import StageLabels

SPELLINGS = {
    0: [
        *("W", "wake", "WAKE", "Sleep stage W", "Stage W", " sleep  stage w ", "Wake|0"),
        *("SLEEP-S0", "Stage - W", "W L", "Wach", "Éveil", "vigilia", "Veglia", "Wakker"),
        *("Vigília", "stage_w", "Stage 0"),
    ],
    1: [
        *("N1", "S1", "Sleep stage 1", "Sleep stage N1", "NREM 1", "stage 1", "Stage 1 sleep"),
        *("NREM1", "NREM stage 1", "Sleep stage N1@@EEG C3", "Stade 1", "non-REM 1", "1 LA"),
        *("Stadium I", "estágio 1"),
    ],
    2: ["N2", "S2", "Sleep stage 2", "sleep stage n2", "Stage2", "2 H", "Stage 2 sleep|2"],
    3: [
        *("N3", "S3", "S4", "Sleep stage 3", "Sleep stage 4", "Sleep stage N3", "N4", "NREM4"),
        *("4 OA", "Stage 4 sleep|4", "Stade de sommeil 3"),
    ],
    4: [
        *("R", "REM", "Rem", "Sleep stage R", "Sleep stage REM", "REM sleep", "REM sleep|5"),
        *("R HA", "Sommeil paradoxal", "REM-Schlaf", "Sonno REM", "Sueño REM", "REM-slaap"),
        *("Sono REM", "SLEEP-REM", "MOR"),
    ],
    -1: [
        *("Sleep stage ?", "Movement time", "MT", "?", "unscored", "Artefact", "Sleep stage MT"),
        *("No Stage", "SLEEP-MT", "Movement|6", "MT L", "n/a"),
    ],
}
EVENTS = [
    *("(arousal_rera", "resp_hypopnea)", "Lights off", "Hypopnea|Hypopnea", "Body movement"),
    *("Limb Movement - 3 (Left)", "SpO2 desaturation", "Snoring", "MCAP-A1", "Recording starts"),
]
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


@pytest.mark.parametrize("text", EVENTS)
def test_events_are_known_and_are_no_stages(text: str) -> None:
    assert stage_code(text) is None
    assert is_event(text)


@pytest.mark.parametrize("text", ["2", "", "Stages scored by X", "N5", "Sleep stage X9", "light"])
def test_what_is_neither_is_not_known(text: str) -> None:
    assert stage_code(text) is None
    assert not is_event(text)


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


def test_a_hypnogram_of_edf_annotations_is_read(tmp_path: Path) -> None:
    notes = [edfio.EdfAnnotation(0, 60, "Sleep stage W"), edfio.EdfAnnotation(60, 30, "Note")]
    edfio.Edf([], annotations=notes).write(tmp_path / "night.edf")
    marks = (Mark(0.0, "W", 60.0), Mark(60.0, "?", 30.0))
    assert read_stage_file(tmp_path / "night.edf") == marks
    told = read_scoring(tmp_path / "night.edf", StageLabels(), Night()).warnings
    assert told == (
        "1 marks are not a known stage and count as unscored: 'Note' (1); define words with "
        "labels.words, numbers with labels.codes",
    )


def test_a_file_without_stages_or_no_file_is_refused(tmp_path: Path) -> None:
    note = edfio.EdfAnnotation(0, None, "Lights off")
    edfio.Edf([], annotations=[note]).write(tmp_path / "night.edf")
    with pytest.raises(
        ValueError,
        match=r"none of the 1 annotations of night\.edf is a known sleep stage \('Lights off'\)",
    ):
        read_stage_file(tmp_path / "night.edf")
    with pytest.raises(FileNotFoundError, match=r"hypnogram .* does not exist"):
        read_stage_file(tmp_path / "other.csv")


def test_the_hypnogram_of_sleep_edf_is_read(real_data: Path) -> None:
    marks = read_stage_file(real_data / "formats/edf/SC4001EC-Hypnogram.edf")
    labels = label_epochs(marks, stage_code, n_samples=79500 * 100, sfreq_hz=100.0, epoch=3000)
    assert labels[:1021].tolist() == [0] * 1021
    assert labels[1021:1027].tolist() == [1, 1, 1, 1, 2, 2]
    assert len(labels) == 2650
