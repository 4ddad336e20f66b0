"""Encoders that are asked: those of runs, an untrained one, and those of timm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopart.compute import open_fabric
from biopart.experiment import Experiment, open_experiment, stored_recipe
from biopart.experiment.stored import load_objective
from biopart.experiment.weights import read_weights
from biopart.nn import About, Model, build_encoder
from biopart.nn.siamese import OnViews, Siamese
from biopart.nn.timm_encoder import colours_of, load_timm
from biopart.probing.linear import seeded
from biopart.probing.suite import Projection
from biopart.probing.tokens import BATCH
from biopart.recipe import ComputeSettings, Recipe
from biopart.run import Run
from biopart.settings import apply_change
from biopart.store.seen import Seen

UNTRAINED = "untrained"
TRAINING_ALONE = ("drop_path", "dropout")  # arguments without effect on a frozen encoder


@dataclass(frozen=True)
class Candidate:
    """An encoder that is asked.

    Attributes
    ----------
    name : str
        On the page.
    model : Model
        On the device that computes.
    experiment : Experiment, optional
        Of a run: its recipe with the data opened.
    projection : callable, optional
        Of a method with a projector.
    notes : tuple of str
        What became of a file of weights.
    twin : str
        Name of the untrained encoder like it, of a run.
    facts : mapping
        What it is, for a reader.
    """

    name: str
    model: Model
    experiment: Experiment | None = None
    projection: Projection | None = None
    notes: tuple[str, ...] = ()
    twin: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def candidates(
    runs: Sequence[Run], store: Path | None, *, changes: Sequence[str] = (), seed: int = 0
) -> list[Candidate]:
    """Open the encoders of runs, and an untrained one like each kind of them.

    Two runs are of one kind if their encoders have equal arguments, values and use of positions.

    With a store, its persons are divided by the recipes of the runs.

    Raises ValueError where runs are tested on different persons, or one has seen test persons.
    """
    found: list[Candidate] = []
    kinds: dict[str, str] = {}
    places = [run.pretrained().path.resolve() for run in runs]
    twice = [place for place in places if places.count(place) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    for run in runs:
        origin = run.pretrained()
        any_card = [] if store is None else ["data.card=null"]
        recipe = stored_recipe(origin, [*any_card, *changes], store)
        experiment = None if store is None else open_experiment(recipe)
        model = Model.load(origin)
        if experiment is not None:
            refuse_other(origin, model, experiment)
            experiment.refuse_seen(experiment.split.test, model.about.seen)
        device = device_of(recipe.compute)
        name = name_of(origin, [one.name for one in found])
        plain = {k: v for k, v in model.encoder.arguments.items() if k not in TRAINING_ALONE}
        kind = repr((plain, model.about.positions, model.about.normalise))
        if kind not in kinds:  # without positions an encoder starts elsewhere
            label = UNTRAINED if not kinds else f"{UNTRAINED}, as {name}"
            found.append(untrained(label, model, experiment, device, seed=seed))
            kinds[kind] = label
        projection, about = projection_of(origin, device), facts_of(origin, recipe, model)
        model = model.to(device)
        found.append(Candidate(name, model, experiment, projection, twin=kinds[kind], facts=about))
    splits = [one.experiment.split for one in found if one.experiment is not None]
    if len({(split.test, split.finetune) for split in splits}) > 1:
        raise ValueError(
            "the runs' probes would be fitted or tested on different persons; give them the same "
            "with --set split.seed=..., split.test_persons=... and split.validation_persons=..."
        )
    return found


def refuse_other(run: Run, model: Model, experiment: Experiment) -> None:
    """Refuse a store of other channels or another rate than a run was pretrained on; ValueError."""
    about, cohort = model.about, experiment.cohort
    rate = cohort.attributes.get("sfreq_hz")
    for what, own, given in (
        ("channels", ", ".join(about.channels), ", ".join(experiment.channels)),
        ("sampling rate in Hz", about.sfreq_hz, rate),
    ):
        if own and own != given:
            raise ValueError(
                f"{run.path} was pretrained on the {what} {own}, but {cohort.path} has {given}; "
                "give a store that was prepared alike"
            )


def facts_of(run: Run, recipe: Recipe, model: Model) -> dict[str, str]:
    """Return what a run's encoder is, for a reader."""
    n_parameters = sum(parameter.numel() for parameter in model.encoder.parameters())
    return {
        "run": str(run.path),
        "objective": recipe.pretrain.objective.name,
        "steps": f"{run.provenance().get('steps', 0):,}",
        "encoder": f"{model.encoder.name}, {n_parameters:,} parameters",
        "positions": "no" if model.about.positions is False else "yes",
    }


def timm_candidates(named: Sequence[str], weights: Sequence[Path]) -> list[Candidate]:
    """Open encoders of timm, each with a file of weights, on the device that computes.

    Parameters
    ----------
    named : sequence of str
        ``timm:NAME``, with arguments of ``timm.create_model`` or ``normalise`` after it, such as
        ``timm:vit_small_patch16_224,num_heads=12``.
    weights : sequence of Path
        A file for each, in order.

    Raises
    ------
    ValueError
        If there is not one file for each, or the weights do not fit.
    """
    if len(named) != len(weights):
        raise ValueError(
            "give --weights FILE once for each timm:NAME, in order "
            f"(names: {len(named)}, files: {len(weights)})"
        )
    found: list[Candidate] = []
    device = device_of(ComputeSettings())
    for name, path in zip(named, weights, strict=True):
        model, options = parted(name)
        read = read_weights(str(path))
        normalise = options.pop("normalise", colours_of(model))
        encoder, taken = load_timm(model, read.state, options=options)
        about = About(normalise=normalise, positions=True)
        remarks = (*read.remarks, *taken.lines, f"colours normalised: {normalise}")
        heads = f"{encoder.heads} attention heads, which no shape tells"
        lines = tuple(f"{path.name}: {line}" for line in (*remarks, heads))
        taken_names = [one.name for one in found]
        label = name if name not in taken_names else f"{name} ({path.parent.name}/{path.stem})"
        network = Model(encoder, about).to(device).eval()
        facts = {"file": str(path), "encoder": model, "colours": normalise}
        found.append(Candidate(label, network, notes=lines, facts=facts))
    return found


def parted(name: str) -> tuple[str, dict[str, Any]]:
    """Return the model and the options of ``timm:NAME,key=value``.

    Examples
    --------
    >>> parted("timm:vit_small_patch16_224,num_heads=12")
    ('vit_small_patch16_224', {'num_heads': 12})
    """
    model, *given = name.removeprefix("timm:").split(",")
    options: dict[str, Any] = {}
    for one in given:
        apply_change(options, one)
    return model, options


def device_of(compute: ComputeSettings) -> torch.device:
    """Return the device of a recipe."""
    device: torch.device = open_fabric(compute.model_copy(update={"precision": "float32"})).device
    return device


def untrained(
    name: str,
    model: Model,
    experiment: Experiment | None,
    device: torch.device,
    *,
    seed: int,
) -> Candidate:
    """Return an encoder like a model's, with new weights and positions where it has them."""
    with seeded(seed):
        encoder = build_encoder(model.encoder.arguments)
    about = model.about.model_copy(update={"seen": Seen()})
    facts = {"encoder": f"{model.encoder.name}, new weights"}
    facts["positions"] = "no" if about.positions is False else "yes"
    network = Model(encoder, about).to(device).eval()
    return Candidate(name, network, experiment, facts=facts)


def name_of(run: Run, taken: Sequence[str]) -> str:
    """Return a name of a run that is not yet taken: its folder, with parents if need be."""
    parts = run.path.absolute().parts
    names = ["/".join(parts[-count:]) for count in range(1, len(parts))]
    return next(name for name in names if name not in (*taken, UNTRAINED))


def projection_of(run: Run, device: torch.device) -> Projection | None:
    """Return what projects tokens as the pretraining did; None of methods without a projector."""
    objective = load_objective(run)
    inner = objective.image if isinstance(objective, OnViews) else objective
    projector = getattr(inner, "projector", None)
    if not isinstance(inner, Siamese) or projector is None:
        return None
    inner = inner.to(device).eval()

    @torch.no_grad()
    def project(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [
            projector(inner.pooling(torch.tensor(tokens[start : start + BATCH], device=device)))
            for start in range(0, len(tokens), BATCH)
        ]
        found: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return found

    return project
