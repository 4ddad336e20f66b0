import csv
import json

import pytest
import yaml
from click.testing import CliRunner

from biopart.cli import main
from biopart.files import read_json
from biopart.recipe import Recipe
from biopart.studies.cells import Board, Cell
from biopart.studies.curve.curve import (
    FREE_OF_CURVE,
    announce,
    compared,
    identity,
    run_curve,
)
from biopart.studies.work import Crew, sharing
from biopart.verbs.pretrain import pretrain


@pytest.fixture
def values(small_recipe):
    """A recipe of a curve of two methods, one size and one seed."""
    small_recipe["pretrain"]["steps"] = 4
    small_recipe["finetune"]["epochs"] = 1
    small_recipe["curve"] = {"methods": ["part", "supervised"], "sizes": [3], "repeats": 1}
    return small_recipe


def cells_of(folder):
    return sorted(path.stem for path in folder.glob("cells/*.json"))


def table_of(folder):
    """The rows of curve.csv but for the time that they took."""
    with (folder / "curve.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_curve_makes_table_picture_and_page_and_is_done_once(values, tmp_path):
    recipe = Recipe.model_validate(values)
    found = run_curve(recipe, tmp_path, Crew())
    names = ["band-powers-s3-seed0", "part-s3-seed0", "part-seed0", "supervised-s3-seed0"]
    assert cells_of(tmp_path) == [*names, "untrained-s3-seed0"]
    table = table_of(tmp_path)
    assert [row["method"] for row in table] == ["part", "supervised", "untrained", "band-powers"]
    assert len({row["persons"] for row in table}) == 1
    kappas = {row["method"]: row["kappa"] for row in found["summary"]}
    assert {row["method"]: float(row["kappa"]) for row in table} == pytest.approx(kappas)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "supervised" in (tmp_path / "curve.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}
    assert run_curve(recipe, tmp_path, Crew()) == found
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}


def test_a_curve_grows_by_methods_and_sizes_but_not_by_another_recipe(values, tmp_path):
    values["curve"]["methods"] = ["supervised"]
    run_curve(Recipe.model_validate(values), tmp_path, Crew())
    values["curve"]["sizes"] = [2]
    run_curve(Recipe.model_validate(values), tmp_path, Crew())
    assert {row["size"] for row in table_of(tmp_path)} == {"2", "3"}
    values["finetune"]["lr"] = 0.5
    message = r"holds a curve of another recipe: recipe.finetune.lr is 0.003 there and 0.5 here"
    with pytest.raises(ValueError, match=message):
        run_curve(Recipe.model_validate(values), tmp_path, Crew())


def test_a_failed_cell_is_told_and_done_again_on_request(values, tmp_path):
    values["curve"]["methods"] = ["supervised"]
    recipe = Recipe.model_validate(values)
    Board(tmp_path).settle(Cell("supervised", 0, 3), {"failed": "ValueError: NaN"})
    found = run_curve(recipe, tmp_path, Crew())
    assert found["failed"] == {"supervised-s3-seed0": "ValueError: NaN"}
    assert "ValueError: NaN" in (tmp_path / "curve.html").read_text()
    said = []
    again = run_curve(recipe, tmp_path, Crew(retry=True, say=said.append))
    assert again["failed"] == {}
    assert "failed cells taken up again: supervised-s3-seed0" in said


def test_a_finished_pretraining_is_taken_and_tuned_as_the_curve_says(values, tmp_path):
    values["finetune"]["lr"] = 0.5
    run = pretrain(Recipe.model_validate(values), out=tmp_path / "run")
    values["finetune"]["lr"] = 3e-3
    recipe, said = Recipe.model_validate(values), []
    run_curve(recipe, tmp_path / "curve", Crew(say=said.append), runs=[run.path])
    assert f"{run.path} is taken as part-seed0" in said
    taken = tmp_path / "curve" / "runs" / "part-seed0"
    assert (taken / "encoder.safetensors").read_bytes() == run.encoder.read_bytes()
    assert read_json(tmp_path / "curve" / "cells" / "part-seed0.json")["taken_from"]
    tuned = yaml.safe_load((taken / "finetune" / "s3-seed0" / "finetune.yaml").read_text())
    assert tuned["finetune"]["lr"] == 3e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrain": {"lr": 0.1}}, "its pretrain.lr is 0.001, part-seed0 wants 0.1"),
        ({"seed": 7}, "its seed is 0, part-seed7 wants 7"),
    ],
)
def test_a_pretraining_of_another_kind_is_not_taken(values, tmp_path, change, message):
    run = pretrain(Recipe.model_validate(values), out=tmp_path / "run")
    for key, value in change.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=message):
        run_curve(Recipe.model_validate(values), tmp_path / "curve", Crew(), runs=[run.path])


def test_a_plan_says_what_will_be_done_and_how_long(values, tmp_path):
    found = announce(Recipe.model_validate(values), tmp_path, Crew())
    counts = {k: (v["pretrainings"], v["fine_tunings"]) for k, v in found["variants"].items()}
    assert counts == {"part": (1, 1), "supervised": (0, 1), "untrained": (0, 1)} | {
        "band-powers": (0, 1)
    }
    assert found["seconds_left"] > 0
    assert not list(tmp_path.iterdir())


def test_a_plan_knows_what_is_there_taken_or_failed_and_refuses_what_a_curve_would(
    values, tmp_path
):
    recipe, out = Recipe.model_validate(values), tmp_path / "curve"
    run = pretrain(recipe, out=tmp_path / "run")
    Board(out).settle(Cell("supervised", 0, 3), {"failed": "ValueError: NaN"})
    (out / "curve.json").write_text(json.dumps(identity(recipe, "another", FREE_OF_CURVE)))
    with pytest.raises(ValueError, match="store_sha256 is 'another' there"):
        announce(recipe, out, Crew())
    (out / "curve.json").unlink()
    left = [
        {k: v["left"] for k, v in announce(recipe, out, crew, runs=runs)["variants"].items()}
        for crew, runs in ((Crew(), []), (Crew(retry=True), [run.path]))
    ]
    assert left[0] == {"part": 2, "supervised": 0, "untrained": 1, "band-powers": 1}
    assert left[1] == {"part": 1, "supervised": 1, "untrained": 1, "band-powers": 1}


def test_cores_are_shared_where_threads_are_auto(monkeypatch):
    monkeypatch.setattr("biopart.studies.work.cores", lambda: 8)
    recipe = Recipe()
    assert [sharing(recipe, jobs)[1] for jobs in (2, 16)] == [4, 1]
    shared, threads = sharing(Recipe.model_validate({"compute": {"threads": 3}}), 2)
    assert shared.compute.threads == threads == 3


def test_nested_differences_have_dotted_keys():
    left, right = {"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "d": None}, "c": {"e": 2}}
    assert compared(left, right) == {"c": (2, {"e": 2})}


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--methods", "simclr"], 2, "curve.methods.0: Input should be 'part'"),
        (["--sizes", "0"], 2, "greater than or equal to 1"),
        (["--store", "nowhere"], 1, "needs the store nowhere"),
        (["--run", "nowhere"], 1, "nowhere"),
    ],
)
def test_wrong_options_are_one_sentence(values, tmp_path, options, status, text):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    arguments = ["curve", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "c"), *options]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == status
    assert text in answer.output
    assert "Traceback" not in answer.output


def test_ctrl_c_ends_with_the_status_of_an_interrupt_and_says_how_to_go_on(
    values, tmp_path, monkeypatch
):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("biopart.studies.curve.run_curve", stop)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    arguments = ["curve", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "c")]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 130
    assert "the same command goes on with the cells that are left" in answer.output


def test_the_command_prints_its_answer_as_json(values, tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    arguments = ["curve", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "c"), "--json"]
    answer = CliRunner().invoke(main, [*arguments, "--methods", "supervised", "--subjects", "2,3"])
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert [row["size"] for row in found["summary"] if row["method"] == "supervised"] == [2, 3]
    assert found["files"]["csv"].endswith("curve.csv")
