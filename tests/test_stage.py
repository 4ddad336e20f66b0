"""Staging: the same answer for a file, mne's Raw, an array and xarray, and files that read back."""

import csv
import datetime
import json
import subprocess
import sys
from pathlib import Path

import edfio
import fsspec
import mne
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from click.testing import CliRunner

import biopart
from biopart.cli import main
from biopart.evaluation.calibration import calibration_error, fit_temperature
from biopart.evaluation.sleep import sleep_statistics
from biopart.recipe import Recipe, resolve
from biopart.settings import read_yaml
from biopart.signals import ingest, simulate_cohort
from biopart.signals.readers import open_recording
from biopart.signals.readers.mne_formats import recording_of_raw
from biopart.store import load_card
from biopart.studies.stage.nights import recordings_of
from biopart.studies.stage.summary import agreement_with, lights_of
from biopart.verbs.evaluate import evaluate
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain
from biopart.verbs.stage import stage


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Five simulated persons of half an hour as EDF and hypnogram."""
    folder = tmp_path_factory.mktemp("raw")
    simulate_cohort(folder, persons=5, hours=0.5, seed=0, kind="edf", channels=["F3-M2", "C4-M1"])
    return folder


@pytest.fixture(scope="module")
def tuned(raw, tmp_path_factory):
    """A model of one channel, fine-tuned on two of them for a few steps."""
    folder = tmp_path_factory.mktemp("stage")
    card = load_card("physionet2018").model_dump(mode="json")
    card |= {"name": "one", "channels": ["C4-M1"], "recordings": ["*-PSG.edf"], "aliases": {}}
    card |= {"person": "(.+)-PSG", "origin": None, "persons": None}
    card["labels"] = {"kind": "stages", "hypnogram": "{stem:.9}-Hypnogram.edf"}
    path = folder / "card.yaml"
    path.write_text(json.dumps(card))
    store = folder / "store.zarr"
    ingest(load_card(path), raw, store)
    recipe = Recipe.model_validate(
        {
            "data": {"store": str(store)},
            "split": {"test_persons": 1, "validation_persons": 1},
            "encoder": {"patch": [100], "dim": 16, "depth": 1, "heads": 2},
            "pretrain": {"objective": {"name": "part", "patches": 8, "pairs": 8}, "steps": 2}
            | {"batch": 8, "warmup_epochs": 0},
            "finetune": {"subjects": 2, "steps": 6, "batch": 16, "lr": 3e-3, "warmup_epochs": 0},
            "compute": {"precision": "float32", "threads": 1},
        }
    )
    run = pretrain(recipe, out=folder / "run", latest=False)
    return finetune(run)


def test_figures_of_a_night_by_hand():
    # W W | W N2 N2 R R W N2 | W: lights off at 2, on at 9; sleep from epoch 3 on.
    stages = np.int8([0, 0, 0, 2, 2, 4, 4, 0, 2, 0])
    said = sleep_statistics(stages, epoch_s=30, lights_off=2, lights_on=9)
    assert (said["time_in_bed"], said["total_sleep_time"]) == (3.5, 2.5)
    assert said["sleep_efficiency"] == pytest.approx(5 / 7)
    assert (said["sleep_onset_latency"], said["rem_latency"]) == (0.5, 1.0)
    assert said["wake_after_sleep_onset"] == 0.5
    assert said["minutes"] == {"W": 1.0, "N1": 0.0, "N2": 1.5, "N3": 0.0, "R": 1.0}
    assert said["share"]["N2"] == pytest.approx(0.6)
    assert said["transitions"]["N2"] == {"W": 0, "N1": 0, "N2": 1, "N3": 0, "R": 1}
    awake = sleep_statistics(np.int8([0, -1, 0]), epoch_s=30)
    assert (awake["sleep_onset_latency"], awake["share"]["R"], awake["unscored"]) == (
        None,
        None,
        0.5,
    )
    with pytest.raises(ValueError, match="lights off at epoch 4 and on at 2"):
        sleep_statistics(stages, epoch_s=30, lights_off=4, lights_on=2)


def test_a_temperature_makes_the_confidence_the_accuracy():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 4000)
    logits = rng.standard_normal((4000, 3)) + 2.0 * np.eye(3)[truth]  # calibrated at 2 x - ...
    odds = np.float32(5 * logits)
    warm = fit_temperature(odds, truth)
    shares = [torch.from_numpy(odds / t).softmax(1).numpy() for t in (1.0, warm)]
    before, after = (calibration_error(share, truth) for share in shares)
    assert after < 0.03 < before
    assert fit_temperature(odds, np.full(4000, -1)) == 1.0


def test_every_way_in_gives_the_same_probabilities(raw, tuned):
    path = sorted(raw.rglob("*-PSG.edf"))[0]
    model = biopart.load(tuned.path)
    of_file = biopart.stage_night(path, model)
    signal = mne.io.read_raw_edf(path, verbose="ERROR")
    before = signal.get_data().copy()
    of_mne = biopart.stage_night(signal, model)
    assert np.array_equal(signal.get_data(), before)
    recording = open_recording(path)
    values = np.stack(recording.physical(["C4-M1"]))
    rate = recording.channels[0].sfreq_hz
    of_array = biopart.stage_night(values, model, unit="uV", sfreq=rate)
    named = xr.DataArray(
        np.stack(recording.physical(list(recording.names))) / 1e6,
        dims=("channel", "time"),
        coords={"channel": list(recording.names)},
        attrs={"units": "V", "sfreq_hz": rate},
    )
    of_xarray = biopart.stage_night(named, model)
    for other in (of_mne, of_array, of_xarray):
        assert np.allclose(other["probability"], of_file["probability"], atol=2e-3)
    assert of_file["probability"].sum("class").values == pytest.approx(1.0, abs=1e-6)
    assert of_file["onset_s"].values[:3].tolist() == [0, 30, 60]
    assert of_file.sizes["epoch"] == 60


def test_probabilities_are_those_of_the_store(raw, tuned):
    """What the store gives to the model is what the file gives."""
    model, result = biopart.load(tuned.path), tuned.result()
    store = biopart.open_cohort(stored(tuned))
    source = store.source(persons=result["test_persons"], keep_bad=True)
    with torch.no_grad():
        logits = model(source.__getitems__(range(len(source))).values)
    expected = (logits / model.about.temperature).softmax(1).numpy()
    (record,) = {key.split(":")[0] for key in source.keys(range(len(source)))}
    (path,) = raw.rglob(f"{record}.edf")
    found = biopart.stage_night(path, model)["probability"].values
    assert np.allclose(found, expected, atol=1e-5)


def test_a_night_is_normalised_as_its_recording_was_in_training(raw, tuned):
    origin = tuned.pretrained()
    settings = ["data.normalise=recording", "pretrain.steps=1"]
    recipe = resolve(read_yaml(origin.path / "recipe.yaml"), settings, "recipe")
    run = finetune(pretrain(recipe, out=origin.path.parent / "by_recording", latest=False))
    model, cohort = biopart.load(run.path), biopart.open_cohort(stored(run))
    persons = run.result()["test_persons"]
    source = cohort.source(persons=persons, keep_bad=True, by_recording=True)
    with torch.no_grad():
        logits = model(source.__getitems__(range(len(source))).values)
    expected = (logits / model.about.temperature).softmax(1).numpy()
    (record,) = [name for name in cohort.records if cohort.persons[name] in persons]
    recording = open_recording(*raw.rglob(f"{record}.edf"))
    values, rate = np.stack(recording.physical(["C4-M1"])), recording.channels[0].sfreq_hz
    for shift, factor in ((0.0, 1.0), (40.0, 3.0)):  # neither level nor gain of a night matters
        night = biopart.stage_night(factor * values + shift, model, unit="uV", sfreq=rate)
        assert np.allclose(night["probability"].values, expected, atol=5e-3)
    again = evaluate(run, cohort.path, persons, device="cpu")
    assert again["kappa"] == run.result()["kappa"]


def test_files_of_a_night_read_back_with_the_same_epochs(raw, tuned, tmp_path):
    path = sorted(raw.rglob("*-PSG.edf"))[1]
    answer = call("stage", path, "--run", tuned.path, "--out", tmp_path / "n", "--json")
    (told,) = json.loads(answer.stdout)["nights"]
    rows = rows_of(tmp_path / "n")
    notes = mne.read_annotations(tmp_path / "n/hypnogram.edf")
    assert [f"Sleep stage {row['stage']}" for row in rows] == list(notes.description)
    assert [float(row["onset_s"]) for row in rows] == notes.onset.tolist()
    ours = edfio.read_edf(tmp_path / "n/hypnogram.edf").annotations
    assert [note.text for note in ours] == list(notes.description)
    assert sum(float(row["p_W"]) > 0.5 for row in rows) <= sum(r["stage"] == "W" for r in rows)
    assert told["statistics"]["time_in_bed"] == len(rows) / 2 == 30
    page = (tmp_path / "n/night.html").read_text()
    assert "For research; not a medical device." in page
    assert "trained on simulated recordings" in page
    assert page.count('class="drawing') == 3


def test_an_expert_is_compared_epoch_by_epoch(raw, tuned, tmp_path):
    path = sorted(raw.rglob("*-PSG.edf"))[1]
    call("stage", path, "--run", tuned.path, "--out", tmp_path / "a", "--json")
    rows = rows_of(tmp_path / "a")
    stages = [row["stage"] for row in rows]
    wrong = ["R" if stage != "R" else "W" for stage in stages[:6]]
    (tmp_path / "truth.csv").write_text("stage\n" + "\n".join(wrong + stages[6:-2]) + "\n?\n?\n")
    options = ["--truth", tmp_path / "truth.csv", "--out", tmp_path / "b", "--json"]
    (told,) = json.loads(call("stage", path, "--run", tuned.path, *options).stdout)["nights"]
    assert told["agreement"]["n_windows"] == 58
    assert "the expert scored 58 of 60 epochs" in " ".join(told["warnings"])
    assert told["agreement"]["accuracy"] == pytest.approx(52 / 58)
    assert [one["epoch"] for one in told["differences"]] == list(range(6))


def test_an_expert_who_saw_one_stage_gives_an_accuracy_and_no_kappa(raw, tuned, tmp_path):
    found = agreement_with(np.int8([0, 0, 0, 0]), np.int8([0, 0, 2, 0]), ["W", "N1", "N2"])
    assert found == {"classes": ["W"], "n_windows": 4, "kappa": None, "accuracy": 0.75}
    path = sorted(raw.rglob("*-PSG.edf"))[1]
    (tmp_path / "truth.csv").write_text("stage\n" + "W\n" * 60)
    options = ["--truth", tmp_path / "truth.csv", "--out", tmp_path / "n"]
    answer = call("stage", path, "--run", tuned.path, *options)
    assert "kappa undefined" in answer.stdout
    assert "undefined" in (tmp_path / "n/night.html").read_text()


def test_a_folder_of_nights_is_compared_by_the_cards_rule(raw, tuned, tmp_path):
    answer = call(
        "stage", raw, "--run", tuned.path, "--truth", raw, "--out", tmp_path / "all", "--json"
    )
    told = json.loads(answer.stdout)["nights"]
    assert [one["night"] for one in told] == sorted(p.name for p in raw.glob("*-PSG.edf"))
    (tested,) = tuned.result()["test_persons"]
    (mine,) = [one for one in told if one["night"].startswith(tested)]
    assert mine["agreement"]["accuracy"] == pytest.approx(tuned.result()["accuracy"])
    assert (tmp_path / f"all/{tested}-PSG/night.html").is_file()
    met = [one["night"][:9] for one in told if "training data" in " ".join(one["warnings"])]
    assert sorted(met) == sorted({one["night"][:9] for one in told} - {tested})


def test_what_cannot_be_staged_is_refused_in_one_sentence(raw, tuned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = sorted(raw.rglob("*-PSG.edf"))[0]
    run = ["--run", tuned.path]
    for arguments, status, message in (
        (
            [path],
            2,
            "no weights are shipped; train a model with biopart pretrain RECIPE, then",
        ),
        ([tmp_path / "no.edf", *run], 1, "no.edf does not exist"),
        ([path, *run, "--channel", "Fz=F3-M2"], 1, "the model has no channel Fz; it was trained"),
        ([path, *run, "--channel", "C4-M1"], 2, "--channel takes MODEL=FILE"),
        ([path, *run, "--channel", "C4-M1=Cz"], 1, "C4-M1 cannot be derived (tried Cz alone"),
        ([path, *run, "--lights-off", "late"], 1, "'late' is not a clock time"),
        ([tmp_path, *run], 1, "contains no recording that matches"),
    ):
        answer = call("stage", *arguments, "--quiet")
        assert answer.exit_code == status, answer.output
        assert message in " ".join(answer.output.split())
    model = biopart.load(tuned.path)
    with pytest.raises(ValueError, match=r"give unit= .* and sfreq="):
        biopart.stage_night(np.zeros((1, 9000)), model)
    with pytest.raises(ValueError, match="shorter than one epoch of 30 s"):
        biopart.stage_night(np.zeros((1, 900)), model, unit="uV", sfreq=100)
    with pytest.raises(ValueError, match="has no record of its training"):
        biopart.stage_night(path, torch.nn.Identity())


def test_derivations_are_averaged(raw, tuned):
    path = sorted(raw.rglob("*-PSG.edf"))[0]
    model = biopart.load(tuned.path)
    one, two = (
        biopart.stage_night(path, model, channels={"C4-M1": name})["probability"].values
        for name in ("C4-M1", "F3-M2")
    )
    both = biopart.stage_night(path, model, channels={"C4-M1": ["C4-M1", "F3-M2"]})
    assert np.abs(one - two).max() > 1e-4  # not the same channel twice
    assert np.allclose(both["probability"], (one + two) / 2, atol=1e-6)
    assert (both["hypnogram"].values == both["probability"].values.argmax(1)).all()
    assert both.attrs["averaged"] == 2
    with pytest.raises(ValueError, match="make 65 combinations to average"):
        biopart.stage_night(path, model, channels={"C4-M1": ["C4-M1"] * 65})


def test_a_store_is_staged_as_its_recordings_are(raw, tuned, tmp_path, monkeypatch):
    store = ["--run", tuned.path, "--json"]
    answer = call("stage", stored(tuned), "--out", tmp_path / "store", *store)
    of_store = json.loads(answer.stdout)["nights"]
    answer = call("stage", raw, "--truth", raw, "--out", tmp_path / "files", *store)
    of_files = json.loads(answer.stdout)["nights"]
    assert [one["night"] + ".edf" for one in of_store] == [one["night"] for one in of_files]
    command = [sys.executable, "-m", "biopart", "stage", stored(tuned), "--jobs", "2", *store]
    said = subprocess.run(  # a pool of its own, not one that has been idle in this process
        [*map(str, command), "--out", str(tmp_path / "two")],
        capture_output=True,
        check=True,
        text=True,
        timeout=240,
    )
    in_two = json.loads(said.stdout)["nights"]
    files = [one.pop("files") for one in (*of_store, *in_two)]
    assert len(files) == 2 * len(of_files)
    monkeypatch.setenv("BIOPART_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(str(stored(tuned)), "/nights/of.zarr", recursive=True)
    answer = call("stage", "memory://nights/of.zarr", "--out", tmp_path / "there", *store)
    there = json.loads(answer.stdout)["nights"]
    memory.rm("/nights", recursive=True)
    for one, two, three in zip(of_store, in_two, there, strict=True):
        assert {k for k, v in one.items() if two[k] != v} <= {"date"}
        assert {k for k, v in one.items() if three[k] != v} <= {"date", "files"}
    for one, two in zip(of_store, of_files, strict=True):
        assert one["agreement"] == two["agreement"]
        assert rows_of(tmp_path / "store" / one["night"]) == rows_of(
            tmp_path / "files" / one["night"]
        )


def test_a_folder_of_other_names_is_staged_but_for_hypnograms(raw, tmp_path):
    for name in ("a.edf", "b.EDF", "a-Hypnogram.edf", "notes.txt"):
        (tmp_path / name).touch()
    found = recordings_of(tmp_path, ["training/tr*/tr*.hea"])
    assert [path.name for path in found] == ["a.edf", "b.EDF"]


def test_the_quality_of_every_second_is_written(raw, tuned, tmp_path):
    path = sorted(raw.rglob("*-PSG.edf"))[0]
    call("stage", path, "--run", tuned.path, "--out", tmp_path / "n", "--quality")
    table = pd.read_csv(tmp_path / "n/quality.csv")
    assert table["onset_s"].tolist() == list(range(1800))
    assert (table["spread_s"] >= 0).all()
    assert table["amplitude"].median() == pytest.approx(1.0, abs=0.01)
    assert (tmp_path / "n/night.html").read_text().count('class="drawing') == 4


def test_a_night_without_the_channels_says_what_can_be_done(tuned):
    model = biopart.load(tuned.path)
    night = xr.DataArray(
        np.zeros((1, 9000)),
        dims=("channel", "time"),
        coords={"channel": ["Fp1"]},
        attrs={"units": "uV", "sfreq_hz": 100.0},
    )
    with pytest.raises(ValueError, match=r"the file has 'Fp1'.*--channel C4-M1=NAME.*or train"):
        biopart.stage_night(night, model)


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows_of(folder):
    return list(csv.DictReader((folder / "hypnogram.csv").read_text().splitlines()))


def stored(tuned):
    return Path(tuned.pretrained().provenance()["store"])


def array_night(seconds=300, flat=()):
    """Return noise of one channel at 100 Hz in volt, flat over some seconds."""
    values = np.random.default_rng(0).normal(0, 3e-5, (1, seconds * 100))
    for start, stop in flat:
        values[:, start * 100 : stop * 100] = 1e-5
    return values


def raw_of(values, date=None):
    made = mne.io.RawArray(values, mne.create_info(["C4-M1"], 100.0, "eeg"), verbose="ERROR")
    return made.set_meas_date(date)


def test_an_epoch_is_bad_by_the_share_of_it_that_is(tuned):
    model, values = biopart.load(tuned.path), array_night(flat=[(30, 60), (95, 105)])
    found = biopart.stage_night(values, model, unit="V", sfreq=100)
    assert found["bad"].values.tolist() == [False, True] + [False] * 8
    found = biopart.stage_night(values, model, unit="V", sfreq=100, bad_share=0.1)
    assert found["bad"].values.tolist() == [False, True, False, True] + [False] * 6


def test_bad_epochs_have_no_stage_and_are_left_out_of_the_statistics(tuned, tmp_path):
    start = datetime.datetime(2020, 1, 1, 22, tzinfo=datetime.UTC)
    raw_of(array_night(flat=[(30, 90)]), start).save(tmp_path / "a_raw.fif", verbose="ERROR")
    answer = call("stage", tmp_path / "a_raw.fif", "--run", tuned.path, "--out", tmp_path / "n")
    assert answer.exit_code == 0
    told = json.loads((tmp_path / "n/summary.json").read_text())
    assert (told["bad_epochs"], told["bad_minutes"], told["statistics"]["left_out"]) == (2, 1, 1)
    assert sum(told["statistics"]["minutes"].values()) == 4
    assert [row["bad"] for row in rows_of(tmp_path / "n")] == list("0110000000")
    notes = mne.read_annotations(tmp_path / "n/hypnogram.edf").description.tolist()
    assert [n for n, text in enumerate(notes) if text == "Sleep stage ?"] == [1, 2]
    assert (
        "They have no stage, are hatched in the figures" in (tmp_path / "n/night.html").read_text()
    )
    model = told["model"]
    assert model["run"] == str(tuned.path.parents[1].resolve())
    assert model["test_kappa"] == tuned.result()["kappa"]
    assert (model["finetuning"], model["dataset"]) == (tuned.path.name, "one")


@pytest.mark.parametrize(
    ("lights", "clocks", "said"),
    [
        (("21:30", "22:03"), ("22:00:00", "22:03:00"), "lights off at 21:30 is outside"),
        (("22:01", "23:30"), ("22:01:00", "22:05:00"), "lights on at 23:30 is outside"),
        (("22:01", None), ("22:01:00", "22:05:00"), ""),
    ],
)
def test_lights_are_kept_and_clamped_with_a_sentence(tuned, lights, clocks, said):
    start = datetime.datetime(2020, 1, 1, 22, tzinfo=datetime.UTC)
    model = biopart.load(tuned.path)
    staged = stage(recording_of_raw(raw_of(array_night(), start)), model)
    found, epochs, warned = lights_of(lights, staged)
    assert (found["off"], found["on"]) == clocks
    assert epochs[1] - epochs[0] == {"": 8, "lights off at 21:30 is outside": 6}.get(said, 8)
    assert [line.startswith(said) for line in warned] == ([True] if said else [])


def test_lights_off_after_lights_on_are_refused_in_clock_times(tuned):
    start = datetime.datetime(2020, 1, 1, 22, tzinfo=datetime.UTC)
    staged = stage(recording_of_raw(raw_of(array_night(), start)), biopart.load(tuned.path))
    with pytest.raises(ValueError, match="lights off at 22:03:00 is not before lights on at 22:01"):
        lights_of(("22:03", "22:01"), staged)


def test_a_cropped_raw_starts_where_it_was_cropped(tuned, tmp_path):
    start = datetime.datetime(2020, 1, 1, 22, tzinfo=datetime.UTC)
    night = raw_of(array_night(600), start).crop(tmin=300)
    night.save(tmp_path / "c_raw.fif", verbose="ERROR")
    model = biopart.load(tuned.path)
    for given in (night, tmp_path / "c_raw.fif"):
        assert biopart.stage_night(given, model).attrs["start"] == "2020-01-01T22:05:00"


def test_one_bad_night_stops_no_other_and_old_dates_are_replaced(tuned, tmp_path):
    (tmp_path / "n").mkdir()
    for name, year in (("a", 1924), ("b", 2020)):
        date = datetime.datetime(year, 3, 1, 22, tzinfo=datetime.UTC)
        raw_of(array_night(), date).save(tmp_path / f"n/{name}_raw.fif", verbose="ERROR")
    (tmp_path / "n/c.edf").write_bytes(b"no recording")
    answer = call("stage", tmp_path / "n", "--run", tuned.path, "--out", tmp_path / "o", "--json")
    assert answer.exit_code == 1
    old, new, bad = sorted(json.loads(answer.stdout)["nights"], key=lambda one: one["night"])
    assert "hypnogram.edf is dated 1985-01-01" in " ".join(old["warnings"])
    assert edfio.read_edf(tmp_path / "o/a_raw/hypnogram.edf").starttime == datetime.time(22)
    assert "dated 1985" not in " ".join(new["warnings"])
    assert (
        bad
        == {
            "night": "c",
            "error": "c.edf is truncated: it ends inside its header, after 12 "
            "bytes; copy it again.",
        }
        or "c.edf" in bad["error"]
    )
    assert not (tmp_path / "o/c").exists()


def test_a_folder_of_another_night_is_refused_or_cleared(tuned, tmp_path):
    for number, name in enumerate("ab"):
        values = array_night(300 + 30 * number)
        raw_of(values).save(tmp_path / f"{name}_raw.fif", verbose="ERROR")
    first = ["stage", tmp_path / "a_raw.fif", "--run", tuned.path, "--out", tmp_path / "o"]
    assert [call(*first).exit_code for _ in range(2)] == [0, 0]
    other = ["stage", tmp_path / "b_raw.fif", "--run", tuned.path, "--out", tmp_path / "o"]
    answer = call(*other)
    assert answer.exit_code == 1
    assert (
        "contains the results of a_raw.fif; choose another --out, or replace them with --clear"
        in answer.output
    )
    assert len(rows_of(tmp_path / "o")) == 10
    assert call(*other, "--clear").exit_code == 0
    assert len(rows_of(tmp_path / "o")) == 11


def test_without_out_a_night_has_a_folder_of_its_name(tuned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw_of(array_night()).save(tmp_path / "a_raw.fif", verbose="ERROR")
    assert call("stage", "a_raw.fif", "--run", tuned.path).exit_code == 0
    assert (tmp_path / "night/a_raw/summary.json").is_file()
