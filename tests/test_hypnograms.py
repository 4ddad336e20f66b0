"""Hypnogram files of all kinds: forms of text, numbers, epochs, clocks, XML, arrays."""

from datetime import datetime, time
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from biopart.signals.recording import Mark, Recording
from biopart.signals.stages import (
    Night,
    Scoring,
    label_epochs,
    read_scoring,
    read_stage_file,
    stage_code,
    stated_start,
)
from biopart.signals.stages.marks import stages_among
from biopart.store.label_rules import CODES, StageLabels

START = datetime(2020, 1, 1, 22, 0)


def write(folder: Path, text: str | bytes, name: str = "night.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, n_epochs: int = 4, *, start: Any = None, **rule: Any) -> Scoring:
    """Read a hypnogram of a recording of so many epochs of 30 s."""
    night = Night(30.0 * n_epochs, start)
    return read_scoring(path, StageLabels.model_validate({"kind": "stages", **rule}), night)


def label(scoring: Scoring, n_epochs: int = 4) -> list[int]:
    """Label epochs of 30 s at 1 Hz."""
    marks = scoring.marks
    result = label_epochs(marks, stage_code, n_samples=30 * n_epochs, sfreq_hz=1.0, epoch=30)
    return [int(code) for code in result]


FORMS = {
    "epochs from 0": "epoch,stage\n0,W\n1,N1\n2,S4\n3,?\n",
    "epochs from 1": "epoch;stage\n1;0\n2;1\n3;3\n4;-1\n",
    "one per line": "W\nN1\nN3\nMT\n",
    "numbers with a name": "stage\n0\n1\n3\n-1\n",
    "durations": "onset_s,duration_s,stage\n0,30,Stage W\n30,30,Stage 1\n60,30,N3\n90,30,MT\n",
    "onsets": "onset_s\tstage\n0\tW\n30\tN1\n60\tN3\n90\tMT\n",
    "BIDS": "onset\tduration\ttrial_type\n0.0\t30\twake\n30\t30\tN1\n60\t30\tN3\n90\t30\tn/a\n",
    "YASA": "Epoch,Stage\n0,WAKE\n1,N1\n2,N3\n3,ART\n",
    "YASA's annotations": "onset,duration,value,description\n0,30,0,WAKE\n30,30,1,N1\n60,30,3,N3\n"
    "90,30,-1,ART\n",
    "U-Sleep": "0,30,W\n30,30,N1\n60,30,N3\n90,30,UNKNOWN\n",
    "one line": "0,1,3,-1\n",
    "one line of blanks": "W N1 N3 ?\n",
    "blanks": "0 W\n30 N1\n60 N3\n90 ?\n",
    "words of several parts": "Sleep stage W\nSleep stage 1\nSleep stage 4\nMovement time\n",
    "a blank line": "W\nN1\nN3\n\n\n",
    "a title": "[Hypnogram]\nW\nN1\nN3\n?\n",
    "a preamble": "Patient\tX\nNight\t2\n\nSleep Stage\tTime [hh:mm:ss]\tEvent\tDuration[s]\n"
    "W\t22:00:00\tSLEEP-S0\t30\nS1\t22:00:30\tSLEEP-S1\t30\nS3\t22:01:00\tSLEEP-S3\t30\n"
    "MT\t22:01:30\tSLEEP-MT\t30\n",
    "our own": "epoch,onset_s,stage,p_W\n0,0,W,1\n1,30,N1,0\n2,60,N3,0\n3,90,?,0\n",
    "separators behind": "W,\nN1,\nN3,\n?,\n",
    "decimal commas": "onset;stage\n0,0;W\n30,0;N1\n60,0;N3\n90,0;?\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_text_gives_the_same_labels(tmp_path: Path, form: str) -> None:
    scoring = read(write(tmp_path, FORMS[form]), start=START)
    assert label(scoring) == [0, 1, 3, -1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    text = "epoch,stage,note\n0,Éveil,é\n1,N1,\n2,N3,\n3,?,\n".replace("\n", end)
    assert label(read(write(tmp_path, text.encode(encoding)))) == [0, 1, 3, -1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty; a hypnogram has columns epoch"),
        ("epoch,stage\n", "it has a header but no rows; a hypnogram has"),
        ("epoch,stage\n1,W\n2,W\n", "its epochs run from 1 to 2 of 4, which may count from 0 or"),
        ("epoch,stage\n1,W\n9,W\n", "its epochs reach 9, but the recording has 4"),
        ("epoch,stage\n0,X9\n", "none of its lines is a known sleep stage"),
        ("epoch,phase\n0,W\n", "line 1 .epoch, phase. has no column names"),
        ("time,stage\n0,W\n", "line 2: '0' is not a clock time .*labels.columns, {onset: ...}"),
        ("epoch,stage\n0,12\n", "the stages 12 fit no known convention; .* ucddb"),
        ("epoch,stage\n0\n", "line 2 has 1 cells, but 2 were expected"),
        ("epoch,stage\nx,W\n", "line 2: 'x' is not a number .epoch"),
        ("onset,duration,stage\n0,long,W\n", "line 2: 'long' is not a duration in seconds"),
        ("time,stage\n22:00:00,W\n", "its clock times begin at 22:00:00, but the recording does"),
        ("W\n" * 9, r"9 scored epochs do not fit a recording of 120 s; .* \(13.3 s would fill it"),
        ("0\n4\n", r"the stages 0, 4 are ambiguous \(4 may be S4 or REM\); .*labels.codes"),
        ("0\n\0\n", "is not a text file: it holds zero bytes"),
    ],
)
def test_a_text_that_is_not_certain_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"night.csv: .*{reason}"):
        read(write(tmp_path, text))


@pytest.mark.parametrize(
    ("codes", "numbers"),
    [
        ("ucddb", "0 2 3 4 5 1 7"),
        ("dreams", "5 3 2 1 0 4 -2"),
        ("rk", "0 1 2 3 4 5 9"),
        ("rem4", "0 1 2 3 3 4 -1"),
        ({0: "W", 10: "N1", 20: "N2", 30: "N3", 40: "R", 99: None}, "0 10 20 30 30 40 99"),
    ],
)
def test_numbers_mean_what_is_stated(tmp_path: Path, codes: Any, numbers: str) -> None:
    path = write(tmp_path, numbers.replace(" ", "\n"))
    scoring = read(path, 7, codes=codes)
    assert label(scoring, 7) == [0, 1, 2, 3, 3, 4, -1]
    assert scoring.warnings == ()
    assert codes == "rem4" or set(CODES) >= {"ucddb", "dreams", "rk"}


def test_what_was_concluded_of_numbers_is_told(tmp_path: Path) -> None:
    scoring = read(write(tmp_path, "0\n1\n5\n9\n"))
    assert label(scoring) == [0, 1, 4, -1]
    assert scoring.warnings == (
        "the stages 0, 1, 5 were read as aasm (0 W, 1 N1, 2 N2, 3 N3, 5 R)",
    )


@pytest.mark.parametrize(
    ("text", "rule", "expected"),
    [
        ("W\nW\nN1\nN1\nN2\nN2\n", {}, [0, 1, 1, 2]),  # of 20 s: 0-40 W, 40-80 N1, 80-120 N2
        ("W\n" * 24 + "R\n" * 24, {"epoch_s": 2.5}, [0, 0, 4, 4]),
        ("epoch,duration,stage\n0,60,W\n1,60,R\n", {}, [0, 0, 4, 4]),
        ("onset,duration,stage\n0,40,W\n80,40,R\n", {}, [0, -1, -1, 4]),
        ("epoch,stage\n1,W\n2,R\n", {"first_epoch": 1}, [0, 4, -1, -1]),
        ("epoch,stage\n1,W\n2,R\n", {"first_epoch": 0}, [-1, 0, 4, -1]),
        ("epoch,stage\n0,W\n3,R\n", {}, [0, -1, -1, 4]),
    ],
)
def test_scored_epochs_have_their_own_length_and_number(
    tmp_path: Path, text: str, rule: dict[str, Any], expected: list[int]
) -> None:
    path = write(tmp_path, text)
    assert label(read(path, **rule)) == expected


def test_a_scored_tail_longer_than_a_stored_epoch_is_taken(tmp_path: Path) -> None:
    night = Night(100.0, epoch_s=5.0)
    scoring = read_scoring(write(tmp_path, "W\nN1\nN2\nR\n"), StageLabels(), night)
    codes = label_epochs(
        scoring.marks, stage_code, n_samples=100, sfreq_hz=1, epoch=5, scored_s=scoring.epoch_s
    )
    assert codes.tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [4] * 2


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"columns": {"onset": "t", "duration": "len", "stage": "hum"}}, [0, 1, 3, -1]),
        ({"columns": {"onset": 1, "duration": 2, "stage": 4}}, [4, 4, 4, 4]),
    ],
)
def test_a_card_names_columns(tmp_path: Path, rule: dict[str, Any], expected: list[int]) -> None:
    rows = ("t,len,hum,ai", "0,30,W,R", "30,30,N1,R", "60,30,N3,R", "90,30,?,R")
    path = write(tmp_path, "\n".join(rows))
    assert label(read(path, **rule)) == expected
    wrong = {"columns": {"stage": "nobody"}}
    with pytest.raises(ValueError, match=r"no column 'nobody' \(stage\); it has t, len, hum, ai"):
        read(path, **wrong)


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("time,stage\n22:00:30,W\n22:01:00,R\n", START, [-1, 0, 4, -1]),
        ("StartTime;stage\n23:59:30;W\n00:00:00;N1\n00:00:30;R\n", time(23, 59), [-1, 0, 1, 4]),
        ("time,stage\n2020-01-01T22:01:00,W\n2020-01-01T22:01:30,R\n", START, [-1, -1, 0, 4]),
        ("22:00,W\n22:01,R\n", START, [0, 0, 4, 4]),
        ("time,stage\n10:00:00 PM,W\n10:00:30 PM,R\n", START, [0, 4, -1, -1]),
        ("epoch,clock,stage\n1,22:01:00,W\n2,22:01:30,R\n", START, [-1, -1, 0, 4]),
    ],
)
def test_clock_times_are_those_of_the_recording(
    tmp_path: Path, text: str, start: Any, expected: list[int]
) -> None:
    assert label(read(write(tmp_path, text), start=start)) == expected


def test_onsets_that_count_from_another_time_are_moved_and_that_is_told(tmp_path: Path) -> None:
    text = "onset,time,stage\n0,22:01:00,W\n30,22:01:30,R\n"
    scoring = read(write(tmp_path, text), start=START)
    assert label(scoring) == [-1, -1, 0, 4]
    assert scoring.warnings == (
        "its rows count from 22:01:00, the recording starts at 22:00:00: its marks were shifted "
        "by +60 s",
    )


def write_edf(path: Path, start: datetime | None) -> Path:
    notes = [edfio.EdfAnnotation(0, 60, "Sleep stage W"), edfio.EdfAnnotation(60, 60, "R")]
    about = None if start is None else edfio.Recording(startdate=start.date())
    clock = None if start is None else start.time()
    edfio.Edf([], recording=about, starttime=clock, annotations=notes).write(path)
    return path


@pytest.mark.parametrize(
    ("start", "expected", "moved"),
    [
        (datetime(2020, 1, 1, 22, 1), [-1, -1, 0, 0], "+60"),
        (datetime(2020, 1, 1, 21, 59, 30), [0, 4, 4, -1], "-30"),
        (datetime(1999, 5, 5, 22, 1), [-1, -1, 0, 0], "+60"),  # the date was changed
        (datetime(2020, 1, 1, 22, 0), [0, 0, 4, 4], None),
        (None, [0, 0, 4, 4], None),  # the writer knew no start
    ],
)
def test_the_start_of_an_edf_hypnogram_is_compared_with_the_recordings(
    tmp_path: Path, start: datetime | None, expected: list[int], moved: str | None
) -> None:
    path = write_edf(tmp_path / "h.edf", start)
    scoring = read(path, start=START)
    inside = tuple(mark for mark in scoring.marks if mark.onset_s < 120)
    held = Scoring(tuple(Mark(m.onset_s, m.text, min(60, 120 - m.onset_s)) for m in inside))
    assert label(held) == expected
    told = f"h.edf starts at {start or START:%H:%M:%S}, the recording at 22:00:00: its marks were "
    assert scoring.warnings == (() if moved is None else (f"{told}shifted by {moved} s",))


def test_a_hypnogram_of_another_time_of_day_is_refused(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "h.edf", datetime(2020, 1, 1, 11, 0))
    with pytest.raises(
        ValueError, match=r"shifted by -39600 s, none of its marks lies in the record"
    ):
        read(path, start=START)


NSRR = """<?xml version="1.0" encoding="UTF-8"?>
<PSGAnnotation><SoftwareVersion>Compumedics</SoftwareVersion><EpochLength>30</EpochLength>
<ScoredEvents>
<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start>
<Duration>120.0</Duration><ClockTime>01.01.85 22.00.30</ClockTime></ScoredEvent>
<ScoredEvent><EventType>Respiratory|Respiratory</EventType><EventConcept>Hypopnea|Hypopnea
</EventConcept><Start>12.5</Start><Duration>20</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Wake|0</EventConcept>
<Start>0.0</Start><Duration>30.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage 4 sleep|4</EventConcept>
<Start>30.0</Start><Duration>30.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>REM sleep|5</EventConcept>
<Start>60.0</Start><Duration>30.0</Duration></ScoredEvent>
</ScoredEvents></PSGAnnotation>"""
PROFUSION = """<CMPStudyConfig><EpochLength>30</EpochLength><ScoredEvents><ScoredEvent>
<Name>Arousal</Name><Start>3</Start></ScoredEvent></ScoredEvents><SleepStages>
<SleepStage>0</SleepStage><SleepStage>4</SleepStage><SleepStage>5</SleepStage>
<SleepStage>9</SleepStage></SleepStages></CMPStudyConfig>"""


def test_xml_of_the_nsrr_is_read_with_its_clock(tmp_path: Path) -> None:
    scoring = read(write(tmp_path, NSRR, "a-nsrr.xml"), start=time(22, 0))
    assert label(scoring) == [-1, 0, 3, 4]
    assert scoring.warnings == (
        "a-nsrr.xml starts at 22:00:30, the recording at 22:00:00: its marks were shifted by +30 s",
    )
    assert label(read(write(tmp_path, NSRR, "a-nsrr.xml"))) == [0, 3, 4, -1]


def test_xml_of_profusion_is_read_by_its_own_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, PROFUSION, "a-profusion.xml")
    assert label(read(path)) == [0, 3, 4, -1]
    assert label(read(path, codes={0: "R", 4: "W", 5: "N1"})) == [4, 0, 1, -1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<PSGAnnotation/>", "a.xml has no annotations with a text, so no sleep"),
        (NSRR[:300], "a.xml is not complete XML"),
        ("<html/>", r"a.xml is XML of the kind html; biopart reads PSGAnnotation \(NSRR\) and"),
        (NSRR.replace("30.0</Start>", "x</Start>"), "a.xml: Start is 'x', not a number"),
        (PROFUSION.replace("<EpochLength>30</EpochLength>", ""), "a.xml has 4 stages of 0 s"),
    ],
)
def test_xml_that_makes_no_sense_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(write(tmp_path, text, "a.xml"))


def test_an_array_of_stages_is_read_by_its_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0], [1], [4], [5]]))
    assert label(read(tmp_path / "a.npy", codes="rem4")) == [0, 1, 4, -1]
    np.save(tmp_path / "b.npy", np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"b.npy has the shape \(4, 5\)"):
        read(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"c.npy is not a plain numpy array"):
        read(tmp_path / "c.npy")


@pytest.mark.parametrize("name", ["a.mat", "a.xlsx", "a.docx"])
def test_another_suffix_is_refused_with_the_kinds_that_are_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no supported format: a hypnogram is EDF"):
        read_stage_file(write(tmp_path, b"MATLAB 7.3 MAT-file", name))


def test_the_length_of_an_epoch_may_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, "W\nR\n", "night.txt")
    assert read_stage_file(path, epoch_s=20.0) == (Mark(0.0, "W", 20.0), Mark(20.0, "R", 20.0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("onset,stage\n0,W\n30,W\n90,R\n", [0, 0, -1, 4]),  # epochs with a gap
        ("onset,stage\n0,W\n60,N2\n90,R\n", [0, 0, 2, 4]),  # runs
        ("start,end,stage\n0,30,W\n60,90,N2\n", [0, -1, 2, -1]),
        ("0,30,W\n30,60,N2\n60,120,R\n", [0, 2, 4, 4]),  # ends, not durations
        ("onset,duration,stage\n0,120,N2\n65,n/a,artifact\n", [2, 2, 2, 2]),
        (
            "Event,Onset,Duration,Stage\nSLEEP-S0,0,30,W\nhypopnea,5,20,W\nSLEEP-S2,30,90,N2\n",
            [0, 2, 2, 2],
        ),
        (
            "Signal ID: Schlaf\nStart: today\n22:00:00,000; Wach\n22:00:30,000; N1\n"
            "22:01:00,000; N2\n22:01:30,000; Rem\n",
            [0, 1, 2, 4],
        ),
    ],
)
def test_ends_gaps_events_and_preambles_are_read(
    tmp_path: Path, text: str, expected: list[int]
) -> None:
    assert label(read(write(tmp_path, text), start=START)) == expected


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "onset,duration,stage\n0,1e400,W\n", "line 2: '1e400' is not a duration"),
        ("a.csv", "onset,duration,stage\n0,-30,W\n", "line 2: '-30' is not a duration"),
        ("a.csv", "onset,stage\n1e400,W\n", "line 2: '1e400' is not a number"),
        ("a.csv", f"W,{'x' * 200_000}\n", "line 1 cannot be split into cells"),
        ("a.csv", "stage\n" + "9" * 5000 + "\n", "none of its lines is a known sleep stage"),
        ("a.csv", "epoch,stage\n0,W\n1,R\n0,N1\n", "epoch 0 occurs more than once"),
        ("a.csv", "22:00,W\n22:00,W\n22:01,R\n", "1 onsets occur more than once, the first is 0"),
        ("a.csv", "time,stage\n10:00:00,W\n", "it starts at 10:00:00, the recording at 22:00:00"),
        ("a.csv", "0,30,W\n30,180,N2\n", "line 1 .0, 30, W. has no column names"),
        ("a.csv", "5\n0\n1\n2\n", "the night begins with 5, which is W in DREAMS"),
        ("a.npy", b"PK\3\4 cut", "a.npy is not a plain numpy array"),
        ("a.xml", PROFUSION.replace(">30<", ">inf<"), "EpochLength is 'inf', not a number"),
        ("a.xml", NSRR.replace("<Start>0.0<", "<Start>nan<"), "a.xml: Start is 'nan', not a num"),
    ],
)
def test_what_other_tools_write_wrongly_is_refused_by_its_place(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        read(write(tmp_path, content, name), start=START)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(("N2 (arousal)", 2), ("W, supine", 0), ("(W)", 0), ("Sleep stage N2 arousal", 2)),
        *(("(N", None), ("Unsure|Unsure", None), ("Estadio N2 del sueño", 2)),
    ],
)
def test_a_stage_with_an_event_behind_it_is_that_stage(text: str, code: int | None) -> None:
    assert stage_code(text) == code


@pytest.mark.parametrize("start", [datetime(1985, 1, 1), datetime(2000, 1, 1)])
def test_midnight_of_a_first_of_january_is_no_start(tmp_path: Path, start: datetime) -> None:
    recording = Recording(tmp_path / "a.edf", (), lambda indices: [], start=start)
    assert stated_start(recording) is None


def test_a_clock_may_be_ignored_and_a_day_may_be_another(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "h.edf", datetime(2020, 1, 1, 22, 1))
    assert read(path, start=START, clock="ignore").marks[0].onset_s == 0
    later = write_edf(tmp_path / "i.edf", datetime(2020, 1, 2, 21, 59, 30))
    assert read(later, start=START).marks[0].onset_s == -30


def test_the_pm_of_a_clock_counts_and_what_is_no_clock_is_told(tmp_path: Path) -> None:
    given = "01.01.85 22.00.30"
    evening = NSRR.replace(given, "01/01/2020 10:01:00 PM")
    assert read(write(tmp_path, evening, "a.xml"), start=START).marks[0].onset_s == 60
    unknown = read(write(tmp_path, NSRR.replace(given, "unknown"), "b.xml"), start=START)
    assert unknown.warnings == ("its ClockTime 'unknown' is not a clock time and was ignored",)


def test_marks_that_contradict_each_other_are_unscored_and_told() -> None:
    marks = [Mark(0, "W", 30), Mark(30, "N1", 30), Mark(30, "N2", 30), Mark(60, "R", 30)]
    staging = stages_among(marks, StageLabels())
    assert label(Scoring(staging.marks), 3) == [0, -1, 4]
    assert staging.warnings == (
        "1 marks contradict another of the same time and count as unscored: 'N1 and N2' (1)",
    )


def test_a_long_unknown_mark_inside_a_stated_stage_is_told() -> None:
    marks = [Mark(0, "W", 30), Mark(5, "note"), Mark(10, "Deep", 15), Mark(29.99, "Deep", 30)]
    staging = stages_among(marks, StageLabels())
    assert label(Scoring(staging.marks), 2) == [0, -1]
    assert [text.partition(" lie inside")[0] for text in staging.warnings] == [
        "1 marks are not a known stage and count as unscored: 'Deep' (1); define words with "
        "labels.words, numbers with labels.codes",
        "'Deep' (1)",
    ]
