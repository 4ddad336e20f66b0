"""The plan of a study: variants x seeds x numbers of labelled persons, and notes on the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from biopart.experiment.classes import check_test, class_holders, holders_text
from biopart.experiment.experiment import Experiment, open_experiment
from biopart.recipe import Recipe
from biopart.studies.compare.variants import Variant, baselines_of, methods_of, settings_of

StudyKind = Literal["curve", "sweep"]


@dataclass(frozen=True)
class Training:
    """A pretraining (size None), or a fine-tuning or baseline on ``size`` persons.

    Examples
    --------
    >>> Training("mae", 3).name, Training("mae", 3, 10).name
    ('mae-seed3', 'mae-s10-seed3')
    """

    variant: str
    seed: int
    size: int | None = None

    @property
    def run(self) -> str:
        """Name of the run folder that the training belongs to."""
        return f"{self.variant}-seed{self.seed}"

    @property
    def name(self) -> str:
        """Name of the training's outcome."""
        return self.run if self.size is None else f"{self.variant}-s{self.size}-seed{self.seed}"


Outcomes = Mapping[Training, Mapping[str, Any]]
"""The outcome of every finished training: ``failed`` with a reason, or ``result`` and others."""


@dataclass(frozen=True)
class Plan:
    """All trainings of a study: every variant with every seed and size."""

    variants: tuple[Variant, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    skipped: frozenset[tuple[int, int]] = frozenset()
    """Sizes and seeds whose persons have fewer than two classes: no training there."""

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """Trainings in the order of work: one seed after the other, pretrainings first."""
        trainings = []
        for seed in self.seeds:
            trainings += [Training(v.name, seed) for v in self.variants if v.kind == "pretrained"]
            sizes = [size for size in self.sizes if (size, seed) not in self.skipped]
            trainings += [Training(v.name, seed, size) for size in sizes for v in self.variants]
        return tuple(trainings)

    def variant(self, training: Training) -> Variant:
        """Return the variant of a training."""
        return next(v for v in self.variants if v.name == training.variant)

    def needs(self, training: Training) -> Training | None:
        """Return the pretraining that a training starts from, or None."""
        tuned = training.size is not None and self.variant(training).kind == "pretrained"
        return Training(training.variant, training.seed) if tuned else None

    def reason(self, training: Training, outcomes: Outcomes) -> str | None:
        """Return why a training, or the pretraining that it needs, failed."""
        if training in outcomes:
            return outcomes[training].get("failed")
        needed = self.needs(training)
        why = None if needed is None else self.reason(needed, outcomes)
        return None if why is None else f"its pretraining failed: {why}"

    def left(self, outcomes: Outcomes) -> list[Training]:
        """Return the trainings that are still to be done, in the order of work."""
        return [
            training
            for training in self.trainings
            if training not in outcomes and self.reason(training, outcomes) is None
        ]

    def ready(self, outcomes: Outcomes) -> list[Training]:
        """Return the trainings that can start: the pretraining that they need is finished."""
        return [
            training
            for training in self.left(outcomes)
            if (needed := self.needs(training)) is None or needed in outcomes
        ]

    def failed(self, outcomes: Outcomes) -> dict[str, str]:
        """Return the reasons of the trainings that failed, by name."""
        reasons = {training.name: self.reason(training, outcomes) for training in self.trainings}
        return {name: why for name, why in reasons.items() if why is not None}


def lay_out(kind: StudyKind, recipe: Recipe, experiment: Experiment) -> tuple[Plan, list[str]]:
    """Lay out the trainings of a recipe's curve or sweep, and notes for its reader.

    Sizes above the number of labelled persons take all of them. Besides its methods, a curve fits
    on every subset a linear probe on an untrained encoder (``untrained``) and logistic regression
    on band powers (``band-powers``), or on images averaged to few pixels (``pixels``).

    Raises
    ------
    ValueError
        If the test persons have fewer than two classes, or no subset has two.
    """
    if kind == "curve":
        images = experiment.cohort.kind.one_label
        variants = (*methods_of(recipe), *baselines_of(recipe, images=images))
        sizes, repeats = sorted(recipe.curve.sizes), recipe.curve.repeats
    else:
        variants = settings_of(recipe)
        sizes, repeats = [recipe.finetune.subjects], recipe.sweep.repeats
    rounds = recipe.split.folds or 1
    seeds = range(recipe.seed * rounds, (recipe.seed + repeats) * rounds)
    if any(v.recipe.finetune.search for v in variants) and not experiment.split.validation:
        raise ValueError(
            "a search needs validation persons to choose by; set split.validation_persons above 0"
        )
    folds = folds_of(recipe, experiment)
    notes = list(experiment.notes)
    for fold in folds:
        test = fold.source(fold.split.test, labelled=True, keep_bad=True)
        notes += check_test(fold, test)
    notes += [note for size in sizes for note in experiment.split.shortage(size)]
    most = min(fold.split.most for fold in folds)
    taken = tuple(dict.fromkeys(min(size, most) for size in sizes))
    experiments = {seed: folds[place % len(folds)] for place, seed in enumerate(seeds)}
    skipped, lacking = check_subsets(experiments, taken)
    return Plan(variants, taken, tuple(seeds), skipped), list(dict.fromkeys(notes + lacking))


def folds_of(recipe: Recipe, experiment: Experiment) -> list[Experiment]:
    """Return the experiment of every fold of a cross-validation, or the only one."""
    if recipe.split.folds is None:
        return [experiment]
    variant = Variant(recipe.name, recipe)
    return [open_experiment(variant.seeded(fold)) for fold in range(recipe.split.folds)]


def check_subsets(
    experiments: Mapping[int, Experiment], sizes: Sequence[int]
) -> tuple[frozenset[tuple[int, int]], list[str]]:
    """Find the classes that subsets of persons lack, of the experiment of every seed.

    Returns the (size, seed) whose persons have fewer than two classes, and notes that name the
    classes lacking elsewhere with the persons who have them. ValueError where no subset has two
    classes.
    """
    lacking: dict[str, list[str]] = {}
    skipped, notes = set(), []
    all_holders: dict[str, list[str]] = {}
    for seed, experiment in experiments.items():
        split = experiment.split
        holders = class_holders(experiment.source(split.finetune, labelled=True))
        for name, persons in holders.items():
            all_holders[name] = sorted({*all_holders.get(name, ()), *persons})
        for size in sizes:
            drawn, subset = split.subset(size, seed), f"s{size}-seed{seed}"
            absent = [name for name, persons in holders.items() if not set(drawn) & set(persons)]
            if len(holders) - len(absent) < 2:
                skipped.add((size, seed))
                only = ", ".join(set(holders) - set(absent)) or "no label"
                notes.append(f"the subset {subset} ({', '.join(drawn)}) has only {only}: left out")
                continue
            for name in absent:
                lacking.setdefault(name, []).append(subset)
    if len(skipped) == len(sizes) * len(experiments):
        raise ValueError(
            "no subset of persons has two classes; draw more persons (--sizes of a curve, "
            "finetune.subjects of a sweep) or choose another split.seed"
        )
    notes += [
        f"no window of {name} in the subsets {', '.join(subsets)}; "
        f"{holders_text(all_holders[name])}"
        for name, subsets in lacking.items()
    ]
    return frozenset(skipped), notes
