"""What a study compares: variants of one recipe, by method or by changed settings."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter

from biopart.files import flat
from biopart.recipe import Method, Objective, PartSettings, Position, Recipe, resolve
from biopart.recipe.training import without_section
from biopart.settings import changes_of, combinations

Kind = Literal["pretrained", "scratch", "untrained_mean", "band_powers", "pixels"]
"""How a variant is trained: fine-tuned, from scratch, or a probe without training a network."""

Grid = Mapping[str, Sequence[Any]]
"""Dotted keys of a recipe with the values to try."""

STEPS_MARK = "@"  # method@steps, of a length that is not the recipe's own
SWEPT = ("data.window_s", "data.channels", "data.normalise", "encoder.", "pretrain.", "finetune.")


@dataclass(frozen=True)
class Variant:
    """One line of a study: a name, the whole recipe behind it, and how it is trained."""

    name: str
    recipe: Recipe
    kind: Kind = "pretrained"

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe of one repeat; of a cross-validation every seed has the next fold."""
        changes: dict[str, object] = {"seed": seed}
        folds = self.recipe.split.folds
        if folds is not None:
            changes["split"] = self.recipe.split.model_copy(update={"fold": seed % folds})
        return self.recipe.model_copy(update=changes)


def methods_of(recipe: Recipe) -> tuple[Variant, ...]:
    """Return the methods of a recipe's curve, with each of its lengths of pretraining."""
    variants = []
    for method in recipe.curve.methods:
        own = method_recipe(recipe, method)
        if is_supervised(method):
            variants.append(Variant(method, own, "scratch"))
            continue
        for steps in sorted(recipe.curve.lengths) or (own.pretrain.steps,):
            pretraining = own.pretrain.model_copy(update={"steps": steps})
            name = method if steps == own.pretrain.steps else f"{method}{STEPS_MARK}{steps}"
            variants.append(Variant(name, own.model_copy(update={"pretrain": pretraining})))
    return tuple(variants)


def method_and_steps(name: str, steps: int | None) -> tuple[str, int | None]:
    """Return the method of a variant and its steps; ``steps`` are the recipe's own.

    Examples
    --------
    >>> method_and_steps("mae@3000", 600), method_and_steps("mae", 600)
    (('mae', 3000), ('mae', 600))
    """
    method, mark, length = name.partition(STEPS_MARK)
    return method, int(length) if mark else steps


def baselines_of(recipe: Recipe, *, images: bool) -> tuple[Variant, ...]:
    """Return the variants that train no network."""
    without = Variant("band-powers", recipe, "band_powers")
    if images:
        without = Variant("pixels", recipe, "pixels")
    return Variant("untrained", recipe, "untrained_mean"), without


POSITIONS: dict[Method, Position] = {"supervised-nopos": "none", "supervised-relative": "relative"}
"""Supervised baselines whose positions are not the protocol's."""


def is_supervised(method: str) -> bool:
    """Tell whether a method needs no pretraining."""
    return method.startswith("supervised")


def method_recipe(recipe: Recipe, method: Method) -> Recipe:
    """Return a recipe with the objective of a method and the settings of its own.

    What its fine-tuning leaves open is decided by its authors' protocol, or, of a supervised
    baseline, by DeiT's.
    """
    search = recipe.curve.search
    if search:
        tuning = recipe.finetune.model_copy(update={"search": without_section(search)})
        recipe = recipe.model_copy(update={"finetune": tuning})
    if is_supervised(method):
        if method in POSITIONS:
            tuning = recipe.finetune.model_copy(update={"position": POSITIONS[method]})
            recipe = recipe.model_copy(update={"finetune": tuning})
    else:
        objective = objective_of(recipe, method.removesuffix("-grid"))
        if method == "part-grid":
            assert isinstance(objective, PartSettings)
            # Patches of the grid have one size, so nothing is drawn or predicted of sizes.
            changes = {"on_grid": True, "scale": (1.0, 1.0), "sides": "log", "size_target": "log"}
            objective = objective.model_copy(update=changes)
        pretraining = recipe.pretrain.model_copy(update={"objective": objective})
        recipe = recipe.model_copy(update={"pretrain": pretraining})
    own = recipe.curve.changes.get(method, {})
    if not own:
        return recipe
    values = recipe.model_dump(mode="json")
    return resolve(values, changes_of(own), f"curve.changes of {method}")


def objective_of(recipe: Recipe, name: str) -> Objective:
    """Return an objective's settings: the recipe's own, those of its curve, else the defaults."""
    for settings in (recipe.pretrain.objective, *recipe.curve.objectives):
        if settings.name == name:
            return settings
    default: Objective = TypeAdapter(Objective).validate_python({"name": name})
    return default


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``key=a,b,c`` as a key and its values, each a YAML value.

    Examples
    --------
    >>> parse_grid(["pretrain.objective.pairs=10, 40", "encoder.patch=[50],[100]"])
    {'pretrain.objective.pairs': [10, 40], 'encoder.patch': [[50], [100]]}
    """
    grid = {}
    for text in texts:
        key, separator, values = text.partition("=")
        try:
            listed = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            listed = []
        if not separator or not key.strip() or not listed:
            raise ValueError(
                f"--over takes key=a,b,c, for instance encoder.depth=2,4; got {text!r}"
            )
        grid[key.strip()] = listed
    return grid


def settings_of(recipe: Recipe) -> tuple[Variant, ...]:
    """Return a variant for every combination of the values of a recipe's sweep.

    Raises ValueError where a key cannot be swept, or a value is not allowed.
    """
    grid = recipe.sweep.over
    if not grid:
        raise ValueError("a sweep needs --over key=a,b,c or sweep.over in the recipe")
    for key in grid:
        if not key.startswith(SWEPT):
            raise ValueError(
                f"{key} cannot be swept, since all variants share persons and windows; sweep "
                f"a key under {', '.join(SWEPT)}"
            )
    if "finetune.subjects" in grid:
        raise ValueError("all variants of a sweep share persons; to vary their number, use a curve")
    variants = []
    for chosen, changes in combinations(grid):
        changed = resolve(recipe.model_dump(mode="json"), changes, f"sweep of {recipe.name}")
        variants.append(Variant(variant_name(chosen, recipe), changed))
    return tuple(variants)


def variant_name(chosen: Mapping[str, Any], recipe: Recipe) -> str:
    """Name a variant by its values, each under the shortest ending that only its key has.

    Examples
    --------
    >>> variant_name({"pretrain.objective.pairs": 10, "pretrain.lr": 0.1}, Recipe())
    'pairs=10+pretrain.lr=0.1'
    """
    leaves = [key for key in flat(recipe.model_dump(mode="json")) if key.startswith(SWEPT)]
    keys = {key[:end] for key in leaves for end, mark in enumerate(f"{key}.") if mark == "."}
    return file_name("+".join(f"{own_ending(k, keys)}={value}" for k, value in chosen.items()))


def own_ending(key: str, keys: Iterable[str]) -> str:
    """Return the shortest dotted ending of a key that no other key has.

    Examples
    --------
    >>> own_ending("pretrain.lr", ["pretrain.lr", "finetune.lr"]), own_ending("a.b", ["a.b", "a.c"])
    ('pretrain.lr', 'b')
    """
    parts = key.split(".")
    others = [f".{other}" for other in keys if other != key]
    endings = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
    return next((e for e in endings if not any(o.endswith(f".{e}") for o in others)), key)


def file_name(text: str) -> str:
    """Turn a variant's name into one that every file system takes.

    Examples
    --------
    >>> file_name("pairs=10"), file_name("scale=[0.5, 2]")
    ('pairs=10', 'scale=0.5_2')
    """
    return re.sub(r"[^\w.=+-]+", "_", text.replace("[", "").replace("]", "")).strip("_")
