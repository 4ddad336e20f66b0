"""Pretrain an encoder by a recipe's objective."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from lightning_fabric import Fabric
from torch import nn

from biopart.compute import compiled, describe, open_fabric, settle
from biopart.files import flat, write_json, write_text
from biopart.nn import Encoder
from biopart.nn.weights import load_encoder, load_tensors, save_encoder, save_tensors
from biopart.objectives import PRETRAINING, Part
from biopart.recipe import ComputeSettings, Objective, Recipe, as_recipe, resolve
from biopart.run import Run, find_run, new_run, one_process, origins
from biopart.settings import read_yaml
from biopart.train import Row, Task, fit, measure
from biopart.verbs.experiment import Experiment, open_experiment


def pretrain(
    recipe: Recipe | Path | str,
    *,
    out: Path | None = None,
    latest: bool = True,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Pretrain by a recipe.

    Parameters
    ----------
    recipe : Recipe, path or name of a shipped one
        The experiment.
    out : Path, optional
        The run folder; ``runs/<name>/<time>`` by default.
    latest : bool
        Let ``runs/latest`` name it; a run that is one of many is none to go on with by default.
    dry_run : bool
        Do everything on one batch, in a folder that is thrown away.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        With encoder.safetensors and objective.safetensors.
    """
    recipe = as_recipe(recipe)
    if dry_run:
        short = recipe.pretrain.model_copy(update={"steps": 1, "validation_windows": 8})
        recipe = recipe.model_copy(update={"pretrain": short})
    experiment = open_experiment(recipe)
    task, fabric = make_task(experiment, recipe.compute)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder)) if dry_run else new_run(recipe.name, out, latest=latest)
        write_json(run.path / "provenance.json", provenance(experiment, task, fabric))
        write_text(run.path / "recipe.yaml", recipe.to_yaml())
        train(experiment, task, fabric, run, report=report)
    return run


def resume(
    out: Path | None = None,
    report: Callable[[Row], None] = lambda row: None,
    *,
    store: Path | None = None,
    recipe: Recipe | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, on the machine's choices made before.

    Parameters
    ----------
    out : Path, optional
        The run folder; the newest run by default.
    report : callable
        Gets every logged row.
    store : Path, optional
        Where the store lies now, if not where the run was begun.
    recipe : Recipe, optional
        What the run is taken to be; by default its own recipe.

    Raises
    ------
    ValueError
        If the recipe, or recipe.yaml in the folder, is not the one that the run was begun by: names
        the keys that differ; if the store has changed, or another process works in the folder.
    """
    run = find_run(out).pretrained()
    before = run.provenance()
    wanted = stored_recipe(run) if recipe is None else recipe
    refuse_changes(run, wanted, before.get("recipe") or stored_recipe(run).model_dump(mode="json"))
    experiment = open_experiment(stored_recipe(run, store=store))
    if experiment.cohort.fingerprint != before["store_sha256"]:
        raise ValueError(
            f"{experiment.cohort.path} has changed since {run.path} was begun; start a new run"
        )
    compute = experiment.recipe.compute.model_copy(update=before["chosen"])
    task, fabric = make_task(experiment, compute)
    train(experiment, task, fabric, run, report=report)
    return run


def refuse_changes(run: Run, recipe: Recipe, before: Mapping[str, Any]) -> None:
    """Refuse to go on with a run by another recipe; ValueError names the keys that differ.

    Where the store lies and what the machine chooses may differ.
    """
    now, then = flat(recipe.model_dump(mode="json")), flat(before)
    keys = [key for key in {**then, **now} if now.get(key) != then.get(key)]
    changed = [k for k in keys if k != "data.store" and not k.startswith(("compute.", "name"))]
    if changed:
        told = [f"{key} is {now.get(key)}, was {then.get(key)}" for key in changed]
        raise ValueError(
            f"the recipe of {run.path} is not the one that it was begun by: {'; '.join(told)}; "
            "give that one, or start a new run"
        )


def stored_recipe(
    run: Run,
    changes: Sequence[str] = (),
    store: Path | None = None,
    *,
    kind: Literal["pretraining", "detection"] = "pretraining",
) -> Recipe:
    """Load the recipe of a run, with changes, and with the store where it lies now.

    Raises ValueError where the run is of another kind.
    """
    if run.kind != kind:
        raise ValueError(f"{run.path} is a {run.kind}; this needs a {kind}")
    values = read_yaml(run.path / "recipe.yaml")
    if store is not None:
        values.setdefault("data", {})["store"] = str(store)
    return resolve(values, changes, f"recipe of {run.path}")


def make_task(experiment: Experiment, compute: ComputeSettings) -> tuple[Task, Fabric]:
    """Build all that a pretraining needs; what is wrong is found before a folder is made."""
    recipe = experiment.recipe
    objective = build(experiment)
    source = experiment.source(experiment.split.pretrain)
    fabric = open_fabric(compute, lambda: experiment.encoder(recipe.encoder.position, 0))
    compiled(cast(Encoder, objective.encoder), compute)
    task = Task(
        objective,
        settle(source, compute, fabric),
        recipe.pretrain,
        recipe.data.normalise,
        recipe.seed,
        validate=held_out(experiment, objective, fabric),
        augment=experiment.augment(recipe.pretrain.augment, "pretrain.augment"),
    )
    return task, fabric


def train(
    experiment: Experiment,
    task: Task,
    fabric: Fabric,
    run: Run,
    *,
    report: Callable[[Row], None],
) -> None:
    """Train in a run folder, from its checkpoint if there is one, and write the weights."""
    with one_process(run):
        _train(experiment, task, fabric, run, report=report)


def _train(
    experiment: Experiment,
    task: Task,
    fabric: Fabric,
    run: Run,
    *,
    report: Callable[[Row], None],
) -> None:
    fit(task, fabric, run, report)
    about = experiment.about(experiment.met(experiment.split.pretrain))
    state = task.objective.state_dict()
    save_encoder(run.encoder, cast(Encoder, task.objective.encoder), about)
    heads = {name: value for name, value in state.items() if not name.startswith("encoder.")}
    save_tensors(run.path / "objective.safetensors", heads, about)


def build_objective(encoder: Encoder, settings: Objective) -> nn.Module:
    """Build the objective that settings belong to, on an encoder."""
    objective: nn.Module = PRETRAINING[type(settings)](encoder, settings)
    return objective


def build(experiment: Experiment) -> nn.Module:
    """Build the recipe's objective on a new encoder."""
    recipe = experiment.recipe
    encoder = experiment.encoder(recipe.encoder.position, recipe.seed)
    return build_objective(encoder, recipe.pretrain.objective)


def load_objective(run: Run) -> nn.Module:
    """Load the objective of a finished run, heads and all, on the CPU and in evaluation mode.

    Raises FileNotFoundError where the run has no weights yet.
    """
    origin = run.pretrained()
    heads, _ = load_tensors(origin.path / "objective.safetensors")
    encoder = load_encoder(origin.encoder)
    objective = build_objective(encoder, stored_recipe(origin).pretrain.objective)
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    objective.load_state_dict(state | heads)
    return objective.eval()


def load_part(run: Run, why: str) -> Part:
    """Load the objective of a finished run by PART; ``why`` says what of it is needed.

    Raises ValueError where the run was pretrained by another objective, FileNotFoundError where it
    has no weights yet.
    """
    origin = run.pretrained()
    name = stored_recipe(origin).pretrain.objective.name
    if name != "part":
        raise ValueError(
            f"{origin.path} was pretrained by {name}, which predicts no relations; {why}"
        )
    part = load_objective(origin)
    assert isinstance(part, Part)
    return part


def held_out(
    experiment: Experiment, objective: nn.Module, fabric: Fabric
) -> Callable[[], Row] | None:
    """Return a look at the objective's figures on validation persons, where there are any."""
    recipe, persons = experiment.recipe, experiment.split.validation
    if not persons:
        return None
    source = experiment.source(persons)
    count = recipe.pretrain.validation_windows
    return lambda: measure(objective, source, fabric, recipe.data.normalise, count=count)


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def provenance(experiment: Experiment, task: Task, fabric: Fabric) -> dict[str, Any]:
    """Return what a reader needs to believe a run, and a resume to go on as before."""
    split = experiment.split
    return {
        **origins(),
        "chosen": describe(fabric, task.source),
        "seed": task.seed,
        "steps": task.steps,
        "windows": len(task.source),
        "parameters": count(task.objective),
        "encoder_parameters": count(cast(nn.Module, task.objective.encoder)),
        "recipe": experiment.recipe.model_dump(mode="json"),
        "store": str(experiment.cohort.path),
        "store_sha256": experiment.cohort.fingerprint,
        "simulated": experiment.simulated,
        "notes": experiment.notes,
        **experiment.met(split.pretrain).about(),
        "validation": sorted(split.validation),
        "test": sorted(split.test),
    }
