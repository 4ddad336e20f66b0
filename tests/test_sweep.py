from pathlib import Path

import pytest

from biopart.experiment.experiment import open_experiment
from biopart.recipe import Recipe, load_recipe
from biopart.studies.sweep.sweep import (
    announce,
    parse_over,
    plan_sweep,
    run_sweep,
    variants_of,
)
from biopart.studies.work import Crew

RECIPES = sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def test_every_combination_of_values_is_a_variant(small_recipe):
    over = {"pretrain.objective.pairs": [4, 16], "encoder.depth": [1, 2]}
    variants = variants_of(Recipe.model_validate(small_recipe), over)
    found = {v.name: (v.recipe.pretrain.objective.pairs, v.recipe.encoder.depth) for v in variants}
    assert found == {
        "pairs=4+encoder.depth=1": (4, 1),
        "pairs=4+encoder.depth=2": (4, 2),
        "pairs=16+encoder.depth=1": (16, 1),
        "pairs=16+encoder.depth=2": (16, 2),
    }


@pytest.mark.parametrize("name", RECIPES)
def test_the_ablations_that_are_shipped_have_one_switch_each(name):
    recipe = load_recipe(name)
    if not recipe.sweep.over:
        assert not name.startswith("ablation")
        return
    (values,) = recipe.sweep.over.values()
    assert len(variants_of(recipe, recipe.sweep.over)) == len(values) > 1


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({}, "needs --over key=a,b,c or sweep.over"),
        ({"split.seed": [0, 1]}, "split.seed cannot be swept, since all variants share persons"),
        ({"seed": [0, 1]}, "seed cannot be swept"),
        ({"finetune.subjects": [1, 2]}, "for their number take a curve"),
        ({"encoder.depht": [1]}, "unknown key 'depht'"),
        ({"pretrain.objective.pairs": [0]}, "greater than or equal to 1, got 0"),
    ],
)
def test_what_cannot_be_swept_is_refused(small_recipe, over, message):
    with pytest.raises(ValueError, match=message):
        variants_of(Recipe.model_validate(small_recipe), over)


@pytest.mark.parametrize("text", ["pairs", "=1,2", "pairs=", "pairs=[1"])
def test_over_without_key_or_values_is_refused(text):
    with pytest.raises(ValueError, match="--over takes key=a,b,c"):
        parse_over([text])


def test_variants_share_persons_and_have_the_recipes_size(small_recipe):
    small_recipe["sweep"] = {"over": {"pretrain.objective.pairs": [4, 16]}, "repeats": 2}
    recipe = Recipe.model_validate(small_recipe)
    plan, _ = plan_sweep(recipe, open_experiment(recipe))
    assert (plan.sizes, plan.seeds) == ((3,), (0, 1))
    assert len({open_experiment(variant.recipe).split for variant in plan.variants}) == 1


def test_keys_that_end_alike_are_told_apart(small_recipe):
    recipe = Recipe.model_validate(small_recipe)
    names = [
        v.name for k in ("pretrain", "finetune") for v in variants_of(recipe, {f"{k}.lr": [1]})
    ]
    assert names == ["pretrain.lr=1", "finetune.lr=1"]
    assert [v.name for v in variants_of(recipe, {"encoder.dim": [32]})] == ["dim=32"]


def test_a_folder_of_another_key_is_refused_and_one_of_other_values_goes_on(small_recipe, tmp_path):
    small_recipe |= {"sweep": {"over": {"finetune.lr": [1e-3]}, "repeats": 1}}
    small_recipe["pretrain"]["steps"], small_recipe["finetune"]["epochs"] = 2, 1
    run_sweep(Recipe.model_validate(small_recipe), tmp_path, Crew())
    small_recipe["sweep"]["over"] = {"finetune.lr": [1e-2]}
    found = run_sweep(Recipe.model_validate(small_recipe), tmp_path, Crew())
    assert [row["method"] for row in found["table"]] == ["finetune.lr=0.01"]
    assert len(list(tmp_path.glob("cells/finetune.lr=*-s3-*.json"))) == 2
    small_recipe["sweep"]["over"] = {"pretrain.lr": [1e-3]}
    with pytest.raises(
        ValueError, match=r"sweep.over.* of another recipe|another recipe.*sweep.over"
    ):
        run_sweep(Recipe.model_validate(small_recipe), tmp_path, Crew())


def test_a_sweep_is_announced_without_writing_anything(small_recipe, tmp_path):
    small_recipe["sweep"] = {"over": {"finetune.lr": [1e-3, 1e-2]}, "repeats": 2}
    said = announce(Recipe.model_validate(small_recipe), tmp_path / "s", Crew())
    # A pretraining and a fine-tuning per value and seed.
    assert {name: row["left"] for name, row in said["variants"].items()} == {
        "finetune.lr=0.001": 4,
        "finetune.lr=0.01": 4,
    }
    assert said["seconds_left"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_makes_one_table_with_held_out_figures(small_recipe, tmp_path):
    small_recipe["sweep"] = {"over": {"pretrain.objective.pairs": [4, 16]}, "repeats": 1}
    small_recipe["pretrain"]["steps"] = 4
    small_recipe["finetune"]["epochs"] = 1
    found = run_sweep(Recipe.model_validate(small_recipe), tmp_path, Crew())
    assert [row["method"] for row in found["table"]] == ["pairs=4", "pairs=16"]
    for row in found["table"]:
        assert row["ci95"][0] <= row["kappa"] <= row["ci95"][1]
        assert 0 < row["validation/loss"] < 1
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert lines[0].startswith("method,size,seed,kappa")
    assert [line.split(",")[0] for line in lines[1:]] == ["pairs=4", "pairs=16"]
    page = (tmp_path / "sweep.html").read_text()
    assert "pairs=16" in page
    assert "pretrain.objective.pairs" in page
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
