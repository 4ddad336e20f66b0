"""What a curve consists of: a recipe per method, the subsets, and what is worth knowing of them."""

from collections.abc import Sequence

from pydantic import TypeAdapter

from biopart.experiment.classes import check_test, class_holders, who_has_it
from biopart.experiment.experiment import Experiment
from biopart.recipe import Method, Objective, PartSettings, Recipe
from biopart.studies.cells import Plan, Variant
from biopart.studies.curve.words import WORDS


def plan_curve(recipe: Recipe, experiment: Experiment) -> tuple[Plan, list[str]]:
    """Lay out the cells of a recipe's curve, and say what a reader should know of them.

    Sizes above what is labelled are taken as all that is labelled. Besides the methods, a linear
    probe on an untrained encoder (``untrained``) and logistic regression on band powers
    (``band-powers``), or on images averaged to few pixels (``pixels``), are fitted on every subset.

    Raises
    ------
    ValueError
        If the test persons have fewer than two classes, or ``curve.unit`` is not the store's.
    """
    unit = "per_class" if experiment.cohort.kind.one_label else "person"
    if recipe.curve.unit != unit:
        raise ValueError(
            f"curve.unit is {recipe.curve.unit}; of the store {experiment.cohort.path} sizes count "
            f"{WORDS[unit].labels}, so set curve.unit={unit}"
        )
    test = experiment.source(experiment.split.test, labelled=True, keep_bad=True)
    notes = [*experiment.notes, *check_test(experiment, test)]
    there = experiment.split.most
    sizes = tuple(dict.fromkeys(min(size, there) for size in sorted(recipe.curve.sizes)))
    notes += [
        f"{size} labelled {WORDS[unit].labels} were asked for; {there} are left beside test and "
        "validation, all of them are taken"
        for size in recipe.curve.sizes
        if size > there
    ]
    seeds = tuple(range(recipe.seed, recipe.seed + recipe.curve.repeats))
    skipped, said = look_at_subsets(experiment, sizes, seeds)
    plan = Plan((*variants_of(recipe), *baselines_of(recipe, experiment)), sizes, seeds, skipped)
    return plan, notes + said


def variants_of(recipe: Recipe) -> tuple[Variant, ...]:
    """Return the methods of a recipe's curve."""
    return tuple(
        Variant(
            name, method_recipe(recipe, name), "scratch" if is_supervised(name) else "pretrained"
        )
        for name in recipe.curve.methods
    )


def baselines_of(recipe: Recipe, experiment: Experiment) -> tuple[Variant, ...]:
    """Return what is fitted without training a network."""
    without = Variant("band-powers", recipe, "band_powers")
    if experiment.cohort.kind.one_label:
        without = Variant("pixels", recipe, "pixels")
    return Variant("untrained", recipe, "untrained_mean"), without


def is_supervised(method: Method) -> bool:
    """Tell whether a method does without pretraining."""
    return method.startswith("supervised")


def method_recipe(recipe: Recipe, method: Method) -> Recipe:
    """Return a recipe with what a method changes of it: its objective, or how it is fine-tuned."""
    if is_supervised(method):
        # Layer decay is for weights that were pretrained; it would hold back new ones.
        changes: dict[str, object] = {"layer_decay": 1.0}
        if method == "supervised-nopos":
            changes["position"] = "none"
        tuning = recipe.finetune.model_copy(update=changes)
        return recipe.model_copy(update={"finetune": tuning})
    objective = objective_of(recipe, method.removesuffix("-grid"))
    if method == "part-grid":
        assert isinstance(objective, PartSettings)
        objective = objective.model_copy(update={"on_grid": True, "scale": (1.0, 1.0)})
    pretraining = recipe.pretrain.model_copy(update={"objective": objective})
    return recipe.model_copy(update={"pretrain": pretraining})


def objective_of(recipe: Recipe, name: str) -> Objective:
    """Return an objective's settings: the recipe's own, those of its curve, else the defaults."""
    for settings in (recipe.pretrain.objective, *recipe.curve.objectives):
        if settings.name == name:
            return settings
    default: Objective = TypeAdapter(Objective).validate_python({"name": name})
    return default


def look_at_subsets(
    experiment: Experiment, sizes: Sequence[int], seeds: Sequence[int]
) -> tuple[frozenset[tuple[int, int]], list[str]]:
    """Find what drawn subsets lack.

    Returns the (size, seed) whose persons have fewer than two classes, and sentences that name
    the classes lacking elsewhere with the persons who have them. ValueError where no subset has
    two classes.
    """
    split = experiment.split
    holders = class_holders(experiment.source(split.finetune, labelled=True))
    lacking: dict[str, list[str]] = {name: [] for name in holders}
    skipped, said = set(), []
    for size in sizes:
        for seed in seeds:
            drawn = split.subset(size, seed)
            absent = [name for name, persons in holders.items() if not set(drawn) & set(persons)]
            if len(holders) - len(absent) < 2:
                skipped.add((size, seed))
                only = ", ".join(set(holders) - set(absent)) or "no label"
                said.append(
                    f"the subset s{size}-seed{seed} ({', '.join(drawn)}) has only {only}: left out"
                )
                continue
            for name in absent:
                lacking[name].append(f"s{size}-seed{seed}")
    if len(skipped) == len(sizes) * len(seeds):
        raise ValueError(
            "no subset of persons drawn has two classes; draw more persons (--sizes of a curve, "
            "finetune.subjects of a sweep) or take another split.seed"
        )
    said += [
        f"no window of {name} in the subsets {', '.join(subsets)}; {who_has_it(holders[name])}"
        for name, subsets in lacking.items()
        if subsets
    ]
    return frozenset(skipped), said
