"""Labels of epochs by the rule of a card: stages, files, beats."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopart.signals.labels import labels
from biopart.signals.readers.wfdb_headers import wfdb
from biopart.signals.recording import Channel, Mark, Recording
from biopart.store import Card

STAGES: dict[str, Any] = {"kind": "stages"}


def make_card(rule: dict[str, Any], epoch_s: float = 30.0, sfreq_hz: float = 10.0) -> Card:
    about = {"name": "n", "title": "t", "licence": "l", "citation": "c", "recordings": ["*"]}
    values = {"channels": ["C3"], "labels": rule, "epoch_s": epoch_s, "sfreq_hz": sfreq_hz}
    return Card.model_validate({**about, **values, "band_hz": (None, None)})


def make_recording(path: Path = Path("x.edf"), marks: tuple[Mark, ...] = ()) -> Recording:
    return Recording(path, (Channel("C3", "uV", 10.0, 0, 1.0),), lambda indices: [], marks)


def label(recording: Recording, rule: dict[str, Any], epochs: int) -> list[int]:
    """Label 30 s epochs at 10 Hz; no warning may come."""
    notes: list[str] = []
    result = labels(recording, make_card(rule), epochs * 300, notes)
    assert notes == []
    assert result.dtype == np.int8
    return [int(code) for code in result]


@pytest.mark.parametrize(
    ("first_s", "unscored"), [(420.0, 14), (370.0, 12), (380.0, 13), (375.0, 13), (374.9, 12)]
)
def test_marks_stay_on_the_recordings_clock(first_s: float, unscored: int) -> None:
    marks = (Mark(first_s, "W"), Mark(450.0, "N2"))
    expected = [-1] * unscored + [0] * (15 - unscored) + [2] * 5
    assert label(make_recording(marks=marks), STAGES, 20) == expected


def test_eight_hours_have_960_epochs_and_a_tail_has_none() -> None:
    recording = make_recording(marks=(Mark(0.0, "N1"),))
    card = make_card(STAGES, sfreq_hz=100.0)
    assert len(labels(recording, card, 8 * 3600 * 100, [])) == 960
    assert len(labels(recording, card, 8 * 3600 * 100 + 2999, [])) == 960


def test_other_marks_of_a_recording_are_no_stages() -> None:
    marks = (Mark(0.0, "Lights off"), Mark(30.0, "Sleep stage 4"), Mark(60.0, "(arousal_rera"))
    assert label(make_recording(marks=marks), STAGES, 3) == [-1, 3, 3]
    told: list[str] = []
    card = make_card(STAGES)
    assert labels(make_recording(marks=marks[:1]), card, 600, told).tolist() == [-1, -1]
    assert labels(make_recording(), card, 600, told).tolist() == [-1, -1]
    assert told == [
        "none of the 1 annotations of x.edf is a known sleep stage ('Lights off'); define them "
        "with labels.words; no epoch is labelled",
        "x.edf has no annotations; no epoch is labelled",
    ]


def test_a_text_that_is_not_known_ends_the_stage_before_it_and_is_told() -> None:
    marks = (Mark(0, "W"), Mark(30, "Foo"), Mark(90, "N2"), Mark(120, "Bar"), Mark(150, "Foo"))
    told: list[str] = []
    result = labels(make_recording(marks=marks), make_card(STAGES), 1800, told)
    assert result.tolist() == [0, -1, -1, 2, -1, -1]
    assert told == [
        "3 marks are not a known stage and count as unscored: 'Foo' (2), 'Bar' (1); define words "
        "with labels.words, numbers with labels.codes"
    ]
    rule = {**STAGES, "words": {"foo": "N1", "BAR": "event"}}
    assert label(make_recording(marks=marks), rule, 6) == [0, 1, 1, 2, 2, 1]


def test_a_text_that_is_not_known_cuts_no_stage_whose_length_is_stated() -> None:
    marks = (Mark(0, "W", 60), Mark(30, "note"), Mark(60, "R", 30), Mark(95, "note"))
    told: list[str] = []
    assert labels(make_recording(marks=marks), make_card(STAGES), 1200, told).tolist() == [
        *(0, 0, 4, -1)
    ]
    assert told == [
        "1 marks are not a known stage and count as unscored: 'note' (1); define words with "
        "labels.words, numbers with labels.codes"
    ]


def test_numbers_between_words_are_stages_of_r_and_k() -> None:
    marks = tuple(Mark(30.0 * i, t) for i, t in enumerate(("W", "1", "2 H", "3", "4 OA", "4", "R")))
    assert label(make_recording(marks=marks), STAGES, 7) == [0, 1, 2, 3, 3, 3, 4]


def test_numbers_alone_mean_what_the_card_says_or_are_refused() -> None:
    marks = tuple(Mark(30.0 * i, text) for i, text in enumerate("0213459"))
    told: list[str] = []
    assert labels(make_recording(marks=marks), make_card(STAGES), 2100, told).tolist() == [-1] * 7
    assert told[0].startswith("the stages 0, 1, 2, 3, 4, 5 are ambiguous (0 to 5 may be R&K")
    assert label(make_recording(marks=marks), {**STAGES, "codes": "rk"}, 7) == [
        *(0, 2, 1, 3, 3, 4, -1)
    ]
    own = {**STAGES, "codes": {0: "R", 1: "W", 2: None, 3: "N3", 4: "N1", 5: "N2", 9: "?"}}
    assert label(make_recording(marks=marks), own, 7) == [4, -1, 0, 3, 1, 2, -1]


def test_marks_beyond_the_signal_are_refused() -> None:
    recording = make_recording(marks=(Mark(0.0, "W"), Mark(90.0, "N1")))
    with pytest.raises(ValueError, match="the signal ends at 90 s"):
        labels(recording, make_card(STAGES), 900, [])


@pytest.mark.parametrize(("scored_s", "warned"), [(60.0, True), (61.0, False), (90.0, False)])
def test_a_hypnogram_an_epoch_shorter_than_the_signal_is_warned_of(
    scored_s: float, warned: bool
) -> None:
    notes: list[str] = []
    result = labels(make_recording(marks=(Mark(0, "W", scored_s),)), make_card(STAGES), 900, notes)
    assert result.tolist() == [0, 0, 0 if scored_s == 90 else -1]
    assert notes == (["the hypnogram ends 30 s before the signal"] if warned else [])


def test_wake_far_from_sleep_loses_its_label() -> None:
    marks = (Mark(0, "W"), Mark(300, "N2"), Mark(360, "W"), Mark(390, "R"), Mark(420, "W"))
    expected = [-1] * 8 + [0, 0, 2, 2, 0, 4, 0, 0] + [-1] * 4
    assert label(make_recording(marks=marks), {**STAGES, "wake_margin_min": 1.0}, 20) == expected
    near = {**STAGES, "wake_margin_min": 30.0}
    assert label(make_recording(marks=marks), near, 20) == [max(code, 0) for code in expected]


def test_a_night_without_sleep_keeps_its_wake() -> None:
    rule = {**STAGES, "wake_margin_min": 0.0}
    assert label(make_recording(marks=(Mark(30, "W"),)), rule, 3) == [-1, 0, 0]


def write_marks(folder: Path, extension: str, *, fs: int, **marks: Any) -> Path:
    """Write a WFDB header without signals and an annotation file beside it."""
    (folder / "r1.hea").write_text(f"r1 0 {fs} 0\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The inplace keyword")
        wfdb.wrann("r1", extension, fs=fs, write_dir=str(folder), **marks)
    return folder / "r1.hea"


def test_stages_come_from_the_annotation_file_of_the_rule(tmp_path: Path) -> None:
    notes = ["(resp_hypopnea", "W", "(arousal_rera", "N3", "arousal_rera)"]
    sample = np.array([100, 6000, 9000, 12000, 12400])
    path = write_marks(tmp_path, "arousal", fs=200, sample=sample, symbol=['"'] * 5, aux_note=notes)
    rule = {**STAGES, "annotation": "arousal"}
    assert label(make_recording(path), rule, 4) == [-1, 0, 3, 3]
    path.with_suffix(".arousal").unlink()
    assert label(make_recording(path), {**rule, "unlabelled": ["^t", "^r1$"]}, 4) == [-1] * 4
    told: list[str] = []
    card = make_card({**rule, "unlabelled": ["^te"]})
    assert labels(make_recording(path), card, 1200, told).tolist() == [-1] * 4
    assert told == ["no hypnogram fits r1.arousal; no epoch is labelled"]


@pytest.mark.parametrize("stem", ["night1-PSG", "[n]ight-PSG"])
def test_stages_come_from_the_hypnogram_beside_the_recording(tmp_path: Path, stem: str) -> None:
    (tmp_path / f"{stem[:6]}X-Hypnogram.csv").write_text("onset_s,stage\n30,N2\n60,R\n")
    (tmp_path / "nigh-Hypnogram.csv").write_text("onset_s,stage\n0,W\n")
    rule = {**STAGES, "hypnogram": "{stem:.6}?-Hypnogram.csv"}
    assert label(make_recording(tmp_path / f"{stem}.edf"), rule, 3) == [-1, 2, 4]


def test_without_a_hypnogram_nothing_is_labelled_and_two_are_refused(tmp_path: Path) -> None:
    recording = make_recording(tmp_path / "a.edf")
    rule = {**STAGES, "hypnogram": "{stem}-*.csv"}
    notes: list[str] = []
    assert labels(recording, make_card(rule), 600, notes).tolist() == [-1, -1]
    assert notes == ["no hypnogram fits a-*.csv; no epoch is labelled"]
    for scorer in "12":
        (tmp_path / f"a-{scorer}.csv").write_text("stage\nW\n")
    with pytest.raises(ValueError, match=r"a\.edf has several hypnograms: a-1\.csv, a-2\.csv"):
        label(recording, rule, 2)


def test_a_file_is_labelled_by_its_name() -> None:
    rule = {"kind": "file", "patterns": {"rest": "_1$", "task": "_2$", "either": "both"}}
    assert label(make_recording(Path("S01_2.edf")), rule, 3) == [1, 1, 1]
    with pytest.raises(
        ValueError, match="S01_3 fits 0 of the label patterns; it must fit exactly one"
    ):
        label(make_recording(Path("S01_3.edf")), rule, 3)
    with pytest.raises(ValueError, match="both_1 fits 2 of the label patterns"):
        label(make_recording(Path("both_1.edf")), rule, 3)


def test_an_epoch_takes_the_last_class_that_has_a_beat_in_it(tmp_path: Path) -> None:
    # Epochs of 10 s at 360 Hz: 3,600 samples; the last beat lies in the tail.
    beats = {0: "N", 3599: "V", 3600: "N", 7200: "+", 10800: "V", 10900: "N", 14399: "~"}
    beats |= {18000: "N"}
    symbol, sample = list(beats.values()), np.array(list(beats))
    path = write_marks(tmp_path, "atr", fs=360, sample=sample, symbol=symbol)
    rule = {"kind": "beats", "annotation": "atr", "classes": {"n": ["N", "L"], "v": ["V", "F"]}}
    card = make_card(rule, epoch_s=10.0, sfreq_hz=125.0)
    result = labels(make_recording(path), card, 5 * 1250 + 700, [])
    assert result.tolist() == [1, 0, -1, 1, -1]


def test_beats_are_counted_in_samples_not_in_seconds(tmp_path: Path) -> None:
    # 0.3 s // 0.1 s is 2 in floats; sample 30 of 100 Hz begins epoch 3.
    path = write_marks(tmp_path, "atr", fs=100, sample=np.array([30]), symbol=["N"])
    card = make_card({"kind": "beats", "annotation": "atr", "classes": {"n": ["N"]}}, 0.1, 100.0)
    assert labels(make_recording(path), card, 50, []).tolist() == [-1, -1, -1, 0, -1]


def test_a_missing_beat_file_is_refused(tmp_path: Path) -> None:
    rule = {"kind": "beats", "annotation": "atr", "classes": {"n": ["N"]}}
    with pytest.raises(FileNotFoundError, match=r"annotation file r1\.atr"):
        label(make_recording(tmp_path / "r1.hea"), rule, 3)


def test_a_card_without_labels_gives_none() -> None:
    assert label(make_recording(), {"kind": "none"}, 3) == [-1, -1, -1]
