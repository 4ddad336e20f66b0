"""Fine-tune a pretrained encoder on the labels of a few persons, or train one from scratch."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from biopart.compute import open_fabric
from biopart.experiment import Plan, open_experiment, stored_recipe
from biopart.experiment.plan import context_name, finetuning_name, own_compute
from biopart.run import Run, as_run
from biopart.tasks.classify import Classification
from biopart.tasks.context import ContextClassification
from biopart.tasks.runner import Task, run_task
from biopart.train import Row, check_loggers, logging_to


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

    Where the recipe has ``finetune.context`` above 1, a transformer over neighbouring windows is
    trained on top of the classifier of single windows, whose own fine-tuning stands beside it.

    Parameters
    ----------
    run : Run or path
        A pretraining; with ``from_scratch`` only its recipe is used.
    subjects, seed : int, optional
        Labelled persons and the seed that draws them; the recipe's by default.
    from_scratch : bool
        The supervised baseline: a new encoder.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    store : Path, optional
        Where the store lies now, if not where the run was begun.
    dry_run : bool
        Do everything on one batch, in a folder that is thrown away.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        The fine-tuning's folder, with model.safetensors and result.json.

    Raises
    ------
    ValueError
        If fewer than two classes remain.
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
    single_plan = plan.single_window(before)
    with tempfile.TemporaryDirectory() as folder:
        root = (Path(folder) if dry_run else origin.path) / "finetune"
        target = Run(root / finetuning_name(single_plan, before))
        if plan.context == 1 or not is_done(target, plan):
            _run(plan, Classification(single_plan), target, report)
        if plan.context > 1:
            single_run, target = target, Run(root / context_name(plan, target.path.name, before))
            _run(plan, ContextClassification(plan, single_run), target, report)
    return target


def is_done(target: Run, plan: Plan) -> bool:
    """Tell whether a fine-tuning is there already, of the same data."""
    done = target.model.is_file() and (target.path / "result.json").is_file()
    fingerprint = plan.experiment.cohort.fingerprint
    return done and target.provenance()["store_sha256"] == fingerprint


def _run(plan: Plan, task: Task, target: Run, report: Callable[[Row], None]) -> None:
    """Choose device and precision, and run the task."""
    recipe = plan.experiment.recipe
    position = recipe.finetune.position
    fabric = open_fabric(plan.compute, lambda: plan.experiment.encoder(position, 0))
    settings = recipe.finetune.model_copy(update={"subjects": plan.subjects})
    drawn = recipe.model_copy(update={"finetune": settings, "seed": plan.seed})
    with logging_to(drawn, target, report) as log:
        run_task(task, target, fabric, dry_run=plan.dry_run, report=log)
