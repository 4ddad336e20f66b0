"""Events of recordings: from annotations and tables into the store, and their scores."""

from pathlib import Path

import numpy as np
import pytest

from biopart.evaluation.answers import PredictedRecording, f1
from biopart.evaluation.events import joined, matched_events, runs_of
from biopart.signals.events import events_of
from biopart.signals.recording import Channel, Mark, Recording
from biopart.store.card import Card
from biopart.store.event_rules import EventRule

CARD = {
    "name": "n",
    "title": "t",
    "licence": "l",
    "citation": "c",
    "recordings": ["*.edf"],
    "channels": ["EEG"],
    "sfreq_hz": 10.0,
    "band_hz": [None, None],
}


def card(**events):
    return Card.model_validate({**CARD, "events": events})


def recording(path="a.edf", marks=()):
    channel = Channel("EEG", 10.0, 1000, "uV", 1.0, 0.0)
    return Recording(Path(path), (channel,), lambda _: [], marks=tuple(marks))


def test_marks_become_events_in_samples_sorted_and_cut_at_the_ends():
    marks = [
        Mark(5.0, "spindle", 0.5),
        Mark(1.0, " spindle ", 1.0),
        Mark(-0.5, "K-complex", 1.0),
        Mark(99.9, "spindle", 5.0),
        Mark(200.0, "spindle", 1.0),
        Mark(3.0, "lights off", None),
    ]
    warnings: list[str] = []
    rules = card(classes={"spindle": ["spindle"], "K": ["K-complex"]})
    found = events_of(recording(marks=marks), rules, 1000, warnings)
    assert found.tolist() == [[0, 5, 1], [10, 20, 0], [50, 55, 0], [999, 1000, 0]]
    assert warnings == [
        "1 event outside the signal left out",
        "2 events cut at the ends of the signal",
    ]


def test_marks_without_a_duration_get_the_cards_and_none_is_refused():
    rules = card(classes={"beat": ["N"]}, before_s=0.2, after_s=0.3)
    found = events_of(recording(marks=[Mark(2.0, "N")]), rules, 1000, [])
    assert found.tolist() == [[18, 23, 0]]
    with pytest.raises(ValueError, match="'N' at 2 s has no duration; name its column"):
        events_of(recording(marks=[Mark(2.0, "N")]), card(classes={"beat": ["N"]}), 1000, [])


def test_events_of_a_table_are_read_by_its_columns(tmp_path):
    (tmp_path / "a_marks.csv").write_text("start,length,what\n1.0,0.5,ap\n4.0,2.0,hy\n9,1,other\n")
    columns = {"onset": "start", "duration": "length", "text": "what"}
    rules = card(
        file="{stem}_marks.csv", **columns, classes={"apnoea": ["ap"], "hypopnoea": ["hy"]}
    )
    found = events_of(recording(tmp_path / "a.edf"), rules, 1000, [])
    assert found.tolist() == [[10, 15, 0], [40, 60, 1]]
    warnings: list[str] = []
    assert not len(events_of(recording(tmp_path / "b.edf"), rules, 1000, warnings))
    assert warnings == ["there is no event file {stem}_marks.csv, so the recording has no events"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"annotation": "atr", "file": "a.csv"}, "give only one of them"),
        ({"onset": 2}, "onset is a column of file"),
        ({"file": "../{stem}.csv"}, "only {stem} may be in braces"),
        ({"classes": {"a": ["x"], "b": ["x"]}}, "'x' belongs to two classes"),
        ({"annotation": "atr"}, "have no duration; give before_s"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        EventRule.model_validate({"classes": {"a": ["x"]}, **rule})


def test_events_match_once_by_their_overlap():
    truth = np.array([[0.0, 10.0], [20.0, 30.0], [40.0, 41.0]])
    guess = np.array([[1.0, 9.0], [8.0, 12.0], [29.0, 60.0], [40.0, 41.0]])
    one = matched_events(truth, guess)
    # 8 of 10 with the first; [8, 12] loses to it; [29, 60] overlaps 1 of 40; the last is exact.
    assert (one.found, one.missed, one.false) == (2, 1, 2)
    assert sorted(one.onset_error.tolist()) == [0.0, 1.0]
    scores = f1(np.array([[2.0, 1.0, 2.0], [0.0, 0.0, 0.0]]))
    assert scores[0] == pytest.approx(4 / 7)
    assert np.isnan(scores[1])


def test_an_overlap_of_exactly_a_fifth_matches_and_touching_does_not():
    assert matched_events(np.array([[0, 10]]), np.array([[8, 10]])).found == 1
    assert matched_events(np.array([[0, 10]]), np.array([[8.1, 10]])).found == 0
    assert matched_events(np.array([[0, 10]]), np.array([[10, 20]])).found == 0
    nothing = matched_events(np.zeros((0, 2)), np.array([[0, 1]]))
    assert (nothing.found, nothing.missed, nothing.false) == (0, 0, 1)


def test_a_long_prediction_before_others_is_still_found():
    # The second guess starts later but ends earlier than the first.
    one = matched_events(np.array([[50, 100]]), np.array([[0, 100], [10, 20]]))
    assert (one.found, one.false) == (1, 1)


def test_runs_reach_the_ends_of_a_recording():
    codes = np.array([1, 1, 0, 2, 2, 1])
    assert runs_of(codes, 1).tolist() == [[0, 2], [5, 6]]
    assert runs_of(codes, 3).tolist() == []


def test_fragments_are_joined_and_short_ones_dropped_as_the_card_says():
    codes = np.zeros(100, int)
    codes[10:20], codes[15], codes[[40, 60]] = 1, 0, 1
    one = PredictedRecording("p", np.zeros((0, 3)), codes, 10.0, gap_s=0.2, least_s=0.3)
    assert one.found(0).tolist() == [[10, 20]]
    assert len(PredictedRecording("p", np.zeros((0, 3)), codes, 10.0).found(0)) == 4
    assert joined(np.zeros((0, 2), np.int64), gap=1).tolist() == []


def test_texts_are_compared_with_single_spaces_and_wrong_durations_are_named():
    rule = EventRule.model_validate({"classes": {"a": ["x  y", "x y"]}})
    assert rule.code_of(" x   y ") == 0
    for seconds in (-3.0, np.inf):
        with pytest.raises(ValueError, match="'x' at 1 s has a duration of"):
            events_of(recording(marks=[Mark(1.0, "x", seconds)]), card(classes={"a": ["x"]}), 9, [])


def test_columns_named_duration_and_text_are_found(tmp_path):
    table = "onset,duration,text\n1.0,0.5,ap\n4.0,2.0,hy\n"
    (tmp_path / "a.csv").write_text(table)
    rules = card(file="{stem}.csv", classes={"apnoea": ["ap"], "hypopnoea": ["hy"]})
    found = events_of(recording(tmp_path / "a.edf"), rules, 1000, [])
    assert found.tolist() == [[10, 15, 0], [40, 60, 1]]
    (tmp_path / "a.csv").write_text(table.replace("text", "what"))
    with pytest.raises(ValueError, match=r"a\.csv has no column named text.*add text: NAME"):
        events_of(recording(tmp_path / "a.edf"), rules, 1000, [])
    one = card(file="{stem}.csv", classes={"apnoea": ["any"]})
    assert len(events_of(recording(tmp_path / "a.edf"), one, 1000, [])) == 2
    (tmp_path / "a.csv").write_text("onset\n1.0\n")
    with pytest.raises(ValueError, match="name its column with duration: NAME"):
        events_of(recording(tmp_path / "a.edf"), one, 1000, [])


def test_marks_of_which_none_is_an_event_are_listed():
    warnings: list[str] = []
    marks = [Mark(1.0, "burst", 1.0), Mark(2.0, "burst", 1.0), Mark(3.0, "pause", 1.0)]
    events_of(recording(marks=marks), card(classes={"B": ["bust"]}), 1000, warnings)
    listed = "'burst' (2), 'pause' (1)"
    assert warnings == [f"no mark is an event of the card; the most frequent texts are {listed}"]
    warnings.clear()
    events_of(recording(), card(classes={"B": ["bust"]}), 1000, warnings)
    assert warnings == ["the recording has no annotations, so it has no events"]


def test_annotations_of_another_file_are_events(real_data, tmp_path):
    import shutil

    found = next(real_data.rglob("SC4001EC-Hypnogram.edf"))
    shutil.copy(found, tmp_path / "a-marks.edf")
    rules = card(file="{stem}-marks.edf", classes={"R": ["Sleep stage R"]})
    events = events_of(recording(tmp_path / "a.edf"), rules, 10_000_000, [])
    assert len(events) > 2
    assert (events[:, 1] - events[:, 0]).min() >= 300  # epochs of 30 s at 10 Hz
