"""What a fine-tuning is to be: on whom, from which run, by which settings, under which name."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from biopart.data import Source
from biopart.experiment.experiment import Experiment
from biopart.experiment.stored import method_of
from biopart.experiment.weights import Weights, read_run, read_weights
from biopart.recipe import SUPERVISED, ComputeSettings, FineTuning, Recipe
from biopart.run import Run
from biopart.store.seen import Seen


@dataclass(frozen=True)
class Plan:
    """What is to be fine-tuned: on whom, from which run (None = from scratch), how."""

    experiment: Experiment
    origin: Run | None
    subjects: int
    seed: int
    compute: ComputeSettings
    dry_run: bool

    @cached_property
    def persons(self) -> tuple[str, ...]:
        """Persons whose labels are used."""
        return self.experiment.split.subset(self.subjects, self.seed)

    @cached_property
    def settings(self) -> FineTuning:
        """The settings, with those of the pretraining's method where they are left open.

        Weights that are not of a run, whose method is not known, are taken for the recipe's, but
        keep their positions where they have any.
        """
        recipe = self.experiment.recipe
        if self.origin is None:  # layer decay would hold back new weights
            fixed = {"layer_decay": 1.0, "keep_positions": False}
            return recipe.finetune.of_method(SUPERVISED).model_copy(update=fixed)
        where = recipe.finetune.weights
        method = method_of(where) if where is not None else None
        settings = recipe.finetune.of_method((method or recipe.pretrain.objective).protocol)
        unknown = where is not None and method is None and recipe.finetune.keep_positions is None
        if unknown and settings.position in ("learned", "sincos"):
            assert self.weights is not None
            keep = {"keep_positions": self.weights.has_positions}
            settings = settings.model_copy(update=keep)
        return settings

    @property
    def recipe(self) -> Recipe:
        """The recipe with settings of fine-tuning that are all decided."""
        return self.experiment.recipe.model_copy(update={"finetune": self.settings})

    @cached_property
    def weights(self) -> Weights | None:
        """The weights that the encoder starts from; None = from scratch.

        Raises ValueError where weights are named for a training from scratch.
        """
        where = self.experiment.recipe.finetune.weights
        if self.origin is None:
            if where is not None:
                raise ValueError("--from-scratch and finetune.weights cannot be combined; give one")
            return None
        return read_weights(where) if where is not None else read_run(self.origin)

    @cached_property
    def seen_before(self) -> Seen:
        """Whom the encoder has learnt from already."""
        return Seen() if self.weights is None else self.weights.about.seen

    @property
    def context(self) -> int:
        """Windows L that a decision looks at."""
        return self.experiment.recipe.finetune.context

    @property
    def learnt_from(self) -> list[str]:
        """Persons whose labels are used, to train or to stop early, sorted."""
        return sorted({*self.persons, *self.experiment.split.validation})

    @property
    def seen(self) -> Seen:
        """Whose labels or signals the model has learnt from in the end."""
        return self.experiment.seen(self.learnt_from) | self.seen_before

    def source(self, persons: Sequence[str], *, keep_bad: bool = False, context: int = 1) -> Source:
        """Return labelled windows of persons; one batch of them in a dry run."""
        source = self.experiment.source(persons, labelled=True, keep_bad=keep_bad, context=context)
        return source.thinned(self.experiment.recipe.finetune.batch) if self.dry_run else source

    def single_window(self, before: Recipe) -> "Plan":
        """Return the plan of the classifier that looks at a single window."""
        settings = {"context": 1, "sequence": before.finetune.sequence}
        recipe = self.experiment.recipe
        changed = recipe.model_copy(
            update={"finetune": recipe.finetune.model_copy(update=settings)}
        )
        return replace(self, experiment=replace(self.experiment, recipe=changed))


def own_compute(recipe: Recipe, origin: Run, changes: Sequence[str]) -> ComputeSettings:
    """Return the machine's settings: the pretraining's choices unless they are set anew."""
    processes = ("compute.devices", "compute.nodes", "compute.strategy")
    elsewhere = ("compute.loggers", *processes)
    of_machine = [change for change in changes if not change.startswith(elsewhere)]
    if any(change.startswith("compute") for change in of_machine):
        return recipe.compute
    try:
        chosen = origin.provenance()["chosen"]
    except FileNotFoundError:
        return recipe.compute
    kept = {"precision": chosen["precision"]}
    if not any(change.startswith(processes) for change in changes):
        kept["threads"] = chosen["threads"]
    return recipe.compute.model_copy(update=kept)


def finetuning_name(plan: Plan, before: Recipe) -> str:
    """Name a fine-tuning; settings that differ from the run's recipe give it a mark of its own."""
    name = f"s{plan.subjects}-seed{plan.seed}"
    values = [
        recipe.model_dump(mode="json", exclude={"compute", "seed"})
        for recipe in (before, plan.experiment.recipe)
    ]
    if values[0] != values[1]:
        name += "-" + hashlib.sha256(json.dumps(values[1]).encode()).hexdigest()[:6]
    return name if plan.origin is not None else f"scratch-{name}"


def context_name(plan: Plan, single_name: str, before: Recipe) -> str:
    """Name a fine-tuning with context after the one without, and mark settings of its own."""
    settings = plan.experiment.recipe.finetune.sequence
    mark = ""
    if settings != before.finetune.sequence:
        mark = "-" + hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:6]
    return f"{single_name}-context{plan.context}{mark}"
