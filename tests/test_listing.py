"""What there is to choose from, the runs of a folder, and the names that the package gives."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import biopart
from biopart.cli import main
from biopart.data import open_cohort
from biopart.run import Run
from biopart.verbs.listing import choices, runs_in


def test_every_shipped_recipe_and_card_is_listed_with_a_sentence() -> None:
    recipes, cards = choices("recipes"), choices("cards")
    assert {"demo", "physionet_sleep", "cifar10_curve"} <= set(recipes)
    assert cards["mitdb"] == ("MIT-BIH Arrhythmia Database (48 half-hour records of 47 persons)")
    assert [name for name, line in {**recipes, **cards}.items() if not line] == []


def test_objectives_and_encoders_are_listed_by_the_names_that_a_recipe_uses() -> None:
    names = ["byol", "cossl", "dino", "droppos", "mae", "moby", "mp3", "part", "selfpatch", "sum"]
    assert list(choices("objectives")) == names
    assert choices("objectives")["mae"].startswith("MAE reconstructs hidden patches")
    assert list(choices("encoders")) == ["rf_resnet", "vit"]


def run_folder(path: Path, steps: int, kappa: float | None, age_s: float) -> None:
    """Write the files of a run that the table reads, last changed so long ago."""
    tuned = path / "finetune" / "s2-seed0"
    tuned.mkdir(parents=True)
    (path / "recipe.yaml").write_text("name: small\n")
    rows = [{"step": 1, "steps": 9}, {"step": steps, "steps": 9}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if kappa is not None:
        (tuned / "result.json").write_text(json.dumps({"kappa": kappa}))
    then = path.stat().st_mtime - age_s
    for found in (tuned, *path.glob("*.*")):
        os.utime(found, (then, then))


def test_runs_are_a_table_with_the_newest_first(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs" / "small" / "one", 9, 0.5, age_s=7300)
    run_folder(tmp_path / "runs" / "two", 4, None, age_s=130)
    rows = runs_in(tmp_path / "runs")
    assert [(row["step"], row["steps"], row["kappa"]) for row in rows] == [
        (4, 9, None),
        (9, 9, 0.5),
    ]
    done = CliRunner().invoke(main, ["runs", str(tmp_path / "runs")])
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["run", "recipe", "steps", "kappa", "age"],
        [str(tmp_path / "runs" / "two"), "small", "4/9", "-", "2", "min"],
        [str(tmp_path / "runs" / "small" / "one"), "small", "9/9", "0.500", "2", "h"],
    ]


def test_a_folder_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["runs", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "does not exist; create a run with" in done.stderr


def test_a_folder_without_runs_is_reported(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["runs", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, f"no runs in {tmp_path}\n")


def test_help_groups_every_command_once() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert {name: listed.count(name) for name in main.commands} == dict.fromkeys(main.commands, 1)
    for title in ("Start here:", "Data:", "Train and score:", "Compare:", "Use a model:"):
        assert title in text


def test_a_source_is_indexed_by_a_number_a_slice_or_numbers(tiny_store: Path) -> None:
    source = open_cohort(tiny_store).source(keep_bad=True)
    whole = source.__getitems__(range(len(source)))
    for items in (3, slice(2, 8, 3), [5, 0], np.array([1, 2])):
        picked = np.atleast_1d(np.arange(len(source))[items])
        batch = source[items]
        assert batch.key == [whole.key[n] for n in picked]
        assert batch.values.equal(whole.values[picked])
    with pytest.raises(IndexError):
        source[len(source)]


def test_the_public_functions_take_folders_and_names(small_run: Run, small_store: Path) -> None:
    assert biopart.load_recipe("demo").name == "demo"
    assert biopart.objectives.Part.__module__ == "biopart.objectives.part"
    tuned = biopart.finetune(str(small_run.path), subjects=2, seed=5)
    test = tuned.result()["test_persons"]
    found = biopart.evaluate(str(tuned.path), str(small_store), test)
    assert found["kappa"] == pytest.approx(tuned.result()["kappa"])
    for public in (biopart.pretrain, biopart.compare):
        with pytest.raises(FileNotFoundError, match="nothing_here"):
            public("nothing_here")


def test_a_damaged_result_is_marked_and_the_other_runs_are_shown(tmp_path: Path) -> None:
    run_folder(tmp_path / "one", 9, 0.5, age_s=100)
    run_folder(tmp_path / "two", 9, 0.5, age_s=50)
    (tmp_path / "two" / "finetune" / "s2-seed0" / "result.json").write_text("{")
    rows = runs_in(tmp_path)
    assert {Path(row["run"]).name: row["damaged"] for row in rows} == {"one": False, "two": True}
    done = CliRunner().invoke(main, ["runs", str(tmp_path)])
    assert "damaged" in done.stdout
    assert "0.500" in done.stdout
