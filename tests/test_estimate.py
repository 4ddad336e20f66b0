from pathlib import Path

import pytest

from biopart.experiment.experiment import open_experiment
from biopart.recipe import Recipe
from biopart.studies.cells import Board, Cell, Plan, Variant
from biopart.studies.estimate import Speed, _cell, estimate, overview, remaining, standing


@pytest.fixture
def plan(small_recipe):
    recipe = Recipe.model_validate(small_recipe)
    variants = (Variant("part", recipe), Variant("plain", recipe, "scratch"))
    return Plan((*variants, Variant("powers", recipe, "band_powers")), (1, 3), (0,))


def test_every_cell_has_a_time_and_larger_subsets_take_longer(plan):
    seconds = estimate(plan)
    assert set(seconds) == set(plan.cells)
    assert min(seconds.values()) > 0
    assert seconds[Cell("plain", 0, 3)] > seconds[Cell("plain", 0, 1)]


def test_the_time_of_a_fine_tuning_by_hand(small_recipe):
    small_recipe["finetune"] |= {"epochs": 4, "batch": 10, "validate_every": 2}
    experiment = open_experiment(Recipe.model_validate(small_recipe))
    split = experiment.split
    windows = dict.fromkeys([*split.test, *split.validation, *split.finetune], 20)
    speed = Speed(step=1.0, predicting=0.01, windows=windows)
    # 40 windows are 4 steps an epoch, 16 steps; looks after epochs 2 and 4 and one more at 40
    # validation windows; 40 windows of the test; the probe of a pretrained one 40 + 40.
    scratch = 16 * 1.0 + 3 * 40 * 0.01 + 40 * 0.01
    persons = split.finetune[:2]
    assert _cell(experiment, "scratch", persons, speed) == pytest.approx(scratch)
    assert _cell(experiment, "pretrained", persons, speed) == pytest.approx(scratch + 80 * 0.01)
    assert _cell(experiment, "band_powers", persons, speed) == pytest.approx(80 * 0.01)


def test_what_is_left_falls_as_cells_are_done_and_is_shared(plan, tmp_path: Path):
    board = Board(tmp_path)
    seconds = dict.fromkeys(plan.cells, 10.0)
    assert len(plan.cells) == 7
    left = [cell for cell in plan.cells if board.is_open(plan, cell)]
    assert remaining(left, seconds, 2) == 35.0
    board.settle(Cell("plain", 0, 1), {"seconds": 1.0})
    board.settle(Cell("part", 0), {"failed": "ValueError: NaN"})
    left = [cell for cell in plan.cells if board.is_open(plan, cell)]
    assert remaining(left, seconds, 1) == 30.0
    now = standing(plan, board, seconds)
    assert (now.done, now.failed, now.cells, now.share) == (1, 3, 7, pytest.approx(4 / 7))
    table = overview(plan, left, seconds, 1)
    assert table["time_left"] == "30 s"
    assert table["variants"]["part"] == {
        "pretrainings": 1,
        "pretraining_s": 10.0,
        "fine_tunings": 2,
        "fine_tuning_s": 10.0,
        "left": 0,
    }
