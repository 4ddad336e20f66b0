"""What a run was: its recipe, and its objective with heads and all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from torch import nn

from biopart.experiment.weights import run_of
from biopart.nn import Encoder, Model
from biopart.nn.weights import load_tensors
from biopart.objectives import PRETRAINING, Part
from biopart.recipe import Objective, Recipe, resolve
from biopart.run import Run
from biopart.settings import read_yaml


def stored_recipe(
    run: Run,
    changes: Sequence[str] = (),
    store: Path | None = None,
    *,
    kind: Literal["pretraining", "detection", "segmentation"] = "pretraining",
) -> Recipe:
    """Load the recipe of a run, with changes, and with the store where it lies now.

    Raises ValueError where the run is of another kind.
    """
    run.require(kind)
    values = read_yaml(run.path / "recipe.yaml")
    if store is not None:
        values.setdefault("data", {})["store"] = str(store)
    return resolve(values, changes, f"recipe of {run.path}")


def method_of(where: str) -> Objective | None:
    """Return the objective of the run that weights come from; None of a file or a timm model."""
    run = run_of(where)
    return None if run is None else stored_recipe(run.pretrained()).pretrain.objective


def build_objective(encoder: Encoder, settings: Objective) -> nn.Module:
    """Build the objective that settings belong to, on an encoder."""
    if settings.cuts_patches and not encoder.takes_patches:
        raise ValueError(
            f"objective {settings.name} hides or moves patches, which encoder {encoder.name} "
            "cannot do; choose encoder vit"
        )
    objective: nn.Module = PRETRAINING[type(settings)](encoder, settings)
    return objective


def exported(objective: nn.Module) -> Encoder:
    """Return the encoder that is saved: the objective's, or its teacher if the method has one."""
    return cast(Encoder, getattr(objective, "exported", objective.encoder))


def places_of(module: nn.Module, inside: nn.Module) -> list[str]:
    """Return the names under which a module lies in another one; there may be several."""
    named = inside.named_modules(remove_duplicate=False)
    return [name for name, found in named if found is module]


def load_objective(run: Run) -> nn.Module:
    """Load the objective of a finished run, heads and all, on the CPU and in evaluation mode.

    Raises FileNotFoundError where the run has no weights yet.
    """
    origin = run.pretrained()
    encoder = Model.load(origin).encoder
    heads, _ = load_tensors(origin.path / "objective.safetensors")
    objective = build_objective(encoder, stored_recipe(origin).pretrain.objective)
    own = encoder.state_dict()
    saved = places_of(exported(objective), objective)
    state = {f"{place}.{name}": value for place in saved for name, value in own.items()}
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
    if part.settings.target == "capped":
        raise ValueError(
            f"{origin.path} was trained on capped targets: it does not say how far apart patches "
            f"are beyond {part.settings.target_cap:g} patch sizes; {why} with another target"
        )
    return part
