"""Fine-tune a pretrained encoder on the labels of a few persons, or train one from scratch."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from biopart.compute import open_fabric
from biopart.experiment import Plan, open_experiment, stored_recipe
from biopart.experiment.plan import context_name, finetuning_name, own_compute
from biopart.recipe import Recipe, resolve
from biopart.run import Run, as_run
from biopart.settings import combinations
from biopart.tasks.classify import Classification
from biopart.tasks.context import ContextClassification
from biopart.tasks.runner import Task, Trained, train_task
from biopart.train import Ranks, Row, check_loggers, check_processes, logging_to


def finetune(
    run: Run | Path | str,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    from_scratch: bool = False,
    changes: Sequence[str] = (),
    store: Path | None = None,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Fine-tune a run's encoder and score it, once, on the test persons.

    If the recipe has ``finetune.context`` above 1, a transformer over neighbouring windows is
    trained on top of the classifier of single windows, whose own fine-tuning is kept next to it.
    If it has ``finetune.search``, every combination of the values is tried; the one with the best
    kappa on validation persons is kept and scored on the test persons.

    Parameters
    ----------
    run : Run or path
        A pretraining; with ``from_scratch`` only its recipe is used.
    subjects, seed : int, optional
        Number of labelled persons and the seed that draws them; by default the recipe's.
    from_scratch : bool
        Train the supervised baseline, a new encoder.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    store : Path, optional
        The store, if it has moved since the run was started.
    dry_run : bool
        Do everything on one batch, in a temporary folder.
    report : callable
        Called with every logged row.

    Returns
    -------
    Run
        The fine-tuning's folder, with model.safetensors and result.json.

    Raises
    ------
    ValueError
        If fewer than two classes remain, or a search has no validation persons.
    FileNotFoundError
        If the run has no weights.
    """
    origin = as_run(run).pretrained()
    recipe = stored_recipe(origin, changes, store)
    check_loggers(recipe)
    if dry_run:
        short = recipe.finetune.model_copy(update={"steps": 1})
        unlogged = recipe.compute.model_copy(update={"loggers": []})
        recipe = recipe.model_copy(update={"finetune": short, "compute": unlogged})
    plan = Plan(
        open_experiment(recipe),
        None if from_scratch else origin,
        recipe.finetune.subjects if subjects is None else subjects,
        recipe.seed if seed is None else seed,
        own_compute(recipe, origin, changes),
        dry_run,
    )
    before = stored_recipe(origin, store=store)
    tuning = Tuning(plan, report)
    with tuning.ranks.temporary() as folder:
        root = (folder if dry_run else origin.path) / "finetune"
        if recipe.finetune.search:
            plan, target = best_of(tuning, plan, root, before)
        else:
            single = plan.single_window(before)
            target = Run(root / finetuning_name(single, before))
            if plan.context == 1 or not tuning.is_done(target):
                tuning.run(Classification(single), plan, target)
        if plan.context > 1:
            single_run, target = target, Run(root / context_name(plan, target.path.name, before))
            more = {} if dry_run else {k: v for k, v in single_run.result().items() if k == "tried"}
            tuning.run(ContextClassification(plan, single_run), plan, target, **more)
    return target


class Tuning:
    """The processes that fine-tune together, with one device and precision for all that they do.

    Parameters
    ----------
    plan : Plan
        What is to be fine-tuned; the other plans of a search have its machine.
    report : callable
        Called with every logged row.
    """

    def __init__(self, plan: Plan, report: Callable[[Row], None]) -> None:
        position, cohort = plan.settings.position, plan.experiment.cohort
        self.fabric = open_fabric(
            plan.compute, lambda: plan.experiment.encoder(position, 0), share=True
        )
        check_processes(self.fabric, plan.recipe, "finetune.batch", cohort.fingerprint)
        if plan.context > 1:
            key = "finetune.sequence.batch"
            check_processes(self.fabric, plan.recipe, key, cohort.fingerprint)
        self.ranks, self.report, self.fingerprint = Ranks(self.fabric), report, cohort.fingerprint

    def train(self, task: Task, plan: Plan, target: Run) -> Trained:
        """Train a task in its folder."""
        settings = plan.settings.model_copy(update={"subjects": plan.subjects})
        drawn = plan.recipe.model_copy(update={"finetune": settings, "seed": plan.seed})
        with ExitStack() as stack:
            log = self.ranks.enter(stack, lambda: logging_to(drawn, target, self.report))
            return train_task(task, target, self.fabric, log or self.report)

    def run(self, task: Task, plan: Plan, target: Run, **more: Any) -> None:
        """Train a task and, except in a dry run, score it; ``more`` goes into its result."""
        trained = self.train(task, plan, target)
        if not plan.dry_run:
            trained.score(**more)

    def is_done(self, target: Run) -> bool:
        """Whether a finished fine-tuning on the same data exists."""

        def looked() -> bool:
            done = target.model.is_file() and (target.path / "result.json").is_file()
            return done and target.provenance()["store_sha256"] == self.fingerprint

        return self.ranks.from_first(looked)


def best_of(tuning: Tuning, plan: Plan, root: Path, before: Recipe) -> tuple[Plan, Run]:
    """Fine-tune with every plan of a search; keep and score the best on validation persons."""
    if not plan.experiment.split.validation:
        raise ValueError(
            "finetune.search needs validation persons to score on; set split.validation_persons "
            "above 0"
        )
    tried: list[dict[str, Any]] = []
    best: tuple[Plan, Trained] | None = None
    target = Run(root / finetuning_name(plan.single_window(before), before))
    root.mkdir(parents=True, exist_ok=True)
    with tuning.ranks.temporary(root, f".{target.path.name}.") as beside:
        for number, (chosen, candidate) in enumerate(candidates(plan)):
            task = Classification(candidate.single_window(before))
            trained = tuning.train(task, candidate, Run(beside / str(number)))
            tried.append({**chosen, "validation_kappa": trained.validation})
            if best is None or trained.validation > best[1].validation:
                best = candidate, trained
        assert best is not None
        tuning.ranks.from_first(partial(replace_folder, target.path, best[1].run.path))
    if not plan.dry_run:
        replace(best[1], run=target).score(tried=tried)
    return best[0], target


def replace_folder(path: Path, by: Path) -> None:
    """Rename a folder to a path where another one may be."""
    if path.exists():
        shutil.rmtree(path)
    by.rename(path)


def candidates(plan: Plan) -> Iterator[tuple[dict[str, Any], Plan]]:
    """Yield every combination of values of a search, and the plan that it makes."""
    recipe = plan.experiment.recipe
    values = recipe.model_dump(mode="json")
    values["finetune"]["search"] = {}
    search = {f"finetune.{key}": tried for key, tried in recipe.finetune.search.items()}
    for chosen, changes in combinations(search):
        changed = resolve(deepcopy(values), changes, "finetune.search")
        yield chosen, replace(plan, experiment=replace(plan.experiment, recipe=changed))
