import multiprocessing
import os

import pytest

from biopart.recipe import Recipe
from biopart.studies.cells import Board, Cell, Plan, Variant, file_name


def plan_of(*kinds, sizes=(1, 2), seeds=(0, 1), skipped=frozenset()):
    variants = tuple(Variant(f"v{i}", Recipe(), kind) for i, kind in enumerate(kinds))
    return Plan(variants, sizes, seeds, skipped)


def test_cells_come_seed_by_seed_pretrainings_first():
    plan = plan_of("pretrained", "scratch", sizes=(1, 5), seeds=(3,))
    names = [cell.name for cell in plan.cells]
    assert names == ["v0-seed3", "v0-s1-seed3", "v1-s1-seed3", "v0-s5-seed3", "v1-s5-seed3"]


def test_subsets_that_can_teach_nothing_have_no_cells():
    plan = plan_of("scratch", skipped=frozenset({(1, 0)}))
    assert [cell.name for cell in plan.cells] == ["v0-s2-seed0", "v0-s1-seed1", "v0-s2-seed1"]


def test_a_fine_tuning_waits_for_its_pretraining(tmp_path):
    plan, board = plan_of("pretrained", "scratch", seeds=(0,)), Board(tmp_path)
    ready = [cell.name for cell in plan.cells if board.is_ready(plan, cell)]
    assert ready == ["v0-seed0", "v1-s1-seed0", "v1-s2-seed0"]
    board.settle(Cell("v0", 0), {"seconds": 1.0})
    assert all(board.is_ready(plan, cell) for cell in plan.cells)


def test_a_failed_pretraining_closes_its_fine_tunings_until_it_is_taken_up_again(tmp_path):
    plan, board = plan_of("pretrained", sizes=(1,), seeds=(0,)), Board(tmp_path)
    pretraining, tuning = plan.cells
    board.settle(pretraining, {"failed": "ValueError: NaN"})
    assert board.reason(plan, tuning) == "its pretraining failed: ValueError: NaN"
    assert not board.is_open(plan, tuning)
    assert board.forget_failures() == ["v0-seed0"]
    assert board.is_open(plan, tuning)


def test_a_cell_is_taken_once_at_a_time_and_never_after_it_is_done(tmp_path):
    cell, board = Cell("v0", 0), Board(tmp_path)
    with board.taken(cell) as first, Board(tmp_path).taken(cell) as second:
        assert (first, second) == (True, False)
        assert board.held_by(os.getpid()) == ["v0-seed0"]
        board.settle(cell, {"seconds": 1.0})
    assert board.held_by(os.getpid()) == []
    with board.taken(cell) as third:
        assert third is False


def take_and_die(path):
    with Board(path).taken(Cell("v0", 0)):
        os._exit(9)


def test_a_process_that_dies_over_a_cell_leaves_it_free_and_known(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=take_and_die, args=(tmp_path,))
    process.start()
    process.join()
    board = Board(tmp_path)
    assert board.held_by(process.pid) == ["v0-seed0"]
    with board.taken(Cell("v0", 0)) as mine:
        assert mine
    board.drop_holder(process.pid)
    assert board.held_by(process.pid) == []


@pytest.mark.parametrize(
    ("text", "name"), [("pairs=10", "pairs=10"), ("a/b c", "a_b_c"), ("[1, 2]", "1_2")]
)
def test_names_of_variants_become_names_of_files(text, name):
    assert file_name(text) == name
