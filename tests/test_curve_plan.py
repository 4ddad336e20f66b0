import pytest

from biopart.experiment.experiment import open_experiment
from biopart.recipe import MaeSettings, PartSettings, Recipe
from biopart.studies.curve.plan import (
    look_at_subsets,
    method_recipe,
    objective_of,
    plan_curve,
    variants_of,
)

METHODS = ["part", "part-grid", "mae", "mp3", "droppos", "supervised", "supervised-nopos"]


@pytest.fixture
def recipe(small_recipe):
    small_recipe["curve"] = {
        "methods": METHODS,
        "sizes": [1, 3],
        "repeats": 2,
        "objectives": [{"name": "mae", "decoder_dim": 32, "decoder_heads": 2}],
    }
    return Recipe.model_validate(small_recipe)


def test_methods_differ_in_objective_positions_or_layer_decay_alone(recipe):
    for variant in variants_of(recipe):
        left, right = (r.model_dump() for r in (recipe, variant.recipe))
        left["pretrain"].pop("objective")
        right["pretrain"].pop("objective")
        expected = "none" if variant.name == "supervised-nopos" else "learned"
        assert right["finetune"].pop("position") == expected
        left["finetune"].pop("position")
        decay = right["finetune"].pop("layer_decay")  # is for pretrained weights
        kept = left["finetune"].pop("layer_decay")
        assert decay == (1.0 if variant.kind == "scratch" else kept)
        assert left == right


def test_each_method_has_its_objective(recipe):
    names = {v.name: v.recipe.pretrain.objective.name for v in variants_of(recipe)[:5]}
    assert names == {"part": "part", "part-grid": "part", "mae": "mae", "mp3": "mp3"} | {
        "droppos": "droppos"
    }
    assert method_recipe(recipe, "part").pretrain.objective == recipe.pretrain.objective
    assert method_recipe(recipe, "part-grid").pretrain.objective == PartSettings(
        patches=8, pairs=16, position_hint=0.5, on_grid=True
    )


def test_settings_of_an_objective_come_from_the_curve_else_from_its_defaults(recipe):
    assert objective_of(recipe, "mae") == MaeSettings(decoder_dim=32, decoder_heads=2)
    assert objective_of(recipe, "droppos").decoder_dim == 512


def test_changing_the_method_changes_no_split(recipe):
    splits = {open_experiment(variant.recipe).split for variant in variants_of(recipe)}
    assert len(splits) == 1


def test_subsets_are_nested_and_hold_no_person_of_another_set(recipe):
    split = open_experiment(recipe).split
    for seed in range(5):
        for small, large in ((1, 2), (2, 4)):
            assert set(split.subset(small, seed)) < set(split.subset(large, seed))
        assert not set(split.subset(4, seed)) & {*split.test, *split.validation}


def test_more_persons_than_are_labelled_are_all_of_them_with_a_note(recipe):
    settings = recipe.curve.model_copy(update={"sizes": [1, 99, 50]})
    recipe = recipe.model_copy(update={"curve": settings})
    plan, notes = plan_curve(recipe, open_experiment(recipe))
    assert plan.sizes == (1, 4)
    assert sum("4 are left beside test and validation" in note for note in notes) == 2


def test_a_class_that_a_subset_lacks_is_named_with_the_persons_who_have_it(recipe):
    experiment = open_experiment(recipe)
    split = experiment.split
    assert "p8" not in {*split.test, *split.validation}
    seeds = [seed for seed in range(20) if "p8" not in split.subset(1, seed)][:2]
    skipped, said = look_at_subsets(experiment, (1,), seeds)
    assert skipped == frozenset()
    subsets = ", ".join(f"s1-seed{seed}" for seed in seeds)
    assert f"no window of N2 in the subsets {subsets}; p8 has it" in said


def test_a_subset_of_one_class_is_left_out(recipe, monkeypatch):
    experiment = open_experiment(recipe)
    first = experiment.split.subset(1, 0)[0]
    holders = {"W": list(experiment.split.finetune), "N1": [], "N2": [], "N3": [], "R": []}
    others = [p for p in experiment.split.finetune if p != first]
    monkeypatch.setattr(
        "biopart.studies.curve.plan.class_holders", lambda source: holders | {"N1": others}
    )
    skipped, said = look_at_subsets(experiment, (1, 4), (0,))
    assert skipped == {(1, 0)}
    assert f"the subset s1-seed0 ({first}) has only W: left out" in said
    monkeypatch.setattr("biopart.studies.curve.plan.class_holders", lambda source: holders)
    with pytest.raises(ValueError, match="no subset of persons drawn has two classes"):
        look_at_subsets(experiment, (1, 4), (0,))


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ({"methods": ["simclr"]}, "curve.methods.0: Input should be 'part'"),
        ({"sizes": [0]}, "curve.sizes.0: Input should be greater than or equal to 1, got 0"),
        (
            {"objectives": [{"name": "mae", "wrong": 1}]},
            "curve.objectives.0.mae: unknown key .wrong.; allowed: decoder_depth",
        ),
    ],
)
def test_a_wrong_curve_is_refused_with_what_is_allowed(small_recipe, curve, message):
    from biopart.recipe import resolve

    with pytest.raises(ValueError, match=message):
        resolve({**small_recipe, "curve": curve}, (), "recipe small")


def test_values_of_a_list_count_once(small_recipe):
    small_recipe["curve"] = {"sizes": [5, 1, 5], "methods": ["mae", "mae"]}
    settings = Recipe.model_validate(small_recipe).curve
    assert (settings.sizes, settings.methods) == ([5, 1], ["mae"])
