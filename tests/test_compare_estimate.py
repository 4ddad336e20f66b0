import math

import pytest

from biopart.recipe import Recipe
from biopart.studies.compare.estimate import (
    estimate,
    overview,
    pretraining_s,
    timed,
    training_alone,
    tuning_s,
)
from biopart.studies.compare.plan import Plan, Training
from biopart.studies.compare.variants import Variant


@pytest.fixture
def plan(small_recipe):
    recipe = Recipe.model_validate(small_recipe)
    variants = (Variant("part", recipe), Variant("plain", recipe, "scratch"))
    return Plan((*variants, Variant("powers", recipe, "band_powers")), (1, 3), (0,))


def test_every_training_has_a_time_and_larger_subsets_take_longer(plan):
    seconds = estimate(plan, plan.trainings)
    assert set(seconds) == set(plan.trainings)
    assert min(seconds.values()) > 0
    assert seconds[Training("plain", 0, 3)] > seconds[Training("plain", 0, 1)]


def test_only_variants_with_work_left_are_timed(plan):
    lines = []
    seconds = estimate(plan, [Training("plain", 0, 1)], lines.append)
    assert list(seconds) == [Training("plain", 0, 1)]
    assert lines == ["timing plain"]


def test_a_variant_that_cannot_be_timed_is_named_and_the_others_are(plan):
    values = plan.variants[0].recipe.model_dump(mode="json")
    values["pretrain"] |= {"lr": 1e30, "clip": None}
    broken = Variant("broken", Recipe.model_validate(values))
    both, lines = Plan((broken, plan.variants[1]), (1,), (0,)), []
    seconds = estimate(both, both.trainings, lines.append)
    assert math.isnan(seconds[Training("broken", 0)])
    assert seconds[Training("plain", 0, 1)] > 0
    assert any(line.startswith("broken cannot be timed: the loss is") for line in lines)


def test_the_time_of_a_fine_tuning_by_hand(small_recipe):
    small_recipe["finetune"] |= {"epochs": 4, "batch": 10, "validate_every": 2}
    recipe = Recipe.model_validate(small_recipe)
    # 4 epochs of 40 windows; 2 looks and one at the end at 30 windows and 60 windows of the test,
    # at three times the speed; the probe of a pretrained one predicts 40 + 60.
    scratch = (4 * 40 + (3 * 30 + 60) / 3) / 100
    counts = {"train": 40, "validation": 30, "test": 60}
    kinds = {"scratch": scratch, "pretrained": scratch + 1 / 3, "band_powers": 1 / 3}
    for kind, seconds in kinds.items():
        assert tuning_s(Variant("v", recipe, kind), 100.0, **counts) == pytest.approx(seconds)


def test_the_time_of_a_pretraining_by_hand(small_recipe):
    small_recipe["pretrain"] |= {"batch": 16, "validate_every": 2, "validation_windows": 30}
    recipe = Recipe.model_validate(small_recipe)
    row = {"step": 10, "steps": 60, "epoch": 1.0, "windows_per_second": 4.0}
    # 60 steps of 16 windows; they are 6 epochs, hence 3 looks and the last one at 30 windows.
    assert pretraining_s(recipe, row, validated=True) == pytest.approx((960 + 4 * 30 / 3) / 4)
    assert pretraining_s(recipe, row, validated=False) == pytest.approx(240)
    small_recipe["pretrain"] |= {"probe_every": 3, "probe_windows": 45}
    probed = Recipe.model_validate(small_recipe)
    # Two probes on the way, one before and one at the end, of 45 windows to fit and 45 to score.
    assert pretraining_s(probed, row, validated=False) == pytest.approx((960 + 4 * 90 / 3) / 4)
    assert pretraining_s(training_alone(probed), row, validated=False) == pytest.approx(240)


def test_what_is_timed_is_neither_probed_nor_logged(small_recipe):
    small_recipe["pretrain"]["probe_every"] = 3
    small_recipe["compute"]["loggers"] = ["mlflow"]
    recipe = Recipe.model_validate(small_recipe)
    alone = training_alone(recipe)
    assert (alone.pretrain.probe_every, alone.compute.loggers) == (None, [])
    assert (recipe.pretrain.probe_every, recipe.compute.loggers) == (3, ["mlflow"])
    assert alone.pretrain.objective == recipe.pretrain.objective


@pytest.mark.parametrize(("speed", "steps", "last"), [(100.0, 50, 10), (100.0, 4, 4), (1.0, 50, 1)])
def test_a_training_is_stopped_after_ten_steps_its_last_or_a_long_first_one(speed, steps, last):
    def train(report):
        for step in (1, *range(10, steps, 10), steps):
            report({"step": step, "validation/kappa": 0.5})
            report({"step": step, "steps": steps, "windows_per_second": speed})

    assert timed(train, batch=16)["step"] == last


def test_the_overview_counts_what_is_left_and_shares_its_time(plan):
    seconds = dict.fromkeys(plan.trainings, 10.0)
    seconds |= {Training("powers", 0, 1): math.nan, Training("powers", 0, 3): 16.0}
    left = plan.left({Training("plain", 0, 1): {}, Training("part", 0): {"failed": "NaN"}})
    assert len(left) == 3
    table = overview(plan, left, seconds, 2)
    assert (table["seconds_left"], table["time_left"], table["jobs"]) == (13.0, "13 s", 2)
    assert table["variants"]["powers"]["fine_tuning_s"] == 16.0  # of those that are known
    assert table["variants"]["part"] == {
        "pretrainings": 1,
        "pretraining_s": 10.0,
        "fine_tunings": 2,
        "fine_tuning_s": 10.0,
        "left": 0,
    }
