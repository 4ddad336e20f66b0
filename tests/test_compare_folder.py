import multiprocessing
import time

import pytest

from biopart.files import read_json
from biopart.recipe import Recipe
from biopart.studies.compare.folder import StudyFolder, compared, identity, pretrained_by
from biopart.studies.compare.plan import Plan, Training
from biopart.studies.compare.variants import Variant
from biopart.verbs.pretrain import pretrain


@pytest.fixture
def plan(small_recipe):
    return Plan((Variant("part", Recipe.model_validate(small_recipe)),), (3,), (0,))


def test_outcomes_are_read_as_they_were_settled(tmp_path):
    folder, done = StudyFolder(tmp_path), Training("mae", 1, 10)
    returned = folder.settle(done, {"seconds": float("nan"), "result": {"kappa": 0.1}})
    assert returned == read_json(tmp_path / "cells" / "mae-s10-seed1.json")
    folder.settle(Training("mae", 2), {"failed": "ValueError: NaN"})
    assert folder.outcomes()[done] == {
        **{"variant": "mae", "seed": 1, "size": 10, "seconds": None},
        "result": {"kappa": 0.1},
    }
    assert set(folder.outcomes(failed=False)) == {done}
    assert folder.forget_failures() == ["mae-seed2"]
    assert set(folder.outcomes()) == {done}


def hold(path):
    with StudyFolder(path).held():
        (path / "ready").touch()
        time.sleep(60)


def test_a_second_process_in_a_folder_is_refused_until_the_first_one_is_gone(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    message = f"another process is working in {tmp_path}; wait until it ends, or stop it"
    with pytest.raises(ValueError, match=message), StudyFolder(tmp_path).held():
        pass
    process.kill()
    process.join()
    with StudyFolder(tmp_path).held():
        pass


def test_a_folder_is_of_one_recipe_but_for_how_much_is_done_and_where(small_recipe, tmp_path):
    folder = StudyFolder(tmp_path)
    folder.claim("curve", Recipe.model_validate(small_recipe), "abc")
    small_recipe |= {"seed": 4, "curve": {"sizes": [9], "repeats": 7}}
    small_recipe["compute"] = {"threads": 7}
    folder.claim("curve", Recipe.model_validate(small_recipe), "abc")
    small_recipe["finetune"]["lr"] = 0.5
    message = (
        "contains a curve of another recipe: recipe.finetune.lr is 0.003 there and 0.5 here; "
        "store_sha256 is 'abc' there and 'xyz' here; give another --out"
    )
    with pytest.raises(ValueError, match=message):
        folder.check("curve", Recipe.model_validate(small_recipe), "xyz")


def test_a_sweep_keeps_its_keys_and_not_their_values(small_recipe):
    names = [
        identity("sweep", Recipe.model_validate(small_recipe | {"sweep": {"over": over}}), "abc")
        for over in ({"finetune.lr": [1]}, {"finetune.lr": [2, 3]}, {"pretrain.lr": [1]})
    ]
    assert names[0] == names[1]
    assert compared(names[1], names[2]) == {
        "recipe.sweep.over.finetune.lr": ([], None),
        "recipe.sweep.over.pretrain.lr": (None, []),
    }


def test_nested_differences_have_dotted_keys():
    left, right = {"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "d": 3}, "c": {"e": 2}}
    assert compared(left, right) == {"a.d": (None, 3), "c": (2, None), "c.e": (None, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrain": {"lr": 0.1}}, "its pretrain.lr is 0.001, but part-seed0 needs 0.1"),
        ({"seed": 7}, "its seed is 0, but part-seed7 needs 7"),
    ],
)
def test_a_pretraining_of_another_kind_is_not_used(small_recipe, tmp_path, change, message):
    small_recipe["pretrain"]["steps"] = 2
    run = pretrain(Recipe.model_validate(small_recipe), out=tmp_path / "run")
    for key, value in change.items():
        small_recipe[key] = {**small_recipe[key], **value} if isinstance(value, dict) else value
    recipe = Recipe.model_validate(small_recipe)
    plan = Plan((Variant("part", recipe),), (3,), (recipe.seed,))
    with pytest.raises(ValueError, match=message):
        pretrained_by(plan, [run.path], run.provenance()["store_sha256"])


def test_a_pretraining_is_not_used_where_none_is_needed_or_on_another_store(plan, tmp_path):
    run = pretrain(plan.variants[0].recipe, out=tmp_path / "run")
    with pytest.raises(ValueError, match="it was trained on another store"):
        pretrained_by(plan, [run.path], "abc")
    scratch = Plan((Variant("plain", plan.variants[0].recipe, "scratch"),), (3,), (0,))
    with pytest.raises(ValueError, match="no variant of the study is pretrained"):
        pretrained_by(scratch, [run.path], run.provenance()["store_sha256"])
