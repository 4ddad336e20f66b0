"""Pretrain an encoder with a recipe's objective."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning_fabric import Fabric
from torch import nn

from biopart.compute import compiled, describe, open_fabric, settle
from biopart.experiment import Experiment, build_objective, open_experiment, stored_recipe
from biopart.experiment.stored import exported, places_of
from biopart.files import flat, write_json, write_text
from biopart.nn import Encoder, Model
from biopart.nn.batch_norm import BatchNorm
from biopart.nn.weights import save_tensors
from biopart.probing.online import online_probe
from biopart.recipe import ComputeSettings, PretrainSettings, Recipe, as_recipe, resolve
from biopart.run import Run, find_run, new_run, one_process, origins
from biopart.train import (
    Ranks,
    Row,
    Stop,
    Training,
    check_loggers,
    check_processes,
    fit,
    logging_to,
    measure,
    none_lost,
)


def pretrain(
    recipe: Recipe | Path | str,
    *,
    out: Path | None = None,
    latest: bool = True,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
    stop: Stop | None = None,
) -> Run:
    """Pretrain with a recipe.

    Parameters
    ----------
    recipe : Recipe, path or name of a shipped recipe
        The experiment.
    out : Path, optional
        The run folder; ``runs/<name>/<time>`` by default.
    latest : bool
        Whether ``runs/latest`` is to name it; False for one of many runs of a study.
    dry_run : bool
        Do everything on one batch, in a temporary folder.
    report : callable
        Called with every logged row.
    stop : Stop, optional
        Ends the training with a checkpoint and ``Stopped`` when it is asked to.

    Returns
    -------
    Run
        With encoder.safetensors and objective.safetensors.
    """
    recipe = as_recipe(recipe)
    check_loggers(recipe)
    if dry_run:
        short = recipe.pretrain.model_copy(update={"steps": 1, "validation_windows": 8})
        unlogged = recipe.compute.model_copy(update={"loggers": []})
        recipe = recipe.model_copy(update={"pretrain": short, "compute": unlogged})
    experiment = open_experiment(recipe)
    training, fabric = make_training(experiment, recipe.compute)
    ranks = Ranks(fabric)
    with ranks.temporary() as folder:

        def begun() -> Run:
            run = Run(folder) if dry_run else new_run(recipe.name, out, latest=latest)
            write_json(run.path / "provenance.json", provenance(experiment, training, fabric))
            write_text(run.path / "recipe.yaml", recipe.to_yaml())
            return run

        run = ranks.from_first(begun)
        train(experiment, training, fabric, run, report=report, stop=stop)
    return run


def resume(
    out: Path | None = None,
    report: Callable[[Row], None] = lambda row: None,
    *,
    store: Path | None = None,
    recipe: Recipe | None = None,
    processes: Mapping[str, Any] | None = None,
    stop: Stop | None = None,
) -> Run:
    """Continue a run from its last checkpoint, with the device and precision it was started with.

    Parameters
    ----------
    out : Path, optional
        The run folder; the newest run by default.
    report : callable
        Called with every logged row.
    store : Path, optional
        The store, if it has moved since the run was started.
    recipe : Recipe, optional
        Must be the run's own recipe, which is the default.
    processes : mapping, optional
        ``devices`` and ``nodes`` other than the run's; the steps are the same.
    stop : Stop, optional
        Ends the training with a checkpoint and ``Stopped`` when it is asked to.

    Raises
    ------
    ValueError
        If the recipe, or recipe.yaml in the folder, is not the one that the run was started with
        (names the keys that differ), the store has changed, or another process uses the folder.
    """
    run = find_run(out).pretrained()
    before = run.provenance()
    wanted = stored_recipe(run) if recipe is None else recipe
    refuse_changes(run, wanted, before.get("recipe") or stored_recipe(run).model_dump(mode="json"))
    experiment = open_experiment(stored_recipe(run, store=store))
    check_loggers(experiment.recipe)
    if experiment.cohort.fingerprint != before["store_sha256"]:
        raise ValueError(
            f"{experiment.cohort.path} has changed since {run.path} was started; start a new run"
        )
    chosen = dict(before["chosen"])
    if processes:  # of another number of processes: the kind of device alone, and threads anew
        chosen["device"] = str(chosen["device"]).partition(":")[0]
        del chosen["threads"]
    settings = experiment.recipe.compute.model_dump() | chosen | dict(processes or {})
    compute = ComputeSettings.model_validate(settings)
    training, fabric = make_training(experiment, compute)
    train(experiment, training, fabric, run, report=report, stop=stop)
    return run


def refuse_changes(run: Run, recipe: Recipe, before: Mapping[str, Any]) -> None:
    """Refuse to continue a run with another recipe; ValueError names the keys that differ.

    The path of the store and the settings of the machine may differ.
    """
    started = resolve(dict(before), [], f"recipe of {run.path}")  # keys of today's recipes
    now, then = (flat(settings.model_dump(mode="json")) for settings in (recipe, started))
    keys = [key for key in {**then, **now} if now.get(key) != then.get(key)]
    changed = [k for k in keys if k != "data.store" and not k.startswith(("compute.", "name"))]
    if changed:
        differing = [f"{key} is {now.get(key)}, was {then.get(key)}" for key in changed]
        raise ValueError(
            f"{run.path} was started with other settings: {'; '.join(differing)}; give the "
            "original ones, or start a new run"
        )


def make_training(experiment: Experiment, compute: ComputeSettings) -> tuple[Training, Fabric]:
    """Build all that a pretraining needs; mistakes are found before a folder is made."""
    experiment = experiment.pretraining
    recipe = experiment.recipe
    objective = build(experiment)
    source = experiment.source(experiment.split.pretrain)
    fabric = open_fabric(
        compute, lambda: experiment.encoder(recipe.encoder.position, 0), share=True
    )
    cohort = experiment.cohort
    order = " by record" if cohort.is_larger_than_cache else ""
    check_processes(fabric, recipe, "pretrain.batch", cohort.fingerprint + order)
    refuse_single(objective, len(source), recipe.pretrain)
    compiled(cast(Encoder, objective.encoder), compute)
    every, views = recipe.pretrain.probe_every, experiment.views()
    augment = experiment.augment(recipe.pretrain.augment, "pretrain.augment")
    if augment is not None and not recipe.pretrain.objective.sees_items:
        raise ValueError(
            f"objective {recipe.pretrain.objective.name} sees views, so pretrain.augment has no "
            "effect; leave it out, and set pretrain.objective.views"
        )
    training = Training(
        objective,
        settle(source, compute, fabric),
        recipe.pretrain.loop_settings,
        recipe.data.normalise,
        recipe.seed,
        validate=validator(experiment, objective, fabric),
        augment=augment,
        views=views,
        probe=None if every is None else online_probe(experiment, exported(objective), compute),
        probe_every=every or 1,
    )
    return training, fabric


def refuse_single(objective: nn.Module, items: int, settings: PretrainSettings) -> None:
    """Refuse a batch size whose last batch is too small for batch normalisation; ValueError."""
    if not any(isinstance(module, BatchNorm) for module in objective.modules()):
        return
    last = items % settings.batch or settings.batch
    if last < 2 * settings.accumulate:
        raise ValueError(
            "batch normalisation needs two items or more at a time, but the last batch of an epoch "
            f"has {last} of {items}, for accumulate {settings.accumulate}; choose another "
            "pretrain.batch"
        )


def train(
    experiment: Experiment,
    training: Training,
    fabric: Fabric,
    run: Run,
    *,
    report: Callable[[Row], None],
    stop: Stop | None,
) -> None:
    """Train in a run folder, from its checkpoint if there is one, and write the weights.

    Raises Stopped, after a checkpoint, if ``stop`` was asked to.
    """
    ranks = Ranks(fabric)
    remedy = f"continue with: biopart pretrain --resume --out {run.path}"
    with none_lost(ranks, remedy), ExitStack() as stack:
        ranks.enter(stack, lambda: one_process(run))
        watched = warning_of_collapse(experiment.recipe.pretrain.collapse_rank, report)
        log = ranks.enter(stack, lambda: logging_to(experiment.recipe, run, watched))
        fit(training, fabric, run, log or watched, stop=stop)
        ranks.from_first(lambda: write_weights(experiment, training, run))


def warning_of_collapse(limit: float, report: Callable[[Row], None]) -> Callable[[Row], None]:
    """Return a report that adds ``warning`` to the first row whose effective rank is below a limit.

    Examples
    --------
    >>> report = warning_of_collapse(2.0, lambda row: print(row.get("warning", "-")[:54]))
    >>> report({"step": 10, "train/rank": 9.0})
    -
    >>> report({"step": 20, "train/rank": 1.1})
    features have collapsed: their effective rank is 1.1 a
    """
    warned = False

    def watched(row: Row) -> None:
        nonlocal warned
        ranks = [row[key] for key in ("train/rank", "probe/rank") if key in row]
        if ranks and min(ranks) < limit and not warned:
            warned = True
            text = (
                f"features have collapsed: their effective rank is {min(ranks):.3g} after step "
                f"{row['step']}; lower the learning rate, or change the views"
            )
            row = {**row, "warning": text}
        report(row)

    return watched


def write_weights(experiment: Experiment, training: Training, run: Run) -> None:
    """Write the encoder, and the rest of the objective."""
    uses_positions = experiment.recipe.pretrain.objective.uses_positions
    seen = experiment.seen(experiment.split.pretrain)
    model = Model(exported(training.objective), experiment.about(seen, positions=uses_positions))
    model.save(run.encoder)
    own = tuple(f"{place}." for place in places_of(model.net, training.objective))
    state = training.objective.state_dict()  # without the encoder, which is in its own file
    state = {name: value for name, value in state.items() if not name.startswith(own)}
    save_tensors(run.path / "objective.safetensors", state, model.about.to_json())


def build(experiment: Experiment) -> nn.Module:
    """Build the recipe's objective on a new encoder."""
    recipe = experiment.recipe
    drop_path = recipe.pretrain.drop_path
    encoder = experiment.encoder(recipe.encoder.position, recipe.seed, drop_path=drop_path)
    return build_objective(encoder, recipe.pretrain.objective)


def validator(
    experiment: Experiment, objective: nn.Module, fabric: Fabric
) -> Callable[[], Row] | None:
    """Return a function that measures the objective on validation persons, if there are any."""
    recipe, persons = experiment.recipe, experiment.split.validation
    if not persons:
        return None
    source = experiment.source(persons)
    return partial(
        measure,
        objective,
        source,
        fabric,
        recipe.data.normalise,
        count=recipe.pretrain.validation_windows,
        views=experiment.views(),
    )


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def provenance(experiment: Experiment, training: Training, fabric: Fabric) -> dict[str, Any]:
    """Return the provenance of a run, which ``resume`` needs too."""
    split = experiment.split
    return {
        **origins(),
        "chosen": describe(fabric, training.source),
        "seed": training.seed,
        "steps": training.steps,
        "windows": len(training.source),
        "parameters": count(training.objective),
        "encoder_parameters": count(cast(nn.Module, training.objective.encoder)),
        "recipe": experiment.recipe.model_dump(mode="json"),
        "store": str(experiment.cohort.path),
        "store_sha256": experiment.cohort.fingerprint,
        "simulated": experiment.simulated,
        "notes": experiment.notes,
        "dataset": experiment.cohort.attributes["card"].get("name", ""),
        **experiment.cohort.kind.named("seen", sorted(split.pretrain)),
        "validation": sorted(split.validation),
        "test": sorted(split.test),
    }
