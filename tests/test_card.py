"""Cards: the shipped ones load, and the rules of one are checked when it is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from biopart.settings import checked
from biopart.store import Card, load_card
from biopart.store.image_card import is_image_card
from biopart.store.parts_card import is_parts_card

SHIPPED = sorted(Path(__file__).parents[1].glob("datasets/*.yaml"))
CARDS = [path for path in SHIPPED if not is_image_card(path) and not is_parts_card(path)]
MINIMAL: dict[str, Any] = {
    "name": "n",
    "title": "t",
    "licence": "l",
    "citation": "c",
    "recordings": ["*.edf"],
    "channels": ["C3"],
}


def card(**values: Any) -> Card:
    return checked(Card, {**MINIMAL, **values}, "card")


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_shipped_card_is_named_as_its_file_and_can_be_cited(path: Path) -> None:
    loaded = load_card(path.stem)
    assert loaded.name == path.stem
    assert loaded == load_card(path)
    of_digits = ("zenodo.1342401", "CC BY-SA 4.0")
    others = {"audio_digits": of_digits, "audio_digits_mfcc": of_digits}
    others["speech_commands"] = ("arXiv 1804.03209", "CC BY 4.0")
    source, licence = others.get(path.stem, ("Goldberger", "ODC-By 1.0"))
    assert source in loaded.citation
    assert loaded.licence == licence


def test_the_physionet_card_is_the_papers_task() -> None:
    loaded = load_card("physionet2018")
    assert loaded.channels == ["F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1"]
    assert (loaded.sfreq_hz, loaded.band_hz, loaded.epoch_s) == (100.0, (0.1, 30.0), 30.0)
    assert loaded.labels.names == ("W", "N1", "N2", "N3", "R")


def test_label_names_follow_the_kind_of_rule() -> None:
    assert load_card("eegmat").labels.names == ("rest", "arithmetic")
    assert load_card("mitdb").labels.names == ("normal", "ectopic")
    assert card().labels.names == ()


def test_changes_replace_values_and_shorten_the_stored_epoch() -> None:
    loaded = load_card("physionet2018", ["trim_s=1", "labels.wake_margin_min=3e1"])
    assert loaded.stored_epoch_s == 28.0
    assert loaded.labels.model_dump()["wake_margin_min"] == 30.0


def test_a_card_survives_writing_and_reading() -> None:
    loaded = load_card("sleep_edf")
    again = yaml.safe_load(yaml.safe_dump(loaded.model_dump(mode="json")))
    assert checked(Card, again, "card") == loaded


def test_a_missing_card_lists_the_shipped_ones() -> None:
    with pytest.raises(
        FileNotFoundError,
        match="shhs does not exist; the shipped cards are ade20k_masks, audio_digits, ",
    ):
        load_card("shhs")


def test_an_unknown_key_of_a_card_is_named_with_its_file() -> None:
    with pytest.raises(ValueError, match=r"card mitdb\.yaml: unknown key 'chanels'; .*channels\?"):
        load_card("mitdb", ["chanels=[MLII]"])


@pytest.mark.parametrize("kind", ["stages", "file", "beats", "table", "none"])
def test_an_unknown_key_of_a_label_rule_is_named(kind: str) -> None:
    with pytest.raises(ValueError, match=r"card: labels: unknown key 'anotation'; allowed: "):
        card(labels={"kind": kind, "anotation": "atr"})


def test_an_unknown_kind_of_labels_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match=r"labels\.kind is 'sleep'; give one of 'stages', 'file', 'beats', 'table', 'none'",
    ):
        card(labels={"kind": "sleep"})


@pytest.mark.parametrize(
    "band", [(0.1, 50.0), (0.1, 60.0), (60.0, None), (30.0, 0.1), (5.0, 5.0), (0, 30), (-1, 30)]
)
def test_a_band_outside_what_the_rate_allows_is_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="lie above 0 and below half of sfreq_hz, 50 Hz"):
        card(band_hz=band)


@pytest.mark.parametrize("band", [(None, 49.9), (0.1, None), (None, None), (0.1, 49.9)])
def test_an_end_of_the_band_may_be_open(band: tuple[float | None, float | None]) -> None:
    assert card(band_hz=band).band_hz == band


@pytest.mark.parametrize(("epoch_s", "sfreq_hz"), [(30.0, 100.33), (0.005, 100), (1e-9, 100)])
def test_an_epoch_of_a_broken_number_of_samples_is_refused(epoch_s: float, sfreq_hz: float) -> None:
    with pytest.raises(ValueError, match="not a whole number of samples"):
        card(epoch_s=epoch_s, sfreq_hz=sfreq_hz)


@pytest.mark.parametrize("seconds", [2.3, 0.29, 1.1, 0.07])
def test_decimal_seconds_are_whole_samples_whatever_floats_make_of_them(seconds: float) -> None:
    assert not (seconds * 100).is_integer()
    assert card(epoch_s=seconds).epoch_s == seconds
    assert card(trim_s=seconds).trim_s == seconds


@pytest.mark.parametrize("trim_s", [15.0, 16.0, 0.005])
def test_a_trim_that_leaves_nothing_or_half_a_sample_is_refused(trim_s: float) -> None:
    with pytest.raises(ValueError, match="leave part of an epoch of 30 s"):
        card(trim_s=trim_s)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"person": "tr.*"}, r"person is 'tr\.\*'; give a group"),
        ({"person": "(tr"}, r"person is '\(tr', which is not a regular expression: missing \)"),
        ({"labels": {"kind": "file", "patterns": {"a": "["}}}, r"the pattern of a is '\['"),
        ({"labels": {"kind": "stages", "hypnogram": "{name}.edf"}}, "only {stem} may be"),
        ({"labels": {"kind": "stages", "hypnogram": "{stem"}}, "only {stem} may be"),
        ({"labels": {"kind": "stages", "hypnogram": "/x/{stem}.edf"}}, "hypnogram has the glob"),
        (
            {"labels": {"kind": "stages", "unlabelled": ["("]}},
            r"unlabelled is '\(', which is not a regular",
        ),
        (
            {"recordings": ["*.edf", "/etc/*"]},
            "recordings has the glob '/etc/\\*'; give one below",
        ),
        ({"recordings": ["C:/x/*"]}, "recordings has the glob"),
        ({"recordings": ["a/../../*"]}, "recordings has the glob"),
        ({"recordings": [""]}, "recordings has the glob ''"),
        ({"recordings": ["."]}, "recordings has the glob"),
        ({"recordings": []}, r"recordings is \[\]; give 1 or more values"),
        ({"channels": ["C3", "C4", "C3"]}, "name each channel once"),
        ({"channels": []}, r"channels is \[\]; give 1 or more values"),
        ({"sfreq_hz": "fast"}, "sfreq_hz is 'fast'; give a number$"),
        ({"filter_order": 0}, "filter_order is 0; give 1 or more$"),
        ({"filter_scope": "window"}, "filter_scope is 'window'; give 'recording' or 'epoch'$"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        card(**values)
