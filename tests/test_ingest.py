"""A folder of recordings into a store: persons, refusals, going on, privacy."""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording

from biopart.signals import ingest, simulate_cohort
from biopart.signals.ingest import find_recordings, read_persons, stale_records
from biopart.signals.simulate import simulate_night
from biopart.store import Card, Store, load_card
from biopart.store.persons import doubtful_persons

ABOUT = {"name": "mine", "title": "t", "licence": "l", "citation": "c"}
NAME, NOTE = "Erika Mustermann", "slept badly, Dr. Sommer was called"


def edf_card(**values: Any) -> Card:
    about = {**ABOUT, "recordings": ["*.edf"], "channels": ["C3"], "epoch_s": 1.0}
    return Card.model_validate({**about, **values})


def write_edf(path: Path, seconds: int = 10, unit: str = "uV") -> Path:
    """Write C3 at 100 Hz with a person's name, a birth date and free text in the header."""
    values = np.random.default_rng(0).normal(0, 30, seconds * 100)
    about = Patient(
        code="X77", birthdate=date(1957, 8, 2), name=NAME.replace(" ", "_"), additional=["anxious"]
    )
    edf = Edf(
        [EdfSignal(values, 100, label="C3", physical_dimension=unit)],
        patient=about,
        recording=Recording(investigator_technician_code="Sommer", equipment_code="E9"),
        annotations=[EdfAnnotation(1, None, NOTE)],
    )
    edf.write(path)
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a raw folder with two nights of six EEG leads."""
    channels = ["F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1"]
    simulate_cohort(tmp_path / "raw", persons=2, hours=0.2, seed=1, channels=channels)
    return tmp_path / "raw"


def test_a_cohort_goes_in_with_its_persons_ages_and_sexes(
    simulated_raw: Path, simulated_store: Path
) -> None:
    store = Store(simulated_store)
    names = [f"tr03-{number:04d}" for number in range(5, 9)]
    assert store.persons == dict(zip(names, names, strict=True))
    with (simulated_raw / "age-sex.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    found = [[name, store.about(name)["age"], store.about(name)["sex"]] for name in names]
    assert found == [[name, int(age), sex] for name, age, sex in rows]
    assert store.attributes["simulated"] is True
    assert store.attributes["card"]["name"] == "physionet2018"


def test_a_record_names_its_file_and_the_hash_of_header_and_data(
    simulated_raw: Path, simulated_store: Path
) -> None:
    about = Store(simulated_store).about("tr03-0006")
    header = simulated_raw / "training" / "tr03-0006" / "tr03-0006.hea"
    parts = [hashlib.sha256(file.read_bytes()) for file in (header, header.with_suffix(".mat"))]
    assert about["source"] == "tr03-0006.hea"
    assert about["source_sha256"] == hashlib.sha256(b"".join(p.digest() for p in parts)).hexdigest()
    assert about["montage"][0] == "F3-M2 = exact name"


def test_labels_of_a_cohort_are_the_truth_of_its_nights(simulated_store: Path) -> None:
    store = Store(simulated_store)
    for person, record in enumerate(store):
        night = simulate_night(0, person, 0.25)
        truth = [-1] * night.lead_in_s + np.repeat(night.stages, 30).tolist()
        epochs = [truth[second : second + 30] for second in range(0, 900, 30)]
        expected = [next((c for c in range(5) if epoch.count(c) > 15), -1) for epoch in epochs]
        assert store.label(record).tolist() == expected
        assert store.signal(record).shape == (6, 90_000)
        assert store.about(record)["n_unscored"] == expected.count(-1)


def test_a_bad_night_is_refused_with_its_reason_and_a_second_call_retries_it(
    raw: Path, tmp_path: Path
) -> None:
    card, out, told = load_card("physionet2018"), tmp_path / "s.zarr", {}
    mat = raw / "training/tr03-0005/tr03-0005.mat"
    whole = mat.read_bytes()
    mat.write_bytes(whole[:-1000])
    report = ingest(card, raw, out, on_record=lambda name, reason: told.update({name: reason}))
    assert (report.written, report.kept) == (["tr03-0006"], [])
    assert list(report.refused) == ["tr03-0005"]
    assert told == {"tr03-0005": report.refused["tr03-0005"], "tr03-0006": None}
    assert "tr03-0005.mat" in report.refused["tr03-0005"]
    before = [(file, file.stat()) for file in (out / "tr03-0006").rglob("*")]
    mat.write_bytes(whole)
    report = ingest(card, raw, out)
    assert (report.written, report.kept, report.refused) == (["tr03-0005"], ["tr03-0006"], {})
    for file, stat in before:
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert Store(out).records == ("tr03-0005", "tr03-0006")


def test_a_damaged_header_among_good_nights_stops_none_of_them(raw: Path, tmp_path: Path) -> None:
    header = raw / "training/tr03-0005/tr03-0005.hea"
    header.write_text(header.read_text("ascii").replace("\n", " ", 1), "ascii")
    report = ingest(load_card("physionet2018", ["channels=[F4-M1]"]), raw, tmp_path / "s.zarr")
    assert report.written == ["tr03-0006"]
    assert report.refused["tr03-0005"].startswith("wfdb cannot read the signals of tr03-0005.hea")


def test_a_store_without_records_takes_a_corrected_card(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf")
    wrong = edf_card(channels=["Cz"])
    assert list(ingest(wrong, tmp_path, tmp_path / "s.zarr").refused) == ["a"]
    assert ingest(edf_card(), tmp_path, tmp_path / "s.zarr").written == ["a"]
    assert Store(tmp_path / "s.zarr").channels == ("C3",)


def test_a_third_call_has_nothing_to_do(simulated_raw: Path, simulated_store: Path) -> None:
    report = ingest(load_card("physionet2018"), simulated_raw, simulated_store)
    assert (len(report.kept), report.written, report.refused) == (4, [], {})


def test_two_processes_write_the_same_bytes_as_one(raw: Path, tmp_path: Path) -> None:
    card = load_card("physionet2018")
    contents = []
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}.zarr"
        assert ingest(card, raw, out, jobs=jobs).written == ["tr03-0005", "tr03-0006"]
        files = sorted(file for file in out.rglob("*") if file.is_file())
        contents.append({file.relative_to(out): file.read_bytes() for file in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 10


def test_another_card_is_refused_before_anything_is_written(
    simulated_raw: Path, simulated_store: Path
) -> None:
    card = load_card("physionet2018", ["trim_s=1"])
    with pytest.raises(
        ValueError, match=r"prepared with another epoch_s, card\.trim_s; give another"
    ):
        ingest(card, simulated_raw, simulated_store)


def test_both_layouts_hold_the_same(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", seconds=11)
    ingest(edf_card(), tmp_path, tmp_path / "t.zarr")
    report = ingest(edf_card(), tmp_path, tmp_path / "a.zarr", layout="archive")
    stores = [Store(tmp_path / name) for name in ("t.zarr", "a.zarr")]
    np.testing.assert_array_equal(stores[0].signal("a"), stores[1].signal("a"))
    assert stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].attributes["simulated"] is False
    assert report.warnings == {}
    ingest(edf_card(epoch_s=3.0), tmp_path, tmp_path / "b.zarr")
    assert Store(tmp_path / "b.zarr").about("a")["left_out"][0].startswith("the last 2 s")


def test_warnings_and_what_was_left_out_are_reported_by_record(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", unit="mV")
    report = ingest(edf_card(epoch_s=4.0), tmp_path, tmp_path / "s.zarr")
    assert report.left_out == {"a": ["the last 2 s, less than an epoch (stored unlabelled)"]}
    assert report.warnings["a"][0].startswith("C3 has a standard deviation of")
    assert Store(tmp_path / "s.zarr").about("a")["warnings"] == report.warnings["a"]


def test_what_an_edf_header_says_of_a_person_reaches_nothing(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf")
    damaged = write_edf(tmp_path / "b.edf")
    damaged.write_bytes(damaged.read_bytes()[:-500])
    report = ingest(edf_card(), tmp_path, tmp_path / "s.zarr")
    assert (report.written, list(report.refused)) == (["a"], ["b"])
    contents = [file.read_bytes() for file in (tmp_path / "s.zarr").rglob("*") if file.is_file()]
    text = b"".join(contents).decode("latin-1") + repr(report)
    for secret in ("Erika", "Mustermann", "X77", "AUG-1957", "anxious", "Sommer", "slept"):
        assert secret in (tmp_path / "a.edf").read_bytes().decode("latin-1")
        assert secret not in text


def test_a_missing_or_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    card = load_card("physionet2018")
    with pytest.raises(
        FileNotFoundError, match=r"raw folder .*nights does not exist; give the raw files of phys"
    ):
        ingest(card, tmp_path / "nights", tmp_path / "s.zarr")
    with pytest.raises(FileNotFoundError, match="biopart fetch physionet2018 --to"):
        ingest(card, tmp_path, tmp_path / "s.zarr")
    with pytest.raises(
        FileNotFoundError, match=r"\*\.edf; card mine has no download address.* yourself$"
    ):
        ingest(edf_card(), tmp_path, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_recordings_of_one_name_are_refused_and_hidden_files_passed_over(tmp_path: Path) -> None:
    for name in ("a/n.edf", "b/m.edf", "b/._m.edf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    card = edf_card(recordings=["*/*.edf", "a/*"])
    assert list(find_recordings(tmp_path, card)) == ["n", "m"]
    shutil.copy(tmp_path / "a/n.edf", tmp_path / "b/n.edf")
    with pytest.raises(ValueError, match="several recordings have the name n"):
        find_recordings(tmp_path, card)


def test_a_person_comes_from_the_files_name() -> None:
    card = load_card("sleep_edf")
    assert card.person_of(Path("SC4001E0-PSG.edf")) == "SC400"
    assert card.person_of(Path("SC4002E0-PSG.edf")) == "SC400"
    mitdb = load_card("mitdb")
    assert [mitdb.person_of(Path(f"{n}.dat")) for n in (201, 202, 203)] == ["201", "201", "203"]


@pytest.mark.parametrize("rule", [r"^(\d+)$", r"^(\d+)?.*$", "^([0-9]*)"])
def test_a_file_that_names_no_person_is_refused(tmp_path: Path, rule: str) -> None:
    write_edf(tmp_path / "anna.edf")
    report = ingest(edf_card(person=rule), tmp_path, tmp_path / "s.zarr")
    assert report.refused["anna"].startswith("anna does not fit the card's rule for persons")


def test_age_and_sex_are_read_where_they_are_known(tmp_path: Path) -> None:
    table = {"file": "p.csv", "person": "Subject", "age": "Age", "sex": "Gender"}
    card = edf_card(persons=table)
    assert read_persons(tmp_path, card) == {}
    assert read_persons(tmp_path, edf_card()) == {}
    rows = "\ufeffSubject,Age,Gender,Note\n S1 , 21,F,x\nS2,,M,x\nS3,33\nS4,44.5,F,x,y\n"
    rows += "S5,> 89,M,\nS6,nan,,\n"
    (tmp_path / "p.csv").write_text(rows, "utf-8")
    assert read_persons(tmp_path, card) == {
        "S1": {"age": 21, "sex": "F"},
        "S2": {"sex": "M"},
        "S3": {"age": 33},
        "S4": {"age": 44.5, "sex": "F"},
        "S5": {"age": "> 89", "sex": "M"},
        "S6": {"age": "nan"},
    }


@pytest.mark.parametrize("column", ["person", "age", "sex"])
def test_a_table_without_the_cards_column_is_refused(tmp_path: Path, column: str) -> None:
    (tmp_path / "p.csv").write_text("Subject,Age,Sex\nS1,21,F\n")
    table = {"file": "p.csv", "person": "Subject", "age": "Age", "sex": "Sex", column: "Person"}
    with pytest.raises(ValueError, match=r"p\.csv has no column 'Person'; it has Subject, Age"):
        read_persons(tmp_path, edf_card(persons=table))


def test_a_real_cohort_goes_in_with_its_persons_and_labels(real_data: Path, tmp_path: Path) -> None:
    report = ingest(load_card("eegmat"), real_data / "eeg_arithmetic", tmp_path / "s.zarr")
    store = Store(tmp_path / "s.zarr")
    assert (len(report.written), report.refused) == (8, {})
    assert len(set(store.persons.values())) == 4
    about = store.about("Subject00_2")
    assert (about["person"], about["age"], about["sex"]) == ("Subject00", 21, "F")
    for record in store:
        assert set(store.label(record).tolist()) == {int(record[-1]) - 1}
        assert store.signal(record).shape[0] == 21
        deviation = float(store[record].signal.std())
        assert 1 < deviation < 100


def test_signals_and_store_do_without_torch() -> None:
    code = "import sys, biopart.signals, biopart.store; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


STAGES: dict[str, Any] = {"kind": "stages", "hypnogram": "{stem}.csv"}


def scored_folder(folder: Path) -> tuple[Card, Path]:
    """Two recordings of 10 epochs of 1 s, each with a hypnogram, and a table of persons."""
    for name in "ab":
        write_edf(folder / f"{name}.edf", seconds=10 + (name == "b"))
        (folder / f"{name}.csv").write_text("stage\n" + "W\n" * 10)
    (folder / "people.csv").write_text("id,age\na,21\nb,30\n")
    persons = {"file": "people.csv", "person": "id", "age": "age"}
    return edf_card(labels={**STAGES, "epoch_s": 1.0}, persons=persons), folder


def test_a_second_call_takes_up_what_changed_in_labels_persons_and_recordings(
    tmp_path: Path,
) -> None:
    (tmp_path / "raw").mkdir()
    card, raw = scored_folder(tmp_path / "raw")
    store = tmp_path / "s.zarr"
    assert ingest(card, raw, store).written == ["a", "b"]
    assert stale_records(Store(store), raw) == []
    (raw / "a.csv").write_text("stage\n" + "R\n" * 10)
    (raw / "people.csv").write_text("id,age\na,21\nb,31\n")
    said = {"a": ["a.csv has changed"], "b": ["age is now 31, was 30"]}
    assert stale_records(Store(store), raw) == [f"{n}: {line}" for n, (line,) in said.items()]
    report = ingest(card, raw, store)
    assert (report.updated, report.written, report.kept) == (said, [], [])
    assert Store(store).label("a").tolist() == [4] * 10
    assert Store(store).about("b")["age"] == 31
    assert ingest(card, raw, store).kept == ["a", "b"]
    (raw / "b.csv").unlink()
    assert ingest(card, raw, store).updated == {"b": ["b.csv is gone"]}
    assert set(Store(store).label("b").tolist()) == {-1}
    write_edf(raw / "a.edf", seconds=12)
    assert ingest(card, raw, store).updated == {"a": ["a.edf has changed"]}


def test_an_edit_that_keeps_size_and_time_is_found_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    card, raw = scored_folder(tmp_path / "raw")
    store = tmp_path / "s.zarr"
    ingest(card, raw, store)
    before = (raw / "a.csv").stat()
    (raw / "a.csv").write_text("stage\n" + "R\n" * 10)
    os.utime(raw / "a.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ingest(card, raw, store).updated == {}
    assert ingest(card, raw, store, verify=True).updated == {"a": ["a.csv has changed"]}


def test_one_recording_under_two_persons_is_told_and_stops_a_training(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write_edf(tmp_path / "raw/a.edf")
    shutil.copy(tmp_path / "raw/a.edf", tmp_path / "raw/b.edf")
    report = ingest(edf_card(), tmp_path / "raw", tmp_path / "s.zarr")
    assert (report.written, report.refused) == (["a", "b"], {})
    assert report.warnings["b"][-1].startswith("its bytes equal those of a, but that belongs to b ")
    assert doubtful_persons(Store(tmp_path / "s.zarr"))[0].startswith("the persons a and b share")
    joined = edf_card(same_person={"b": "a"})
    report = ingest(joined, tmp_path / "raw", tmp_path / "t.zarr")
    assert "byte for byte" not in " ".join(report.warnings.get("b", []))
    assert doubtful_persons(Store(tmp_path / "t.zarr")) == []


def test_rows_of_a_table_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_bytes("id,age\r\na,21\r\na,22\r\n".encode("utf-16"))
    card = edf_card(persons={"file": "people.csv", "person": "id", "age": "age"})
    with pytest.raises(
        ValueError, match=r"people\.csv, line 3 contradicts an earlier line about a"
    ):
        read_persons(tmp_path, card)
