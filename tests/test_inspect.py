"""What is said of raw recordings and folders, and a card tried on them."""

import json
from pathlib import Path

import edfio
import numpy as np
import pytest
from click.testing import CliRunner

from biopart.cli import main
from biopart.store import load_card
from biopart.verbs.info import info
from biopart.verbs.inspect import raw_info, recording_info, try_card


def night(path: Path, unit: str = "uV", texts: tuple[str, ...] = ("Sleep stage W", "Foo")) -> Path:
    values = np.random.default_rng(0).normal(0, 20, 6000)
    signal = edfio.EdfSignal(values, 100, label="EEG C3-A2", physical_dimension=unit)
    notes = [edfio.EdfAnnotation(30.0 * n, 30.0, text) for n, text in enumerate(texts)]
    edfio.Edf([signal], annotations=[*notes, edfio.EdfAnnotation(5, 3, "Arousal")]).write(path)
    return path


def card_of(folder: Path, **values: object) -> Path:
    about = {"name": "mine", "title": "t", "licence": "l", "citation": "c"}
    about |= {"recordings": ["*.edf"], "channels": ["C3-M2"], "labels": {"kind": "stages"}}
    (folder / "card.yaml").write_text(json.dumps(about | values))
    return folder / "card.yaml"


def test_a_recording_is_described_with_its_annotations_and_a_cards_montage(tmp_path: Path) -> None:
    path = night(tmp_path / "a.edf")
    found = recording_info(path, load_card(card_of(tmp_path)))
    assert found["channels"] == {"EEG C3-A2": {"sfreq_hz": 100.0, "unit": "uV"}}
    assert found["hours"] == pytest.approx(60 / 3600)
    assert found["annotations"] == {"stages": 1, "events": 1, "others": 1}
    assert found["spellings"] == {"Sleep stage W": 1, "Arousal": 1, "Foo": 1}
    assert found["montage"] == ["C3-M2 = 'EEG C3-A2' (synonym of the electrodes)"]
    assert info(str(path))["recording"] == "a.edf"


def test_a_raw_folder_is_described_and_what_does_not_open_is_named(tmp_path: Path) -> None:
    night(tmp_path / "a.edf")
    (tmp_path / "b.edf").write_bytes(b"")
    (tmp_path / "c.txt").write_text("x")
    found = raw_info(tmp_path)
    assert found["files"] == {".edf": 2, ".txt": 1}
    assert (found["recordings"], found["channels"]) == (1, {"EEG C3-A2": 1})
    assert found["refused"] == {"b.edf": "b.edf is empty: give a complete EDF or BDF file."}
    answer = CliRunner().invoke(main, ["check", str(tmp_path), "--json"])
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["problems"] == [
        "b.edf: b.edf is empty: give a complete EDF or BDF file."
    ]


def test_a_card_is_tried_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    night(tmp_path / "raw/a.edf")
    night(tmp_path / "raw/b.edf", texts=("Sleep stage R", "Sleep stage R"))
    (tmp_path / "raw/c.edf").write_bytes(b"no recording")
    before = sorted(tmp_path.rglob("*"))
    found = try_card(load_card(card_of(tmp_path)), tmp_path / "raw")
    assert (found["recordings"], found["persons"]) == (3, 2)
    assert found["labels"] == {"W": 1, "N1": 0, "N2": 0, "N3": 0, "R": 2}
    assert [line[:3] for line in found["problems"]] == ["c: "]
    assert any(line.startswith("a: 1 marks are not a known stage") for line in found["remarks"])
    assert set(tmp_path.rglob("*")) == {*before, tmp_path / "card.yaml"}


def test_check_compares_a_store_with_its_raw_folder(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    night(tmp_path / "raw/a.edf", texts=("Sleep stage W", "Sleep stage R"))
    card, store = card_of(tmp_path), tmp_path / "s.zarr"
    call = CliRunner().invoke
    wanted = ["--raw", str(tmp_path / "raw")]
    assert call(main, ["prepare", str(card), *wanted, "--out", str(store)]).exit_code == 0
    first = json.loads(call(main, ["check", str(store), *wanted, "--json"]).stdout)["problems"]
    night(tmp_path / "raw/a.edf", texts=("Sleep stage N2", "Sleep stage R"))
    night(tmp_path / "raw/b.edf")
    then = json.loads(call(main, ["check", str(store), *wanted, "--json"]).stdout)["problems"]
    assert [line for line in then if line not in first] == [
        "a: a.edf has changed",
        "b: b.edf is not in the store",
    ]


def test_a_crash_of_biopart_says_where_it_is_and_that_it_is_no_fault_of_the_user(capsys) -> None:
    from biopart.cli.entry import report_crash

    try:
        load_card(3)  # type: ignore[arg-type]
    except TypeError as error:
        report_crash(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert "crashed in " in said
    assert "This is a bug in biopart: please report it" in said
