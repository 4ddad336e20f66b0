"""A sweep: one or more values of a recipe tried in turn, all else equal, on the same persons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from biopart import figures
from biopart.experiment.classes import check_test
from biopart.experiment.experiment import Experiment, open_experiment
from biopart.recipe import Recipe, SweepSettings, resolve
from biopart.studies.cells import Board, Plan, Variant, file_name
from biopart.studies.curve.curve import FREE, check_board, figure, gather, open_board
from biopart.studies.curve.plan import look_at_subsets
from biopart.studies.curve.table import Curve, rows, write_csv
from biopart.studies.sweep.page import picture, write_page
from biopart.studies.work import Crew, carry_out, outlook, sharing

SHOWN = (
    *("validation/loss", "validation/r2", "validation/r2_excess", "validation/accuracy"),
    *("validation/error", "validation/error_axis_0", "validation/error_axis_1"),
)
SWEPT = ("data.window_s", "data.channels", "data.normalise", "encoder.", "pretrain.", "finetune.")

Over = Mapping[str, Sequence[Any]]


def parse_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``key=a,b,c`` as a key and its values, each a YAML value.

    Examples
    --------
    >>> parse_over(["pretrain.objective.pairs=10, 40", "encoder.patch=[50],[100]"])
    {'pretrain.objective.pairs': [10, 40], 'encoder.patch': [[50], [100]]}
    """
    over = {}
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
        over[key.strip()] = listed
    return over


def plan_sweep(recipe: Recipe, experiment: Experiment) -> tuple[Plan, list[str]]:
    """Lay out a sweep: a variant for each combination of values, and what to know of it."""
    split, settings = experiment.split, recipe.sweep
    test = experiment.source(split.test, labelled=True, keep_bad=True)
    size = min(recipe.finetune.subjects, split.most)
    notes = [*experiment.notes, *check_test(experiment, test)]
    notes += split.shortage(recipe.finetune.subjects)
    seeds = tuple(range(recipe.seed, recipe.seed + settings.repeats))
    skipped, said = look_at_subsets(experiment, (size,), seeds)
    return Plan(variants_of(recipe, settings.over), (size,), seeds, skipped), notes + said


def variants_of(recipe: Recipe, over: Over) -> tuple[Variant, ...]:
    """Return a variant for every combination of values.

    Raises ValueError where a key is none that may be swept, or a value is not allowed.
    """
    if not over:
        raise ValueError("a sweep needs --over key=a,b,c or sweep.over in the recipe")
    for key in over:
        if not key.startswith(SWEPT):
            raise ValueError(
                f"{key} cannot be swept, since all variants share persons and windows; sweep "
                f"a key under {', '.join(SWEPT)}"
            )
    if "finetune.subjects" in over:
        raise ValueError("all variants of a sweep share persons; for their number take a curve")
    variants = []
    for values in product(*over.values()):
        chosen = dict(zip(over, values, strict=True))
        changes = [
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen.items()
        ]
        changed = resolve(recipe.model_dump(mode="json"), changes, f"sweep of {recipe.name}")
        variants.append(Variant(variant_name(chosen, recipe), changed))
    return tuple(variants)


def variant_name(chosen: Mapping[str, Any], recipe: Recipe) -> str:
    """Name a variant by its values, each under the shortest ending of its key that is its own.

    Examples
    --------
    >>> variant_name({"pretrain.objective.pairs": 10, "pretrain.lr": 0.1}, Recipe())
    'pairs=10+pretrain.lr=0.1'
    """
    keys = [key for key in dotted(recipe.model_dump(mode="json")) if key.startswith(SWEPT)]
    return file_name("+".join(f"{own_ending(k, keys)}={value}" for k, value in chosen.items()))


def own_ending(key: str, keys: Sequence[str]) -> str:
    """Return the shortest dotted ending of a key that no other key has.

    Examples
    --------
    >>> own_ending("pretrain.lr", ["pretrain.lr", "finetune.lr"]), own_ending("a.b", ["a.b", "a.c"])
    ('pretrain.lr', 'b')
    """
    parts = key.split(".")
    for start in reversed(range(len(parts))):
        ending = ".".join(parts[start:])
        if not any(f".{other}".endswith(f".{ending}") for other in keys if other != key):
            return ending
    return key


def dotted(values: Mapping[str, Any], before: str = "") -> list[str]:
    """Return the dotted keys of nested mappings.

    Examples
    --------
    >>> dotted({"a": {"b": 1}, "c": 2})
    ['a', 'a.b', 'c']
    """
    found = []
    for key, value in values.items():
        found.append(f"{before}{key}")
        if isinstance(value, Mapping):
            found += dotted(value, f"{before}{key}.")
    return found


def run_sweep(recipe: Recipe, out: Path, crew: Crew) -> dict[str, Any]:
    """Run a recipe's sweep to its end, or on from where it stopped, and write its table.

    Parameters
    ----------
    recipe : Recipe
        Its ``sweep`` section says over what, ``finetune.subjects`` on how many persons.
    out : Path
        The folder; any number of processes and machines may share it.
    crew : Crew
        Processes started here.

    Returns
    -------
    dict
        ``table`` with a row per variant, ``failed``, ``notes`` and the files written.
    """
    recipe, threads = sharing(recipe, crew.jobs)
    experiment = open_experiment(recipe)
    plan, notes = plan_sweep(recipe, experiment)
    fingerprint = experiment.cohort.fingerprint
    board = open_board(out / "sweep.json", lasting(recipe), fingerprint, FREE | {"curve": True})
    for note in notes:
        crew.say(note)
    carry_out(plan, board, crew, threads)
    curve = gather(plan, board, recipe, notes=notes, simulated=experiment.simulated)
    planned = {(cell.variant, cell.size, cell.seed) for cell in plan.cells}
    cells = tuple(c for c in curve.cells if (c.method, c.size, c.seed) in planned)
    curve = replace(curve, cells=cells)
    return answer(recipe, curve, held_out(plan, board), out)


def announce(recipe: Recipe, out: Path, crew: Crew) -> dict[str, Any]:
    """Say what ``run_sweep`` would do and how long that takes, from a few timed steps.

    Writes nothing; refuses what ``run_sweep`` would refuse.
    """
    recipe, _ = sharing(recipe, crew.jobs)
    experiment = open_experiment(recipe)
    plan, notes = plan_sweep(recipe, experiment)
    fingerprint = experiment.cohort.fingerprint
    check_board(out / "sweep.json", lasting(recipe), fingerprint, FREE | {"curve": True})
    return {**outlook(plan, Board(out), crew), "notes": notes}


def lasting(recipe: Recipe) -> Recipe:
    """Return what a folder keeps of a sweep's recipe: its keys, whose values may be added to.

    Cells are named by values, which say nothing without the keys.
    """
    keys = SweepSettings(over={key: [] for key in recipe.sweep.over})
    return recipe.model_copy(update={"sweep": keys})


def answer(
    recipe: Recipe, curve: Curve, held: Mapping[str, Mapping[str, Any]], out: Path
) -> dict[str, Any]:
    """Write table, picture and page of a sweep; return what they say."""
    found: dict[str, Any] = {"failed": dict(curve.failed), "missing": list(curve.missing)}
    if not curve.cells:
        return found
    write_csv(out / "sweep.csv", rows(curve))
    table = tabulated(curve, held)
    over = recipe.sweep.over
    values = {variant_name({key: value}, recipe): value for key in over for value in over[key]}
    places = [values.get(row["method"], row["method"]) for row in table]
    drawing = picture(curve, table, places, " and ".join(over))
    figures.save(drawing, out / "sweep.png")
    write_page(out / "sweep.html", curve, table, drawing)
    files = {kind: str(out / f"sweep.{kind}") for kind in ("csv", "png", "html")}
    return {**found, "table": table, "notes": list(curve.notes), "files": files}


def tabulated(curve: Curve, held: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per variant: its values, kappas with intervals, and held-out figures.

    Held-out figures are means over the seeds' pretrainings; kappas as in a curve.
    """
    return [{**held.get(row["method"], {}), **row} for row in curve.summary]


def held_out(plan: Plan, board: Board) -> dict[str, dict[str, Any]]:
    """Return, per variant, the means over seeds of what its pretrainings last said of others.

    These are the figures of validation persons; they are comparable across variants only where
    the swept key does not change what they mean.
    """
    found = {}
    for variant in plan.variants:
        last = [
            row
            for cell in plan.cells
            if cell.size is None and cell.variant == variant.name
            for row in board.run(cell).metrics()[-1:]
        ]
        keys = [key for key in (last[0] if last else {}) if key.startswith("validation/")]
        found[variant.name] = {
            key: float(np.mean([row[key] for row in last if row.get(key) is not None] or [np.nan]))
            for key in keys
        }
    return found


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """Return a sweep's table as lines for a reader."""
    lines = []
    for row in found.get("table", []):
        low, high = map(figure, row["ci95"])
        shown = [f"{row['method']:28} kappa {figure(row['kappa'])} [{low}, {high}]"]
        shown += [
            f"{key.removeprefix('validation/')} {figure(row[key])}"
            for key in SHOWN
            if row.get(key) is not None
        ]
        lines.append("  ".join(shown))
    lines += [f"failed {name}: {why}" for name, why in found["failed"].items()]
    return lines + [f"{kind}: {path}" for kind, path in found.get("files", {}).items()]
