"""Pretrain an encoder by a recipe's objective."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from biopart.compute import compiled, open_fabric, settle
from biopart.nn.weights import save_encoder, save_tensors
from biopart.objectives import Part
from biopart.recipe import ComputeSettings, Recipe, resolve
from biopart.run import Run, find_run, new_run, origins, write_json, write_text
from biopart.store.settings import read_yaml
from biopart.train import Row, Task, fit, measure
from biopart.verbs.experiment import Experiment, open_experiment


def pretrain(
    recipe: Recipe,
    *,
    out: Path | None = None,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Pretrain by a recipe.

    Parameters
    ----------
    recipe : Recipe
        The experiment.
    out : Path, optional
        The run folder; ``runs/<name>/<time>`` by default.
    dry_run : bool
        Do everything on one batch, in a folder that is thrown away.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        With encoder.safetensors and objective.safetensors.
    """
    if dry_run:
        short = recipe.pretrain.model_copy(update={"steps": 1, "validation_windows": 8})
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder))
            run_pretraining(recipe.model_copy(update={"pretrain": short}), run, {}, report)
            return run
    experiment = open_experiment(recipe)
    run = new_run(recipe.name, out)
    write_text(run.path / "recipe.yaml", recipe.to_yaml())
    run_pretraining(experiment.recipe, run, {}, report)
    return run


def resume(out: Path | None = None, report: Callable[[Row], None] = lambda row: None) -> Run:
    """Go on with a run from its last checkpoint, on the machine's choices made before.

    Parameters
    ----------
    out : Path, optional
        The run folder; the newest run by default.
    report : callable
        Gets every logged row.
    """
    run = find_run(out).pretrained()
    recipe = stored_recipe(run)
    file = run.path / "provenance.json"
    chosen = run.provenance()["chosen"] if file.is_file() else {}
    run_pretraining(recipe, run, chosen, report)
    return run


def stored_recipe(run: Run, changes: Sequence[str] = ()) -> Recipe:
    """Load the recipe of a run, with changes."""
    return resolve(read_yaml(run.path / "recipe.yaml"), changes, f"recipe of {run.path}")


def run_pretraining(
    recipe: Recipe, run: Run, chosen: dict[str, Any], report: Callable[[Row], None]
) -> None:
    """Train in a run folder, from its checkpoint if there is one, and write the weights."""
    experiment = open_experiment(recipe)
    compute = recipe.compute.model_copy(update=chosen)
    fabric = open_fabric(compute, lambda: experiment.encoder(recipe.encoder.position, 0))
    split = experiment.split
    objective = build(experiment)
    compiled(objective.encoder, compute)
    source = experiment.source(split.pretrain)
    task = Task(
        objective,
        settle(source, compute, fabric),
        recipe.pretrain,
        recipe.data.normalise,
        recipe.seed,
        validate=held_out(experiment, objective, fabric),
    )
    if not chosen:
        write_json(run.path / "provenance.json", provenance(experiment, task, fabric, compute))
    fit(task, fabric, run, report)
    about = experiment.about(split.pretrain)
    save_encoder(run.encoder, objective.encoder, about)
    heads = {k: v for k, v in objective.state_dict().items() if not k.startswith("encoder.")}
    save_tensors(run.path / "objective.safetensors", heads, about)


def build(experiment: Experiment) -> Part:
    """Build the recipe's objective on a new encoder."""
    recipe = experiment.recipe
    encoder = experiment.encoder(recipe.encoder.position, recipe.seed)
    return Part(encoder, recipe.pretrain.objective)


def held_out(experiment: Experiment, objective: nn.Module, fabric: Any) -> Callable[[], Row] | None:
    """Return a look at the objective's figures on validation persons, where there are any."""
    recipe, persons = experiment.recipe, experiment.split.validation
    if not persons:
        return None
    source = experiment.source(persons)
    count = recipe.pretrain.validation_windows
    return lambda: measure(objective, source, fabric, recipe.data.normalise, count)


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def provenance(
    experiment: Experiment, task: Task, fabric: Any, compute: ComputeSettings
) -> dict[str, Any]:
    """Return what a reader needs to believe a run, and a resume to go on as before."""
    split = experiment.split
    mixed = fabric._precision.precision != "32-true"
    return {
        **origins(),
        "chosen": {
            "device": str(fabric.device),
            "precision": "bfloat16" if mixed else "float32",
            "threads": torch.get_num_threads(),
            "resident": hasattr(task.source, "source"),
        },
        "seed": task.seed,
        "steps": task.steps,
        "windows": len(task.source),
        "parameters": count(task.objective),
        "encoder_parameters": count(cast(nn.Module, task.objective.encoder)),
        "store": str(experiment.cohort.path),
        "store_sha256": experiment.cohort.fingerprint,
        "simulated": experiment.simulated,
        "notes": list(split.notes),
        "seen": sorted(split.pretrain),
        "validation": sorted(split.validation),
        "test": sorted(split.test),
    }
