"""Fine-tune a pretrained encoder on the labels of a few persons, or train one from scratch."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_fabric import Fabric

from biopart.compute import compiled, describe, open_fabric, settle
from biopart.data import Source
from biopart.evaluation.calibration import fit_temperature
from biopart.evaluation.metrics import balanced_weights
from biopart.nn import Encoder
from biopart.nn.weights import save_classifier
from biopart.objectives import Classify
from biopart.recipe import ClassifySettings
from biopart.run import Run, as_run, one_process
from biopart.train import Row, Task, fit, predict
from biopart.verbs.classes import check_classes, check_test
from biopart.verbs.context import add_context
from biopart.verbs.experiment import Experiment, open_experiment
from biopart.verbs.plan import Plan, context_name, finetuning_name, own_compute
from biopart.verbs.pretrain import stored_recipe
from biopart.verbs.scoring import agreement, begin, calibration, finish


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

    On-grid patches, new learned positions, a linear layer on [CLS], all weights train (PART,
    arXiv 2506.03682). Weights are those of the best kappa on validation persons. Where the recipe
    has ``finetune.context`` above 1, a transformer over neighbouring windows is trained on top of
    that classifier, whose own fine-tuning stands beside it.

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
    if dry_run:
        short = recipe.finetune.model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={"finetune": short})
    subjects = recipe.finetune.subjects if subjects is None else subjects
    seed = recipe.seed if seed is None else seed
    plan = Plan(
        open_experiment(recipe),
        None if from_scratch else origin,
        subjects,
        seed,
        own_compute(recipe, origin, changes),
        dry_run,
    )
    before = stored_recipe(origin, store=store)
    alone = plan.alone(before)
    with tempfile.TemporaryDirectory() as folder:
        root = (Path(folder) if dry_run else origin.path) / "finetune"
        target = Run(root / finetuning_name(alone, before))
        if plan.context == 1 or not is_done(target, plan):
            _train(alone, target, report)
        if plan.context > 1:
            single, target = target, Run(root / context_name(plan, target.path.name, before))
            add_context(plan, single, target, report)
    return target


def is_done(target: Run, plan: Plan) -> bool:
    """Tell whether a fine-tuning is there already, of the same data."""
    done = target.model.is_file() and (target.path / "result.json").is_file()
    fingerprint = plan.experiment.cohort.fingerprint
    return done and target.provenance()["store_sha256"] == fingerprint


def _train(plan: Plan, target: Run, report: Callable[[Row], None]) -> None:
    """Check everything, train, keep the best weights, score the test persons, write."""
    begun = time.perf_counter()
    experiment, recipe = plan.experiment, plan.experiment.recipe
    split = experiment.split
    experiment.refuse_met([*split.test, *split.validation], plan.pretrained_on)
    source = plan.source(plan.persons)
    test = experiment.source(split.test, labelled=True, keep_bad=True)
    warnings = [
        *experiment.notes,
        *split.shortage(plan.subjects),
        *check_classes(experiment, source),
        *check_test(experiment, test),
    ]
    fabric = open_fabric(plan.compute, lambda: experiment.encoder(recipe.finetune.position, 0))
    objective = build(experiment, source, plan.seed)
    start(plan, objective.encoder)
    compiled(objective.encoder, plan.compute)
    task = make_task(plan, objective, source, fabric)
    with one_process(target):
        rows = fit(task, fabric, None, begin(target, recipe, report))
        calibrated = calibrate(plan, objective, fabric)
        about = experiment.about(plan.met) | calibrated
        save_classifier(target.model, objective.model, about)
        if plan.dry_run:
            return
        logits = predict(objective.model, test, fabric, recipe.data.normalise)
        said = {
            **calibration(logits, test.labels, calibrated["temperature"]),
            "steps": rows[-1]["step"],
            "from_scratch": plan.origin is None,
            "seed": plan.seed,
            "warnings": warnings,
            "seconds": time.perf_counter() - begun,
        }
        finish(plan, target, (test, logits), chosen=describe(fabric, task.source), said=said)


def calibrate(plan: Plan, objective: Classify, fabric: Fabric) -> dict[str, float]:
    """Return the temperature of validation persons, 1 where there are none."""
    persons = plan.experiment.split.validation
    if not persons:
        return {"temperature": 1.0}
    held = plan.source(persons)
    logits = predict(objective.model, held, fabric, plan.experiment.recipe.data.normalise)
    return {"temperature": fit_temperature(logits, held.labels)}


def start(plan: Plan, encoder: Encoder) -> None:
    """Give the encoder the weights that it starts from.

    Raises ValueError where they do not fit, or are of other channels.
    """
    if plan.weights is None:
        return
    channels, wanted = plan.weights.about.get("channels"), list(plan.experiment.channels)
    if channels is not None and channels != wanted:
        raise ValueError(
            f"the encoder was pretrained on {', '.join(channels)}; the recipe now wants "
            f"{', '.join(wanted)}"
        )
    plan.weights.give(encoder, positions=plan.experiment.recipe.finetune.keep_positions)


def make_task(plan: Plan, objective: Classify, source: Source, fabric: Fabric) -> Task:
    """Put together what is trained; validation persons choose the weights, if there are any."""
    recipe, persons = plan.experiment.recipe, plan.experiment.split.validation
    validation = plan.source(persons) if persons else None

    def validate() -> Row:
        assert validation is not None
        logits = predict(objective.model, validation, fabric, recipe.data.normalise)
        return agreement(validation.labels, logits)

    return Task(
        objective,
        settle(source, plan.compute, fabric),
        recipe.finetune,
        recipe.data.normalise,
        plan.seed,
        validate=None if validation is None else validate,
        select=None if validation is None else "kappa",
        patience=recipe.finetune.patience,
        augment=plan.experiment.augment(recipe.finetune.augment, "finetune.augment"),
    )


def build(experiment: Experiment, source: Source, seed: int) -> Classify:
    """Build the classifier on a new encoder with new positions."""
    settings = experiment.recipe.finetune
    classes = len(experiment.cohort.label_names)
    weights = None
    if settings.class_weights:
        weights = tuple(balanced_weights(source.labels, classes).tolist())
    encoder = experiment.encoder(settings.position, seed, drop_path=settings.drop_path)
    return Classify(
        encoder, ClassifySettings(classes=classes, pool=settings.pool, class_weights=weights)
    )
