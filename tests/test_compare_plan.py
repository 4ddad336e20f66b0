import pytest

from biopart.experiment.experiment import open_experiment
from biopart.recipe import Recipe
from biopart.studies.compare.plan import Plan, Training, check_subsets, lay_out
from biopart.studies.compare.variants import Variant


def plan_of(*kinds, sizes=(1, 2), seeds=(0, 1), skipped=frozenset()):
    variants = tuple(Variant(f"v{i}", Recipe(), kind) for i, kind in enumerate(kinds))
    return Plan(variants, sizes, seeds, skipped)


@pytest.fixture
def recipe(small_recipe):
    small_recipe["curve"] = {"methods": ["part", "supervised"], "sizes": [1, 3], "repeats": 2}
    small_recipe["sweep"] = {"over": {"pretrain.objective.pairs": [4, 16]}, "repeats": 2}
    return Recipe.model_validate(small_recipe)


def test_trainings_come_seed_by_seed_pretrainings_first():
    plan = plan_of("pretrained", "scratch", sizes=(1, 5), seeds=(3,))
    names = [training.name for training in plan.trainings]
    assert names == ["v0-seed3", "v0-s1-seed3", "v1-s1-seed3", "v0-s5-seed3", "v1-s5-seed3"]


def test_subsets_that_can_teach_nothing_have_no_trainings():
    plan = plan_of("scratch", skipped=frozenset({(1, 0)}))
    names = [training.name for training in plan.trainings]
    assert names == ["v0-s2-seed0", "v0-s1-seed1", "v0-s2-seed1"]


def test_a_fine_tuning_waits_for_its_pretraining():
    plan = plan_of("pretrained", "scratch", seeds=(0,))
    names = [training.name for training in plan.ready({})]
    assert names == ["v0-seed0", "v1-s1-seed0", "v1-s2-seed0"]
    done = {Training("v0", 0): {"seconds": 1.0}}
    assert plan.ready(done) == plan.left(done) == list(plan.trainings[1:])


def test_a_failed_pretraining_closes_its_fine_tunings():
    plan = plan_of("pretrained", sizes=(1,), seeds=(0,))
    outcomes = {Training("v0", 0): {"failed": "ValueError: NaN"}}
    assert plan.left(outcomes) == []
    assert plan.failed(outcomes) == {
        "v0-seed0": "ValueError: NaN",
        "v0-s1-seed0": "its pretraining failed: ValueError: NaN",
    }


def test_a_curve_has_its_methods_and_baselines_a_sweep_its_values(recipe):
    experiment = open_experiment(recipe)
    curve, _ = lay_out("curve", recipe, experiment)
    names = [variant.name for variant in curve.variants]
    assert names == ["part", "supervised", "untrained", "band-powers"]
    assert (curve.sizes, curve.seeds) == ((1, 3), (0, 1))
    sweep, _ = lay_out("sweep", recipe, experiment)
    assert [variant.name for variant in sweep.variants] == ["pairs=4", "pairs=16"]
    assert (sweep.sizes, sweep.seeds) == ((3,), (0, 1))  # finetune.subjects
    assert len({open_experiment(variant.recipe).split for variant in sweep.variants}) == 1


def test_subsets_are_nested_and_hold_no_person_of_another_set(recipe):
    split = open_experiment(recipe).split
    for seed in range(5):
        for small, large in ((1, 2), (2, 4)):
            assert set(split.subset(small, seed)) < set(split.subset(large, seed))
        assert not set(split.subset(4, seed)) & {*split.test, *split.validation}


def test_more_persons_than_are_labelled_are_all_of_them_with_a_note(recipe):
    settings = recipe.curve.model_copy(update={"sizes": [1, 99, 50]})
    recipe = recipe.model_copy(update={"curve": settings})
    plan, notes = lay_out("curve", recipe, open_experiment(recipe))
    assert plan.sizes == (1, 4)
    assert sum("only 4" in n or "but 4 labelled persons remain" in n for n in notes) == 2


def test_a_class_that_a_subset_lacks_is_named_with_the_persons_who_have_it(recipe):
    experiment = open_experiment(recipe)
    split = experiment.split
    assert "p8" not in {*split.test, *split.validation}
    seeds = [seed for seed in range(20) if "p8" not in split.subset(1, seed)][:2]
    skipped, notes = check_subsets(dict.fromkeys(seeds, experiment), (1,))
    assert skipped == frozenset()
    subsets = ", ".join(f"s1-seed{seed}" for seed in seeds)
    assert f"no window of N2 in the subsets {subsets}; p8 has it" in notes


def test_a_subset_of_one_class_is_left_out(recipe, monkeypatch):
    experiment = open_experiment(recipe)
    first = experiment.split.subset(1, 0)[0]
    holders = {"W": list(experiment.split.finetune), "N1": [], "N2": [], "N3": [], "R": []}
    others = [p for p in experiment.split.finetune if p != first]
    module = "biopart.studies.compare.plan.class_holders"
    monkeypatch.setattr(module, lambda source: holders | {"N1": others})
    skipped, notes = check_subsets({0: experiment}, (1, 4))
    assert skipped == {(1, 0)}
    assert f"the subset s1-seed0 ({first}) has only W: left out" in notes
    monkeypatch.setattr(module, lambda source: holders)
    with pytest.raises(ValueError, match="no subset of persons has two classes"):
        check_subsets({0: experiment}, (1, 4))


def test_every_seed_of_a_cross_validation_tests_the_next_fold(recipe):
    split = recipe.split.model_copy(update={"folds": 4, "validation_persons": 1})
    curve = recipe.curve.model_copy(update={"repeats": 2, "sizes": [1, 99]})
    recipe = recipe.model_copy(update={"split": split, "curve": curve, "seed": 5})
    plan, _ = lay_out("curve", recipe, open_experiment(recipe))
    assert plan.seeds == tuple(range(20, 28))
    assert plan.sizes == (1, 5)  # 9 persons: at most 3 in the test, 1 in the validation
    tested = {}
    for seed in plan.seeds:
        seeded = plan.variants[0].seeded(seed)
        assert seeded.seed == seed
        tested[seed] = open_experiment(seeded).split.test
    assert tested[20] == tested[24]
    everybody = sorted(name for seed in range(20, 24) for name in tested[seed])
    assert everybody == sorted(open_experiment(recipe).cohort.labelled)


def test_a_search_without_validation_persons_is_refused_before_any_training(recipe):
    split = recipe.split.model_copy(update={"validation_persons": 0})
    curve = recipe.curve.model_copy(update={"search": {"finetune.lr": [1e-3, 1e-4]}})
    recipe = recipe.model_copy(update={"split": split, "curve": curve})
    with pytest.raises(ValueError, match="a search needs validation persons to choose by"):
        lay_out("curve", recipe, open_experiment(recipe))
