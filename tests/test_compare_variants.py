from pathlib import Path

import pytest

from biopart.experiment.experiment import open_experiment
from biopart.recipe import CurveSettings, MaeSettings, PartSettings, Recipe, load_recipe, resolve
from biopart.studies.compare.variants import (
    file_name,
    method_recipe,
    methods_of,
    objective_of,
    parse_grid,
    settings_of,
)

RECIPES = sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.yaml"))
METHODS = ["part", "part-grid", "mae", "mp3", "droppos", "supervised"]
METHODS += ["supervised-nopos", "supervised-relative"]


@pytest.fixture
def recipe(small_recipe):
    small_recipe["curve"] = {
        "methods": METHODS,
        "objectives": [{"name": "mae", "decoder_dim": 32, "decoder_heads": 2}],
    }
    return Recipe.model_validate(small_recipe)


def swept(values, over):
    return settings_of(Recipe.model_validate({**values, "sweep": {"over": over}}))


def test_methods_differ_in_objective_and_positions_alone(recipe):
    for variant in methods_of(recipe):
        left, right = (r.model_dump() for r in (recipe, variant.recipe))
        left["pretrain"].pop("objective")
        right["pretrain"].pop("objective")
        expected = {"supervised-nopos": "none", "supervised-relative": "relative"}
        assert right["finetune"].pop("position") == expected.get(variant.name)
        left["finetune"].pop("position")
        assert left == right


def test_what_a_recipe_leaves_open_is_as_the_authors_fine_tune(recipe):
    tuned = {
        v.name: v.recipe.finetune.of_method(v.recipe.pretrain.objective.protocol)
        for v in methods_of(recipe)
        if v.kind == "pretrained"
    }
    assert {name: s.pool for name, s in tuned.items()} == {
        **{"part": "cls", "part-grid": "cls", "mp3": "cls"},
        **{"mae": "mean", "droppos": "mean"},
    }
    for name, settings in tuned.items():
        masked = name in ("mae", "droppos")
        assert settings.betas == (0.9, 0.999)
        assert settings.position == "learned"
        assert settings.keep_positions is masked
        assert settings.layer_decay == (0.75 if masked else 1.0)
        assert settings.head_std == (2e-5 if masked else 0.01)


def test_settings_of_one_method_and_a_search_reach_its_recipe(recipe):
    curve = recipe.curve.model_copy(
        update={
            "search": {"finetune.lr": [1e-3, 3e-4]},
            "changes": {"mp3": {"pretrain.drop_path": 0.1, "finetune.pool": "mean"}},
        }
    )
    recipe = recipe.model_copy(update={"curve": curve})
    by_name = {v.name: v.recipe for v in methods_of(recipe)}
    assert by_name["mp3"].pretrain.drop_path == 0.1
    assert by_name["mp3"].finetune.pool == "mean"
    assert by_name["part"].pretrain.drop_path is None
    assert all(r.finetune.search == {"lr": [1e-3, 3e-4]} for r in by_name.values())


def test_each_method_has_its_objective(recipe):
    names = {v.name: v.recipe.pretrain.objective.name for v in methods_of(recipe)[:5]}
    assert names == {"part": "part", "part-grid": "part", "mae": "mae", "mp3": "mp3"} | {
        "droppos": "droppos"
    }
    assert method_recipe(recipe, "part").pretrain.objective == recipe.pretrain.objective
    assert method_recipe(recipe, "part-grid").pretrain.objective == PartSettings(
        patches=8, pairs=16, position_hint=0.5, on_grid=True
    )


def test_patches_of_the_grid_keep_no_setting_of_sizes(recipe):
    sized = PartSettings(scale=(0.5, 2.0), sides="uniform", size_target="ratio")
    pretraining = recipe.pretrain.model_copy(update={"objective": sized})
    recipe = recipe.model_copy(update={"pretrain": pretraining})
    grid = method_recipe(recipe, "part-grid")
    assert grid.pretrain.objective == PartSettings(on_grid=True)
    assert resolve(grid.model_dump(mode="json"), [], "again") == grid


def test_settings_of_an_objective_come_from_the_curve_else_from_its_defaults(recipe):
    assert objective_of(recipe, "mae") == MaeSettings(decoder_dim=32, decoder_heads=2)
    assert objective_of(recipe, "droppos").decoder_dim == 512


def test_changing_the_method_changes_no_split(recipe):
    splits = {open_experiment(variant.recipe).split for variant in methods_of(recipe)}
    assert len(splits) == 1


def test_every_combination_of_values_is_a_variant(small_recipe):
    variants = swept(small_recipe, {"pretrain.objective.pairs": [4, 16], "encoder.depth": [1, 2]})
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
    assert len(settings_of(recipe)) == len(values) > 1


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({}, "needs --over key=a,b,c or sweep.over"),
        ({"split.seed": [0, 1]}, "split.seed cannot be swept, since all variants share persons"),
        ({"seed": [0, 1]}, "seed cannot be swept"),
        ({"finetune.subjects": [1, 2]}, "to vary their number, use a curve"),
        ({"encoder.depht": [1]}, "unknown key 'depht'"),
        ({"pretrain.objective.pairs": [0]}, "pretrain.objective.pairs is 0; give 1 or more"),
    ],
)
def test_what_cannot_be_swept_is_refused(small_recipe, over, message):
    with pytest.raises(ValueError, match=message):
        swept(small_recipe, over)


@pytest.mark.parametrize("text", ["pairs", "=1,2", "pairs=", "pairs=[1"])
def test_a_grid_without_key_or_values_is_refused(text):
    with pytest.raises(ValueError, match="--over takes key=a,b,c"):
        parse_grid([text])


def test_keys_that_end_alike_keep_more_of_their_names(small_recipe):
    names = [
        variant.name
        for key, value in (
            ("pretrain.lr", 1),
            ("finetune.lr", 1),
            ("encoder.dim", 32),
            ("finetune.augment", {"flip": 0.5}),  # a whole section
        )
        for variant in swept(small_recipe, {key: [value]})
    ]
    assert names == [
        *("pretrain.lr=1", "finetune.lr=1", "dim=32"),
        "finetune.augment=_flip_0.5",
    ]


@pytest.mark.parametrize(
    ("text", "name"), [("pairs=10", "pairs=10"), ("a/b c", "a_b_c"), ("[1, 2]", "1_2")]
)
def test_names_of_variants_become_names_of_files(text, name):
    assert file_name(text) == name


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ({"methods": ["simclr"]}, "curve.methods.0 is 'simclr'; give 'part', "),
        ({"sizes": [0]}, "curve.sizes.0 is 0; give 1 or more"),
        (
            {"objectives": [{"name": "mae", "wrong": 1}]},
            "curve.objectives.0: unknown key .wrong.; allowed: decoder_depth",
        ),
    ],
)
def test_a_wrong_curve_is_refused_with_what_is_allowed(small_recipe, curve, message):
    with pytest.raises(ValueError, match=message):
        resolve({**small_recipe, "curve": curve}, (), "recipe small")


def test_values_of_a_list_count_once(small_recipe):
    small_recipe["curve"] = {"sizes": [5, 1, 5], "methods": ["mae", "mae"]}
    settings = Recipe.model_validate(small_recipe).curve
    assert (settings.sizes, settings.methods) == ([5, 1], ["mae"])


def test_the_unit_of_an_earlier_recipe_is_left_out(small_recipe):
    small_recipe["curve"] = {"sizes": [5], "unit": "per_class"}
    assert "unit" not in Recipe.model_validate(small_recipe).curve.model_dump()


@pytest.mark.parametrize(
    "key", ["split.test_persons", "data.store", "seed", "finetune.subjects", "finetune.context"]
)
def test_what_all_methods_share_cannot_be_changed_for_one(key):
    with pytest.raises(ValueError, match=f"{key} of mae cannot be changed: all methods share"):
        CurveSettings(changes={"mae": {key: 5}})
