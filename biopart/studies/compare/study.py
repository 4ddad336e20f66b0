"""A study from its recipe to its page: one path for curves and sweeps."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopart.experiment.experiment import Experiment, open_experiment
from biopart.recipe import Recipe, as_recipe
from biopart.run import origins
from biopart.studies.compare.estimate import duration_text, estimate, overview
from biopart.studies.compare.folder import StudyFolder, pretrained_by
from biopart.studies.compare.lengths import publish_lengths
from biopart.studies.compare.page import publish_curve, publish_sweep
from biopart.studies.compare.plan import Outcomes, Plan, StudyKind, Training, lay_out
from biopart.studies.compare.table import Comparison, Scored, joined_folds
from biopart.studies.compare.variants import STEPS_MARK
from biopart.studies.compare.work import Standing, Workers, train_all

SHOWN = (
    *("validation/loss", "validation/r2", "validation/r2_excess", "validation/accuracy"),
    *("validation/error", "validation/error_axis_0", "validation/error_axis_1"),
)


@dataclass(frozen=True)
class Study:
    """A recipe's curve or sweep, laid out on its data."""

    kind: StudyKind
    recipe: Recipe
    experiment: Experiment
    plan: Plan
    notes: list[str]

    @property
    def fingerprint(self) -> str:
        """Hash of the store."""
        return self.experiment.cohort.fingerprint


def compare(
    recipe: Recipe | Path | str,
    out: Path | None = None,
    *,
    jobs: int = 1,
    runs: Sequence[Path] = (),
    executor: Executor | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare methods over labelled persons, as ``biopart curve`` does.

    Parameters
    ----------
    recipe : Recipe, path or name of a shipped one
        Its ``curve`` section has methods, sizes and seeds.
    out : Path, optional
        Folder of the curve; ``curves/<name>`` by default. A stopped one is continued.
    jobs : int
        Trainings at a time.
    runs : sequence of Path
        Finished pretrainings to use instead of new ones.
    executor : Executor, optional
        Where trainings run, by default in processes of this machine. These are spawned: a
        script that calls this needs ``if __name__ == "__main__"``. A pool of threads must have one.
    say : callable
        Gets lines of progress.

    Returns
    -------
    dict
        ``summary``, ``differences``, ``verdict``, ``failed`` and the files written.

    Raises
    ------
    FileNotFoundError
        If there is no such recipe, or its store is missing.
    ValueError
        If the folder contains a curve of another recipe, another process works in it, or a run of
        ``runs`` does not fit.
    """
    loaded = as_recipe(recipe)
    folder = Path("curves") / loaded.name if out is None else out
    return run_study("curve", loaded, folder, Workers(jobs, executor, say=say), runs=runs)


def run_study(
    kind: StudyKind, recipe: Recipe, out: Path, workers: Workers, *, runs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Run or continue a study, and write its tables and its page.

    Returns
    -------
    dict
        ``failed``, ``missing``, ``notes``, ``files``; of a curve ``summary``, ``differences`` and
        ``verdict``, with ``gains``, ``over_scratch`` and ``over_untrained`` in place of
        ``differences`` where ``curve.lengths`` has steps; of a sweep ``table``.
    """
    study, folder = open_study(kind, recipe, workers), StudyFolder(out)
    finished = pretrained_by(study.plan, runs, study.fingerprint)
    with folder.held():
        folder.claim(kind, study.recipe, study.fingerprint)
        for note in (*study.notes, *folder.adopt(study.plan, finished)):
            workers.say(note)
        if workers.retry:
            failed = folder.forget_failures()
            workers.say(f"failed trainings to repeat: {', '.join(failed) or 'none'}")
        train_left(study, folder, workers)
        return publish_study(study, folder)


def announce(
    kind: StudyKind, recipe: Recipe, out: Path, workers: Workers, *, runs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return what ``run_study`` would do and how long it would take, from a few timed steps.

    Writes nothing; refuses what ``run_study`` would refuse. Finished trainings count with the time
    that they took; only the others are timed.
    """
    study, folder = open_study(kind, recipe, workers), StudyFolder(out)
    finished = pretrained_by(study.plan, runs, study.fingerprint)
    folder.check(kind, study.recipe, study.fingerprint)
    outcomes = {
        **folder.outcomes(failed=not workers.retry),
        **{training: {} for training in finished},
    }
    left = study.plan.left(outcomes)
    measured = {training: outcome.get("seconds") for training, outcome in outcomes.items()}
    seconds = measured | estimate(study.plan, left, workers.say)
    plan_summary = overview(study.plan, left, seconds, workers.jobs)
    return {**plan_summary, "notes": study.notes}


def open_study(kind: StudyKind, recipe: Recipe, workers: Workers) -> Study:
    """Open a recipe's data and lay out its study."""
    recipe = workers.share(recipe)
    experiment = open_experiment(recipe)
    return Study(kind, recipe, experiment, *lay_out(kind, recipe, experiment))


def train_left(study: Study, folder: StudyFolder, workers: Workers) -> None:
    """Run the remaining trainings of a study, after reporting how long they will take."""
    plan, before = study.plan, folder.outcomes()
    left = plan.left(before)
    if not left:
        return
    seconds = estimate(plan, left, workers.say)
    whole = float(np.nansum(list(seconds.values())))
    how = f"{workers.jobs} at a time with {study.recipe.compute.threads} threads each"
    if workers.scheduler is not None:
        how = f"by one worker of {workers.scheduler}"
    workers.say(
        f"{len(plan.trainings) - len(left)} of {len(plan.trainings)} trainings are done, about "
        f"{duration_text(whole / workers.jobs)} to go, {how}"
    )

    def show(outcomes: Outcomes) -> None:
        still, failed = plan.left(outcomes), len(plan.failed(outcomes))
        share = 1 - float(np.nansum([seconds[t] for t in still])) / max(whole, 1e-9)
        done = len(plan.trainings) - len(still) - failed
        workers.progress(Standing(done, failed, len(plan.trainings), share))

    train_all(plan, folder, workers, show)


def publish_study(study: Study, folder: StudyFolder) -> dict[str, Any]:
    """Write the tables, picture and page of a study; return what they contain."""
    comparison = gather(study, folder.outcomes())
    values: dict[str, Any] = {
        "failed": dict(comparison.failed),
        "missing": list(comparison.missing),
    }
    if not comparison.trainings:
        return values
    if study.recipe.curve.lengths and study.kind == "curve":
        return values | publish_lengths(folder.path, comparison, study.recipe)
    if study.kind == "curve":
        return values | publish_curve(folder.path, comparison)
    return values | publish_sweep(
        folder.path, comparison, study.recipe, held_out(study.plan, folder)
    )


def gather(study: Study, outcomes: Outcomes) -> Comparison:
    """Collect the outcomes of a study; a curve also shows those of earlier calls."""
    plan, recipe = study.plan, study.recipe
    order = {variant.name: place for place, variant in enumerate(plan.variants)}
    scored = [
        Scored(
            training.variant,
            training.size,
            training.seed,
            outcome["result"] | {"seconds": outcome["seconds"]},
            outcome.get("probe"),
        )
        for training, outcome in outcomes.items()
        if training.size is not None and "result" in outcome and shown_by(study, training)
    ]
    folds = recipe.split.folds or 1
    if folds > 1:
        scored = joined_folds(scored, folds)
    last = len(order)
    scored.sort(key=lambda t: (order.get(t.method, last), t.method, t.size, t.seed))
    return Comparison(
        title=recipe.name,
        unit="per_class" if study.experiment.cohort.kind.one_label else "person",
        trainings=tuple(scored),
        failed=plan.failed(outcomes),
        missing=tuple(training.name for training in plan.left(outcomes)),
        notes=tuple(study.notes),
        simulated=study.experiment.simulated,
        published=recipe.curve.published,
        settings=recipe.model_dump(mode="json"),
        provenance=origins(),
        folds=folds,
    )


def shown_by(study: Study, training: Training) -> bool:
    """Tell whether a page shows a training: of its plan, of a curve also those of earlier calls.

    Other lengths of pretraining are shown where the call names lengths.
    """
    if training in study.plan.trainings:
        return True
    of_length = STEPS_MARK in training.variant and not study.recipe.curve.lengths
    return study.kind == "curve" and not of_length


def held_out(plan: Plan, folder: StudyFolder) -> dict[str, dict[str, float]]:
    """Return, per variant, the last scores of its pretrainings on validation persons.

    They are means over seeds, comparable across variants only if the swept key does not change
    their meaning.
    """
    scores = {}
    for variant in plan.variants:
        last = [
            row
            for training in plan.trainings
            if training.size is None and training.variant == variant.name
            for row in folder.run(training).metrics()[-1:]
        ]
        keys = [key for key in (last[0] if last else {}) if key.startswith("validation/")]
        scores[variant.name] = {
            key: float(np.mean([row[key] for row in last if row.get(key) is not None] or [np.nan]))
            for key in keys
        }
    return scores


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Return a result as lines for a reader: scores by variant and size, then the verdict."""
    lines = []
    for row in result.get("summary", result.get("table", ())):
        low, high = map(decimals, row["ci95"])
        after = ""
        if "steps" in row:  # None of a method that is not pretrained
            after = " " * 14 if row["steps"] is None else f"{row['steps']:>8} steps"
        shown = [f"{row['method']:20} {row['size']:>5}{after}  kappa {decimals(row['kappa'])}"]
        shown += [f"[{low}, {high}]  probe {decimals(row['probe_kappa'])}"]
        keys = [key for key in SHOWN if row.get(key) is not None]
        shown += [f" {key.removeprefix('validation/')} {decimals(row[key])}" for key in keys]
        lines.append(" ".join(shown))
    lines += [
        f"{row['method']:20} {row['values']}: chosen in {row['chosen']} of {row['searches']}"
        for row in result.get("searched", ())
    ]
    lines += result.get("verdict", [])
    lines += [f"failed {name}: {why}" for name, why in result["failed"].items()]
    return lines + [f"{kind}: {path}" for kind, path in result.get("files", {}).items()]


def decimals(value: float | None) -> str:
    """Return a number with three decimals, or a dash for None.

    Examples
    --------
    >>> decimals(0.61234), decimals(None)
    ('0.612', '-')
    """
    return "-" if value is None else f"{value:.3f}"
