"""Manners of the commands: exit status, one sentence for a mistake, JSON on stdout."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from biopart.cli import main


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def recipe_file(small_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small_recipe))
    return path


def test_the_main_path_from_recipe_to_kappas(recipe_file, small_store):
    told = json.loads(call("pretrain", recipe_file, "--out", "R", "--json", "--quiet").stdout)
    assert told["step"] == told["steps"] == 24
    tuned = json.loads(call("finetune", "--subjects", 2, "--json", "--quiet").stdout)
    assert tuned["run"].endswith("R/finetune/s2-seed0")
    test = ",".join(tuned["test_persons"])
    again = call("evaluate", "--run", "R", "--store", small_store, "--persons", test, "--json")
    assert json.loads(again.stdout)["kappa"] == pytest.approx(tuned["kappa"])
    probes = json.loads(call("probe", "--run", "R", "--subjects", 2, "--json").stdout)
    assert probes["band_powers"]["train_persons"] == tuned["train_persons"]
    about = json.loads(call("info", "R", "--json").stdout)
    assert about["kappa"] == {"s2-seed0": tuned["kappa"]}
    assert json.loads(call("check", "R", "--json").stdout)["problems"] == []


def test_results_are_on_stdout_and_progress_on_stderr(recipe_file):
    result = call("pretrain", recipe_file, "--out", "R")
    assert "validation/r2" in result.stdout
    assert "step 24" in result.stderr
    quiet = call("finetune", "--run", "R", "--subjects", 2, "--quiet")
    assert quiet.stderr == ""
    assert "kappa: " in quiet.stdout
    assert "confusion:\n" in quiet.stdout
    assert "confusion_by_person" not in quiet.stdout


def test_a_seen_person_is_refused_with_the_name_and_status_1(recipe_file, small_store):
    call("pretrain", recipe_file, "--out", "R", "--quiet")
    call("finetune", "--run", "R", "--subjects", 2, "--quiet")
    result = call("evaluate", "--run", "R", "--store", small_store, "--persons", "p7")
    assert result.exit_code == 1
    assert "Error: the model has seen p7 in pretraining" in result.stderr
    assert "Traceback" not in result.stderr


def test_resume_goes_on_with_a_finished_run_and_changes_nothing(recipe_file):
    call("pretrain", recipe_file, "--out", "R", "--quiet")
    before = (recipe_file.parent / "R" / "encoder.safetensors").read_bytes()
    assert call("pretrain", "--resume", "--out", "R", "--quiet").exit_code == 0
    assert (recipe_file.parent / "R" / "encoder.safetensors").read_bytes() == before


def test_a_dry_run_says_so(recipe_file):
    assert "nothing was saved" in call("pretrain", recipe_file, "--dry-run").stdout
    call("pretrain", recipe_file, "--out", "R", "--quiet")
    assert "nothing was saved" in call("finetune", "--run", "R", "--dry-run", "--quiet").stdout
    assert not (recipe_file.parent / "R" / "finetune").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["pretrain", "no_such"], 2, "the shipped recipes are"),
        (["segment", "demo"], 2, "recipe demo has no section segment; take mitdb_segment"),
        (["detect", "demo"], 2, "recipe demo has no section detect; take coco_maskrcnn"),
        (["stage", "n.edf", "--codes", "rk"], 2, "--codes says what the numbers of --truth mean"),
        (["probe", "a", "b"], 2, "give one run, or --suite part-aware for several encoders"),
        (["pretrain", "demo", "--device", "gpu"], 2, "'gpu'; give auto, cpu, cuda or cuda:N"),
        (["pretrain", "demo", "--set", "encoder.dimm=3"], 2, "did you mean dim?"),
        (
            ["pretrain", "demo", "--set", "encoder.dim=x"],
            2,
            "encoder.dim is 'x'; give a whole number",
        ),
        (["pretrain"], 2, "give a recipe"),
        (["pretrain", "--resume", "--device", "cpu"], 2, "give only --out and its own recipe"),
        (["pretrain", "physionet_sleep"], 1, "biopart fetch physionet2018"),
        (["pretrain", "--resume"], 1, "no run yet"),
        (["pretrain", "--nonsense"], 2, "No such option"),
        (["finetune", "--run", "nowhere"], 1, "no run at nowhere"),
        (["prepare", "no_card", "--raw", ".", "--out", "s"], 2, "the shipped cards are"),
        (
            ["prepare", "mitdb", "--raw", "nowhere", "--out", "s"],
            1,
            "raw folder nowhere does not exist",
        ),
        (["prepare", "mitdb", "--raw", ".", "--out", "s", "--set", "x=1"], 2, "unknown key 'x'"),
        (["fetch", "ucddb_windows", "--to", "s"], 1, "has no download address"),
        (["fetch", "cifar10", "--to", "s"], 2, "unpack them into a folder, then: biopart"),
        (["sweep", "demo"], 2, "a sweep needs --over key=a,b,c"),
        (["sweep", "demo", "--over", "pretrain.objective.pears=1"], 2, "did you mean pairs?"),
        (["simulate", "s", "--channels", "Fp9"], 2, "Fp9"),
        (["info"], 2, "give a store, run, recipe, card"),
        (["info", "nowhere"], 2, "nowhere does not exist"),
        (["check", "demo", "--leak"], 2, "--leak needs a store"),
        (["bench", "nonsense"], 2, "Invalid value"),
    ],
)
def test_a_mistake_gets_one_sentence_and_its_status(
    arguments, status, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == status
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_the_schema_is_json_and_names_every_part():
    schema = json.loads(call("info", "--schema").stdout)
    assert {"data", "split", "encoder", "pretrain", "finetune", "compute"} <= set(
        schema["properties"]
    )


def test_simulated_nights_go_into_a_store_and_are_named_simulated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = call("simulate", "raw", "--persons", 2, "--hours", 0.2, "--quiet", "--json")
    assert len(json.loads(made.stdout)["simulated"]) == 2
    done = call("prepare", "physionet2018", "--raw", "raw", "--out", "S")
    assert done.stdout.startswith("S: 2 written, 0 already present, 0 refused")
    again = call("prepare", "physionet2018", "--raw", "raw", "--out", "S", "--quiet")
    assert again.stdout.startswith("S: 0 written, 2 already present, 0 refused")
    assert json.loads(call("info", "S", "--json").stdout)["simulated"] is True


def test_one_bad_night_is_told_and_the_status_is_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("simulate", "raw", "--persons", 2, "--hours", 0.2, "--quiet")
    broken = sorted((tmp_path / "raw").glob("training/*/*.mat"))[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    result = call("prepare", "physionet2018", "--raw", "raw", "--out", "S", "--quiet")
    assert result.exit_code == 1
    assert "1 written, 0 already present, 1 refused" in result.stdout
    assert f"refused {broken.stem}: " in result.stdout
    broken.write_bytes(whole)
    mended = call("prepare", "physionet2018", "--raw", "raw", "--out", "S", "--quiet")
    assert mended.exit_code == 0
    assert mended.stdout.startswith("S: 1 written, 1 already present, 0 refused")


def test_version():
    import biopart

    assert biopart.__version__ in call("--version").stdout


def test_latest_stands_for_the_newest_run_wherever_a_run_is_taken(recipe_file):
    call("pretrain", recipe_file, "--quiet", "--json")
    out = call("export", "runs/latest", "--to", "safetensors", "--out", "E", "--json")
    assert [name.split("/")[-1] for name in json.loads(out.stdout)["files"]] == [
        "config.json",
        "model.safetensors",
    ]
    tuned = call("finetune", "--run", "runs/latest", "--subjects", 2, "--json", "--quiet")
    assert "/finetune/s2-seed0" in json.loads(tuned.stdout)["run"]
    assert json.loads(call("check", "runs/latest", "--json").stdout)["problems"] == []
    refused = call("export", recipe_file, "--to", "hub", "--out", "F")
    assert refused.exit_code == 2
    assert "is a file" in refused.output


def test_the_package_is_a_command_too():
    answer = subprocess.run(
        [sys.executable, "-m", "biopart", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("biopart, version ")


def test_a_reader_who_has_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    answer = subprocess.run(
        [sys.executable, "-m", "biopart", "info", "--schema"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert "rror" not in answer.stderr
