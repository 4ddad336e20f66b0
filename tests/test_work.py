import json
import os
import platform
import shutil
import signal
from dataclasses import replace

import pytest

from biopart.files import read_json
from biopart.recipe import Recipe
from biopart.studies import work as working
from biopart.studies.cells import Board, Cell, Plan, Variant
from biopart.studies.work import attempt, follow, work, work_together


@pytest.fixture
def small_plan(small_recipe):
    """Two variants and two baselines with one seed and the sizes 2 and 3."""
    small_recipe["pretrain"]["steps"] = 6
    small_recipe["finetune"] |= {"epochs": 1}
    recipe = Recipe.model_validate(small_recipe)
    kinds = {"part": "pretrained", "plain": "scratch", "untrained": "untrained_mean"}
    variants = tuple(Variant(name, recipe, kind) for name, kind in kinds.items())
    return Plan((*variants, Variant("powers", recipe, "band_powers")), (2, 3), (0,))


def answers(board):
    """What cells came to, without the time that it took."""
    found = {path.stem: read_json(path) for path in sorted(board.path.glob("cells/*.json"))}
    for outcome in found.values():
        outcome.pop("seconds")
        outcome.get("result", {}).pop("seconds", None)
    return found


def test_work_ends_with_every_cell_done_and_nested_persons(small_plan, tmp_path):
    board = Board(tmp_path)
    work(small_plan, board)
    found = answers(board)
    assert sorted(found) == sorted(cell.name for cell in small_plan.cells)
    persons = {n: v["result"]["train_persons"] for n, v in found.items() if "result" in v}
    assert len({tuple(p) for n, p in persons.items() if "-s2-" in n}) == 1
    assert set(persons["part-s2-seed0"]) < set(persons["plain-s3-seed0"])
    tests = {tuple(v["result"]["confusion_by_person"]) for v in found.values() if "result" in v}
    assert len(tests) == 1
    assert not set(persons["part-s3-seed0"]) & set(tests.pop())


def test_two_processes_share_the_cells_and_come_to_what_one_does(small_plan, tmp_path):
    alone, shared = Board(tmp_path / "alone"), Board(tmp_path / "shared")
    work(small_plan, alone)
    work_together(small_plan, shared, jobs=2, threads=1, progress=lambda: None)
    assert json.dumps(answers(alone)) == json.dumps(answers(shared))
    assert list(shared.path.glob("locks/*~*")) == []


def test_a_stopped_study_keeps_its_cells_and_ends_as_an_uninterrupted_one(
    small_plan, tmp_path, monkeypatch
):
    whole, stopped = Board(tmp_path / "whole"), Board(tmp_path / "stopped")
    work(small_plan, whole)
    finetune, calls = working.finetune, []

    def stop_at_third(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return finetune(*args, **options)

    monkeypatch.setattr(working, "finetune", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        work(small_plan, stopped)
    kept = {path.name: path.stat().st_mtime_ns for path in stopped.path.glob("cells/*.json")}
    assert 0 < len(kept) < len(small_plan.cells)
    work(small_plan, stopped)
    assert answers(stopped) == answers(whole)
    again = {path.name: path.stat().st_mtime_ns for path in stopped.path.glob("cells/*.json")}
    assert kept.items() <= again.items()


def test_a_cell_that_fails_is_marked_with_its_reason_and_the_others_go_on(small_plan, tmp_path):
    values = small_plan.variants[0].recipe.model_dump(mode="json")
    values["pretrain"] |= {"lr": 1e30, "clip": None}
    broken = Variant("broken", Recipe.model_validate(values))
    plan = Plan((broken, *small_plan.variants[1:2]), (2,), (0,))
    board = Board(tmp_path)
    work(plan, board)
    assert "ValueError" in board.reason(plan, Cell("broken", 0))
    assert board.reason(plan, Cell("broken", 0, 2)).startswith("its pretraining failed")
    assert board.reason(plan, Cell("plain", 0, 2)) is None
    assert "in check_finite" in board.outcome(Cell("broken", 0))["traceback"]


def test_a_pretraining_that_was_stopped_goes_on_from_its_checkpoint(small_plan, tmp_path):
    board, cell = Board(tmp_path), small_plan.cells[0]
    assert attempt(small_plan, board, cell, lambda row: None)
    weights = (board.run(cell).path / "encoder.safetensors").read_bytes()
    (board.path / "cells" / f"{cell.name}.json").unlink()
    (board.run(cell).path / "encoder.safetensors").unlink()
    rows = []
    assert attempt(small_plan, board, cell, rows.append)
    assert rows == []
    assert (board.run(cell).path / "encoder.safetensors").read_bytes() == weights


def test_a_process_that_is_killed_costs_its_cell_and_not_the_study(
    small_plan, tmp_path, monkeypatch
):
    monkeypatch.setattr(working, "LOOK_S", 0.02)
    plan, board = Plan(small_plan.variants[1:], (2,), (0,)), Board(tmp_path)
    killed = []

    def kill_once():
        if killed or not (held := list(tmp_path.glob("locks/*~*"))):
            return
        process = int(held[0].name.partition("~")[2].partition("@")[0])
        os.kill(process, signal.SIGSTOP)  # so that it cannot end its cell in between
        killed.extend(path.name.partition("~")[0] for path in tmp_path.glob("locks/*~*"))
        os.kill(process, signal.SIGKILL if killed else signal.SIGCONT)

    work_together(plan, board, jobs=1, threads=1, progress=kill_once)
    (name,) = killed
    reasons = {cell.name: board.reason(plan, cell) for cell in plan.cells}
    assert reasons.pop(name) == "was killed by SIGKILL, as for want of memory"
    assert set(reasons.values()) == {None}


def test_a_process_that_dies_before_any_cell_ends_the_study_with_a_sentence(
    small_plan, tmp_path, monkeypatch
):
    monkeypatch.setattr(working, "_worker", os.abort)
    message = "that had no cell yet .* call again with fewer --jobs"
    with pytest.raises(ChildProcessError, match=message):
        work_together(small_plan, Board(tmp_path), jobs=1, threads=1, progress=lambda: None)


def test_what_was_done_since_a_process_died_over_it_is_kept(small_plan, tmp_path):
    class Dead:
        pid, exitcode = 123, -signal.SIGKILL

        def join(self, timeout):
            cell = small_plan.cells[0]
            board.settle(cell, {"seconds": 1.0})  # by another process, once the lock was free

    board = Board(tmp_path)
    holder = f"{small_plan.cells[0].name}~123@{platform.node()}"
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / holder).touch()
    (again,) = follow(Dead(), small_plan, board, 1)
    again.terminate()
    assert board.outcome(small_plan.cells[0])["seconds"] == 1.0


def test_a_store_that_was_moved_is_found_where_it_is_now(small_plan, tmp_path):
    board, cell = Board(tmp_path), small_plan.cells[0]
    assert attempt(small_plan, board, cell, lambda row: None)
    store = small_plan.variants[0].recipe.data.store
    moved = shutil.copytree(store, tmp_path / "moved.zarr")
    written = (board.run(cell).path / "recipe.yaml").read_text()
    (board.run(cell).path / "recipe.yaml").write_text(written.replace(str(store), "nowhere"))
    variants = tuple(
        replace(
            v,
            recipe=v.recipe.model_copy(
                update={"data": v.recipe.data.model_copy(update={"store": moved})}
            ),
        )
        for v in small_plan.variants
    )
    plan = Plan(variants, small_plan.sizes, small_plan.seeds)
    work(plan, board)
    assert {
        plan_cell.name: board.reason(plan, plan_cell) for plan_cell in plan.cells
    } == dict.fromkeys((plan_cell.name for plan_cell in plan.cells), None)
