"""A sample-efficiency curve: compared methods over labelled persons, as one resumable study."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biopart import figures
from biopart.recipe import Recipe
from biopart.run import Run, origins, read_json, write_json
from biopart.studies.cells import Board, Cell, Plan
from biopart.studies.curve.page import picture, write_page
from biopart.studies.curve.plan import plan_curve
from biopart.studies.curve.table import (
    Curve,
    Finished,
    differences,
    rows,
    summary,
    verdict,
    write_csv,
)
from biopart.studies.estimate import estimate, overview
from biopart.studies.work import Crew, carry_out
from biopart.verbs.experiment import open_experiment
from biopart.verbs.pretrain import stored_recipe

# What may differ between two calls into one folder: how much is done, and on which machine.
FREE = {"compute": True, "seed": True, "data": {"store"}, "sweep": True}
FREE_OF_CURVE = {"methods", "sizes", "repeats", "published"}
KEPT = ("recipe.yaml", "provenance.json", "metrics.jsonl")
WEIGHTS = ("encoder.safetensors", "objective.safetensors")


def open_board(file: Path, recipe: Recipe, fingerprint: str) -> Board:
    """Open a study by the file that says what it is of; ValueError where that is another recipe."""
    excluded: dict[str, Any] = {**FREE, "curve": FREE_OF_CURVE}
    mine = {
        "recipe": recipe.model_dump(mode="json", exclude=excluded),
        "store_sha256": fingerprint,
    }
    if not file.is_file():
        write_json(file, mine)
    there = read_json(file)
    differing = [
        f"{key} is {before!r} there and {now!r} here"
        for key, (before, now) in compared(there, mine).items()
    ]
    if differing:
        raise ValueError(
            f"{file.parent} holds a {file.stem} of another recipe: {'; '.join(differing)}; give "
            "another --out"
        )
    return Board(file.parent)


def compared(
    one: Mapping[str, Any], two: Mapping[str, Any], before: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Return the values that differ between two nested mappings, by their dotted keys.

    Examples
    --------
    >>> compared({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    {'a.c': (2, 3)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**one, **two}:
        left, right = one.get(key), two.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found |= compared(left, right, f"{before}{key}.")
        elif left != right:
            found[f"{before}{key}"] = (left, right)
    return found


def adopt(plan: Plan, board: Board, paths: Sequence[Path], fingerprint: str) -> list[str]:
    """Take finished pretrainings into a curve; return what became of each.

    A run is taken where its recipe is that of a method and seed of the curve: same store, split,
    encoder and pretraining; ValueError for any other.
    """
    said = []
    for path in paths:
        origin = Run(path).pretrained()
        recipe = stored_recipe(origin)
        cell = next(
            (
                cell
                for cell in plan.cells
                if cell.size is None
                and cell.seed == recipe.seed
                and learnt_alike(plan.variant(cell).recipe, recipe)
            ),
            None,
        )
        if cell is None:
            why = "its recipe is that of no method and seed of the curve"
        elif not origin.encoder.is_file():
            why = "it has no weights"
        elif origin.provenance()["store_sha256"] != fingerprint:
            why = "it has learnt from another store"
        else:
            why = None
        if cell is None or why is not None:
            raise ValueError(f"{path} cannot be taken as a pretraining of the curve: {why}")
        if not board.is_done(cell):
            board.run(cell).path.mkdir(parents=True, exist_ok=True)
            for name in (*KEPT, *WEIGHTS):
                shutil.copy2(origin.path / name, board.run(cell).path / name)
            board.settle(cell, {"seconds": None, "taken_from": str(path)})
        said.append(f"{path} is taken as {cell.name}")
    return said


def learnt_alike(one: Recipe, two: Recipe) -> bool:
    """Tell whether two recipes pretrain one encoder on the same windows of the same persons."""
    keys = {"data": {"card", "channels", "window_s", "normalise"}, "split": True, "encoder": True}
    wanted: Any = {**keys, "pretrain": True}
    return one.model_dump(include=wanted) == two.model_dump(include=wanted)


def run_curve(
    recipe: Recipe, out: Path, crew: Crew, *, runs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Run a recipe's curve to its end, or on from where it stopped, and write its answer.

    Parameters
    ----------
    recipe : Recipe
        Its ``curve`` section says methods, sizes and repeats.
    out : Path
        The folder; any number of processes and machines may share it.
    crew : Crew
        Processes started here.
    runs : sequence of Path
        Finished pretrainings to take instead of new ones.

    Returns
    -------
    dict
        ``summary``, ``differences``, ``verdict``, ``failed`` and the files written.
    """
    recipe, crew = shared(recipe, crew)
    experiment = open_experiment(recipe)
    plan, notes = plan_curve(recipe, experiment)
    board = open_board(out / "curve.json", recipe, experiment.cohort.fingerprint)
    for note in (*notes, *adopt(plan, board, runs, experiment.cohort.fingerprint)):
        crew.say(note)
    carry_out(plan, board, crew)
    curve = gather(plan, board, recipe, notes=notes, simulated=experiment.simulated)
    return answer(curve, out)


def announce(recipe: Recipe, out: Path, crew: Crew) -> dict[str, Any]:
    """Say what a curve would do and how long that takes, from a few timed steps of each method."""
    recipe, crew = shared(recipe, crew)
    plan, notes = plan_curve(recipe, open_experiment(recipe))
    seconds = estimate(plan, crew.say)
    return {**overview(plan, Board(out), seconds, crew.jobs), "notes": notes}


def shared(recipe: Recipe, crew: Crew) -> tuple[Recipe, Crew]:
    """Let the processes of a crew share the cores, in the recipe too."""
    crew = crew.sharing(recipe.compute)
    compute = recipe.compute.model_copy(update={"threads": crew.threads})
    return recipe.model_copy(update={"compute": compute}), crew


def gather(
    plan: Plan, board: Board, recipe: Recipe, *, notes: Sequence[str], simulated: bool
) -> Curve:
    """Collect what the cells of a folder came to, also those of earlier calls."""
    planned = {cell.name: cell for cell in plan.cells}
    finished = {}
    order = {variant.name: place for place, variant in enumerate(plan.variants)}
    for path in board.path.glob("cells/*.json"):
        outcome = read_json(path)
        if "result" in outcome:
            cell = Cell(outcome["variant"], outcome["seed"], outcome["size"])
            result = outcome["result"] | {"seconds": outcome["seconds"]}
            finished[cell] = Finished(
                cell.variant, outcome["size"], cell.seed, result, outcome.get("probe")
            )
    failed = {
        name: why for name, cell in planned.items() if (why := board.reason(plan, cell)) is not None
    }
    missing = [name for name, cell in planned.items() if board.is_open(plan, cell)]
    last = len(order)
    cells = sorted(
        finished.values(), key=lambda c: (order.get(c.method, last), c.method, c.size, c.seed)
    )
    return Curve(
        title=recipe.name,
        unit=recipe.curve.unit,
        cells=tuple(cells),
        failed=failed,
        missing=tuple(missing),
        notes=tuple(notes),
        simulated=simulated,
        published=recipe.curve.published,
        settings=recipe.model_dump(mode="json"),
        provenance=origins(),
    )


def answer(curve: Curve, out: Path, name: str = "curve") -> dict[str, Any]:
    """Write table, picture and page of a curve; return what they say."""
    found: dict[str, Any] = {"failed": dict(curve.failed), "missing": list(curve.missing)}
    if not curve.cells:
        return found
    write_csv(out / f"{name}.csv", rows(curve))
    figures.save(picture(curve), out / f"{name}.png")
    write_page(out / f"{name}.html", curve)
    found |= {"summary": summary(curve), "differences": differences(curve)}
    files = {kind: str(out / f"{name}.{kind}") for kind in ("csv", "png", "html")}
    return {**found, "verdict": verdict(curve), "notes": list(curve.notes), "files": files}


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """Return an answer as lines for a reader: figures by method and size, then what they say."""
    lines = [
        f"{row['method']:16} {row['size']:>5}  kappa {figure(row['kappa'])} "
        f"[{figure(row['ci95'][0])}, {figure(row['ci95'][1])}]  probe {figure(row['probe_kappa'])}"
        for row in found.get("summary", [])
    ]
    lines += found.get("verdict", [])
    lines += [f"failed {name}: {why}" for name, why in found["failed"].items()]
    return lines + [f"{kind}: {path}" for kind, path in found.get("files", {}).items()]


def figure(value: float | None) -> str:
    """Return a figure with three decimals, a dash where there is none.

    Examples
    --------
    >>> figure(0.61234), figure(None)
    ('0.612', '-')
    """
    return "-" if value is None else f"{value:.3f}"
