import csv
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from biopart.cli import main
from biopart.evaluation.metrics import kappa_of
from biopart.files import read_json
from biopart.recipe import Recipe
from biopart.studies.compare.folder import StudyFolder, identity
from biopart.studies.compare.plan import Training
from biopart.studies.compare.study import announce, compare, lines_of, run_study
from biopart.studies.compare.work import Workers
from biopart.verbs.pretrain import pretrain


@pytest.fixture
def here():
    """An executor that is a thread of this process."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def outcomes_of(folder):
    return sorted(path.stem for path in folder.glob("cells/*.json"))


def table_of(folder):
    """The rows of curve.csv but for the time that they took."""
    with (folder / "curve.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_curve_makes_table_picture_and_page_and_is_done_once(small_curve, tmp_path, here):
    recipe = Recipe.model_validate(small_curve)
    found = run_study("curve", recipe, tmp_path, Workers(executor=here))
    names = ["band-powers-s3-seed0", "part-s3-seed0", "part-seed0", "supervised-s3-seed0"]
    assert outcomes_of(tmp_path) == [*names, "untrained-s3-seed0"]
    table = table_of(tmp_path)
    assert [row["method"] for row in table] == ["part", "supervised", "untrained", "band-powers"]
    assert len({row["persons"] for row in table}) == 1
    kappas = {row["method"]: row["kappa"] for row in found["summary"]}
    assert {row["method"]: float(row["kappa"]) for row in table} == pytest.approx(kappas)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "supervised" in (tmp_path / "curve.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}
    assert run_study("curve", recipe, tmp_path, Workers(executor=here)) == found
    lines = []
    plan = announce("curve", recipe, tmp_path, Workers(say=lines.append))
    assert (plan["seconds_left"], lines) == (0.0, [])  # nothing is timed
    took = read_json(tmp_path / "cells" / "part-seed0.json")["seconds"]
    assert plan["variants"]["part"]["pretraining_s"] == took
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}


def test_a_curve_grows_by_methods_and_sizes_but_not_by_another_recipe(small_curve, tmp_path, here):
    small_curve["curve"]["methods"] = ["supervised"]
    run_study("curve", Recipe.model_validate(small_curve), tmp_path, Workers(executor=here))
    small_curve["curve"]["sizes"] = [2]
    run_study("curve", Recipe.model_validate(small_curve), tmp_path, Workers(executor=here))
    assert {row["size"] for row in table_of(tmp_path)} == {"2", "3"}
    small_curve["finetune"]["lr"] = 0.5
    message = r"contains a curve of another recipe: recipe.finetune.lr is 0.003 there and 0.5 here"
    with pytest.raises(ValueError, match=message):
        run_study("curve", Recipe.model_validate(small_curve), tmp_path, Workers(executor=here))


def test_a_failed_training_is_reported_and_repeated_on_request(small_curve, tmp_path, here):
    small_curve["curve"]["methods"] = ["supervised"]
    recipe = Recipe.model_validate(small_curve)
    StudyFolder(tmp_path).settle(Training("supervised", 0, 3), {"failed": "ValueError: NaN"})
    found = run_study("curve", recipe, tmp_path, Workers(executor=here))
    assert found["failed"] == {"supervised-s3-seed0": "ValueError: NaN"}
    assert "ValueError: NaN" in (tmp_path / "curve.html").read_text()
    lines = []
    again = run_study(
        "curve", recipe, tmp_path, Workers(executor=here, retry=True, say=lines.append)
    )
    assert again["failed"] == {}
    assert "failed trainings to repeat: supervised-s3-seed0" in lines


def test_a_finished_pretraining_is_used_and_tuned_as_the_curve_says(small_curve, tmp_path, here):
    small_curve["finetune"]["lr"] = 0.5
    run = pretrain(Recipe.model_validate(small_curve), out=tmp_path / "run")
    small_curve["finetune"]["lr"] = 3e-3
    recipe, lines = Recipe.model_validate(small_curve), []
    run_study(
        "curve",
        recipe,
        tmp_path / "curve",
        Workers(executor=here, say=lines.append),
        runs=[run.path],
    )
    assert f"{run.path} is used as part-seed0" in lines
    taken = tmp_path / "curve" / "runs" / "part-seed0"
    assert (taken / "encoder.safetensors").read_bytes() == run.encoder.read_bytes()
    assert read_json(tmp_path / "curve" / "cells" / "part-seed0.json")["taken_from"]
    tuned = yaml.safe_load((taken / "finetune" / "s3-seed0" / "finetune.yaml").read_text())
    assert tuned["finetune"]["lr"] == 3e-3


def test_a_plan_states_what_will_be_done_and_how_long(small_curve, tmp_path, here):
    found = announce("curve", Recipe.model_validate(small_curve), tmp_path, Workers(executor=here))
    counts = {k: (v["pretrainings"], v["fine_tunings"]) for k, v in found["variants"].items()}
    assert counts == {"part": (1, 1), "supervised": (0, 1), "untrained": (0, 1)} | {
        "band-powers": (0, 1)
    }
    assert found["seconds_left"] > 0
    assert not list(tmp_path.iterdir())


def test_a_plan_knows_what_is_there_taken_or_failed_and_refuses_what_a_curve_would(
    small_curve, tmp_path, here
):
    recipe, out = Recipe.model_validate(small_curve), tmp_path / "curve"
    run = pretrain(recipe, out=tmp_path / "run")
    StudyFolder(out).settle(Training("supervised", 0, 3), {"failed": "ValueError: NaN"})
    (out / "curve.json").write_text(json.dumps(identity("curve", recipe, "another")))
    with pytest.raises(ValueError, match="store_sha256 is 'another' there"):
        announce("curve", recipe, out, Workers(executor=here))
    (out / "curve.json").unlink()
    left = [
        {
            k: v["left"]
            for k, v in announce("curve", recipe, out, workers, runs=runs)["variants"].items()
        }
        for workers, runs in (
            (Workers(executor=here), []),
            (Workers(executor=here, retry=True), [run.path]),
        )
    ]
    assert left[0] == {"part": 2, "supervised": 0, "untrained": 1, "band-powers": 1}
    assert left[1] == {"part": 1, "supervised": 1, "untrained": 1, "band-powers": 1}


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--methods", "simclr"], 2, "curve.methods.0 is 'simclr'; give 'part', "),
        (["--sizes", "0"], 2, "curve.sizes.0 is 0; give 1 or more"),
        (["--store", "nowhere"], 1, "needs the store nowhere"),
        (["--run", "nowhere"], 1, "nowhere"),
    ],
)
def test_wrong_options_are_one_sentence(small_curve, tmp_path, options, status, text):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_curve))
    arguments = ["curve", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "c"), *options]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == status
    assert text in answer.output
    assert "Traceback" not in answer.output


def test_ctrl_c_ends_with_the_status_of_an_interrupt_and_says_how_to_go_on(
    small_curve, tmp_path, monkeypatch
):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("biopart.studies.compare.study.run_study", stop)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_curve))
    arguments = ["curve", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "c")]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 130
    assert "the same command continues with the remaining trainings" in answer.output


def test_the_command_prints_its_answer_as_json(small_curve, tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_curve))
    arguments = ["curve", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "c"), "--json"]
    answer = CliRunner().invoke(main, [*arguments, "--methods", "supervised", "--subjects", "2,3"])
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert [row["size"] for row in found["summary"] if row["method"] == "supervised"] == [2, 3]
    assert found["files"]["csv"].endswith("curve.csv")


@pytest.fixture
def sweep(small_recipe):
    """A recipe of a sweep of two values with one seed."""
    small_recipe["sweep"] = {"over": {"pretrain.objective.pairs": [4, 16]}, "repeats": 1}
    small_recipe["pretrain"]["steps"] = 4
    small_recipe["finetune"]["epochs"] = 1
    return small_recipe


def test_a_folder_of_another_key_is_refused_and_one_of_other_values_goes_on(sweep, tmp_path, here):
    sweep["sweep"]["over"] = {"finetune.lr": [1e-3]}
    run_study("sweep", Recipe.model_validate(sweep), tmp_path, Workers(executor=here))
    sweep["sweep"]["over"] = {"finetune.lr": [1e-2]}
    found = run_study("sweep", Recipe.model_validate(sweep), tmp_path, Workers(executor=here))
    assert [row["method"] for row in found["table"]] == ["finetune.lr=0.01"]
    assert len(list(tmp_path.glob("cells/finetune.lr=*-s3-*.json"))) == 2
    sweep["sweep"]["over"] = {"pretrain.lr": [1e-3]}
    with pytest.raises(ValueError, match=r"contains a sweep of another recipe: recipe.sweep.over"):
        run_study("sweep", Recipe.model_validate(sweep), tmp_path, Workers(executor=here))


def test_a_sweep_is_announced_without_writing_anything(sweep, tmp_path, here):
    sweep["sweep"] = {"over": {"finetune.lr": [1e-3, 1e-2]}, "repeats": 2}
    found = announce("sweep", Recipe.model_validate(sweep), tmp_path / "s", Workers(executor=here))
    # A pretraining and a fine-tuning per value and seed.
    assert {name: row["left"] for name, row in found["variants"].items()} == {
        "finetune.lr=0.001": 4,
        "finetune.lr=0.01": 4,
    }
    assert found["seconds_left"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_makes_one_table_with_scores_of_validation_persons(sweep, tmp_path, here):
    sweep["finetune"] |= {"search": {"lr": [1e-9, 3e-3]}}
    found = run_study("sweep", Recipe.model_validate(sweep), tmp_path, Workers(executor=here))
    assert [row["method"] for row in found["table"]] == ["pairs=4", "pairs=16"]
    chosen = {(row["method"], row["values"]): row["chosen"] for row in found["searched"]}
    assert chosen == {
        (f"pairs={n}", f"finetune.lr {rate}"): int(rate > 1e-3)
        for n in (4, 16)
        for rate in (1e-9, 3e-3)
    }
    for row in found["table"]:
        assert row["ci95"][0] <= row["kappa"] <= row["ci95"][1]
        assert 0 < row["validation/loss"] < 1
    table = (tmp_path / "sweep.csv").read_text().splitlines()
    assert table[0].startswith("method,size,seed,kappa")
    assert [line.split(",")[0] for line in table[1:]] == ["pairs=4", "pairs=16"]
    page = (tmp_path / "sweep.html").read_text()
    assert "pairs=16" in page
    assert "pretrain.objective.pairs" in page
    assert "Values tried" in page
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_an_executor_of_the_callers_does_the_trainings_and_progress_is_reported(
    small_curve, tmp_path, here
):
    small_curve["curve"]["methods"] = ["supervised"]
    recipe, seen, lines = Recipe.model_validate(small_curve), [], []
    workers = Workers(1, here, say=lines.append, progress=seen.append)
    run_study("curve", recipe, tmp_path, workers)
    assert compare(recipe, tmp_path, executor=here)["failed"] == {}
    assert [(now.done, now.failed, now.trainings) for now in (seen[0], seen[-1])] == [
        (0, 0, 3),
        (3, 0, 3),
    ]
    assert (seen[0].share, seen[-1].share) == (0.0, 1.0)
    assert any(line.startswith("0 of 3 trainings are done, about ") for line in lines)


def test_lines_show_scores_and_what_failed():
    row = {"method": "part", "size": 5, "kappa": 0.61234, "ci95": [None, 0.7]}
    row |= {"probe_kappa": None, "validation/r2": 0.25}
    lines = lines_of({"table": [row], "failed": {"part-seed1": "ValueError: NaN"}})
    assert " ".join(lines[0].split()) == "part 5 kappa 0.612 [-, 0.700] probe - r2 0.250"
    assert lines[1] == "failed part-seed1: ValueError: NaN"


def test_a_cross_validation_scores_every_person_once(small_curve, tmp_path, here):
    small_curve["split"] = {"folds": 3, "validation_persons": 1}
    small_curve["curve"] |= {"sizes": [2]}
    recipe = Recipe.model_validate(small_curve)
    found = run_study("curve", recipe, tmp_path, Workers(executor=here))
    assert {row["seeds"] for row in found["summary"]} == {1}
    cells = [read_json(tmp_path / f"cells/part-s2-seed{seed}.json") for seed in range(3)]
    tested = [set(cell["result"]["confusion_by_person"]) for cell in cells]
    assert {row["persons"] for row in found["summary"]} == {len(set.union(*tested))}
    assert sum(map(len, tested)) == len(set.union(*tested)) == 8  # one of 9 has no known truth
    counted = sum(np.array(cell["result"]["confusion"]) for cell in cells)
    kappa = {row["method"]: row["kappa"] for row in found["summary"]}["part"]
    assert kappa == pytest.approx(float(kappa_of(counted)))
    assert "each person is a test person in one of 3 folds" in (tmp_path / "curve.html").read_text()


def test_what_a_search_tried_is_on_the_page(small_curve, tmp_path, here):
    small_curve["curve"] |= {"search": {"finetune.lr": [1e-9, 3e-3]}}
    found = run_study("curve", Recipe.model_validate(small_curve), tmp_path, Workers(executor=here))
    tried = {(row["method"], row["values"]): row["chosen"] for row in found["searched"]}
    for method in ("part", "supervised"):
        cell = read_json(tmp_path / f"cells/{method}-s3-seed0.json")["result"]["tried"]
        best = max(cell, key=lambda row: row["validation_kappa"])["finetune.lr"]
        assert {value: tried[method, f"finetune.lr {value}"] for value in (1e-9, 3e-3)} == {
            value: int(value == best) for value in (1e-9, 3e-3)
        }
    assert "Values tried" in (tmp_path / "curve.html").read_text()
    assert any("chosen in 1 of 1" in line for line in lines_of(found))
