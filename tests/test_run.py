import json
from pathlib import Path

import pytest

from biopart.files import plain, write_json
from biopart.run import Run, find_run, new_run, one_process


def filled(path):
    run = new_run("study", path)
    (path / "recipe.yaml").write_text("name: study\n")
    return run


def test_latest_names_the_newest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = new_run("study"), new_run("study")
    assert first.path != second.path
    assert first.path.parts[:2] == ("runs", "study")
    assert find_run(None).path == second.path.resolve()


def test_a_run_is_never_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "R")
    with pytest.raises(FileExistsError, match="already contains a run; continue it with --resume"):
        new_run("study", tmp_path / "R")


def test_a_folder_of_other_files_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="contains other files"):
        new_run("study", tmp_path / "R")


def test_metrics_are_cut_back_to_a_step_and_survive_a_torn_line(tmp_path):
    run = Run(tmp_path)
    for step in (1, 10, 20):
        run.log({"step": step, "train/loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "train/lo')
    assert [row["step"] for row in run.metrics()] == [1, 10, 20]
    run.cut_back(10)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 10]


def test_not_a_number_is_written_as_null(tmp_path):
    write_json(tmp_path / "a.json", {"kappa": float("nan"), "f1": {"W": float("inf")}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"kappa": None, "f1": {"W": None}}
    assert plain({1: (2,)}) == {"1": [2]}


def test_nothing_is_left_beside_a_file_that_could_not_be_written(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"what": object()})
    assert list(tmp_path.iterdir()) == []


def test_either_folder_names_a_finetuning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = filled(tmp_path / "R")
    with pytest.raises(FileNotFoundError, match="biopart finetune --run"):
        run.finetuned()
    tuned = tmp_path / "R" / "finetune" / "s5-seed0"
    tuned.mkdir(parents=True)
    (tuned / "model.safetensors").touch()
    (tuned / "result.json").touch()
    assert run.finetuned().path == Run(tuned).finetuned().path == tuned
    assert Run(tuned).pretrained().path == tmp_path / "R"


def test_a_folder_that_is_no_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="biopart pretrain"):
        Run(tmp_path / "x").pretrained()
    with pytest.raises(FileNotFoundError, match="no run yet"):
        find_run(None)
    with pytest.raises(FileNotFoundError, match="no run at"):
        find_run(tmp_path / "x")


def test_latest_survives_a_move_and_works_as_a_path(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    name = new_run("study").path.name
    (tmp_path / "a").rename(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "b")
    assert find_run(None).path == find_run(tmp_path / "b/runs/latest").path
    assert find_run(None).path == tmp_path / "b/runs/study" / name


def test_latest_may_be_followed_by_a_folder_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = new_run("study")
    (run.path / "recipe.yaml").write_text("name: study\n")
    (run.path / "finetune/s2-seed0").mkdir(parents=True)
    (run.path / "finetune/s2-seed0/result.json").write_text("{}")
    assert find_run(Path("runs/latest/finetune/s2-seed0")).path == (
        tmp_path / run.path / "finetune/s2-seed0"
    )
    with pytest.raises(FileNotFoundError, match="has no fine-tuning s3; it has s2-seed0"):
        find_run(Path("runs/latest/finetune/s3"))


def test_a_second_process_on_a_run_folder_is_refused(tmp_path):
    busy = pytest.raises(ValueError, match="another process is working")
    with one_process(Run(tmp_path)), busy, one_process(Run(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_with_the_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_text", full)
    with pytest.raises(OSError, match=r"a\.json cannot be written \(No space left on device\)"):
        write_json(tmp_path / "a.json", {})


def test_a_detection_run_is_not_taken_for_an_unfinished_pretraining(tmp_path):
    run = Run(tmp_path / "r")
    run.path.mkdir()
    with pytest.raises(FileNotFoundError, match=r"r has no weights yet; finish it with: biopart"):
        run.pretrained_weights()
    (run.path / "provenance.json").write_text('{"kind": "detection"}')
    with pytest.raises(ValueError, match=r"r is a detection run; a pretraining run is needed$"):
        run.pretrained_weights()
