"""A sample-efficiency curve: compared methods over labelled persons, as one resumable study."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biopart import figures
from biopart.experiment.experiment import open_experiment
from biopart.experiment.stored import stored_recipe
from biopart.files import read_json, write_json, write_text
from biopart.recipe import Recipe, as_recipe
from biopart.run import Run, origins
from biopart.settings import checked
from biopart.studies.cells import Board, Cell, Plan
from biopart.studies.curve.page import picture, write_page
from biopart.studies.curve.plan import plan_curve
from biopart.studies.curve.table import Curve, Finished, rows, write_csv
from biopart.studies.curve.verdict import verdict
from biopart.studies.work import Crew, carry_out, outlook, sharing

# What may differ between two calls into one folder: how much is done, and on which machine.
FREE: dict[str, Any] = {"compute": True, "seed": True, "data": {"store"}}
FREE_OF_CURVE = FREE | {"curve": {"methods", "sizes", "repeats", "published"}, "sweep": True}
KEPT = ("provenance.json", "metrics.jsonl", "encoder.safetensors", "objective.safetensors")


def open_board(
    file: Path, recipe: Recipe, fingerprint: str, free: Mapping[str, Any] = FREE_OF_CURVE
) -> Board:
    """Open a study by the file that says what it is of, which is written where there is none.

    Raises ValueError where the folder holds a study of another recipe: other than in ``free``.
    """
    if not file.is_file():
        write_json(file, identity(recipe, fingerprint, free))
    check_board(file, recipe, fingerprint, free)
    return Board(file.parent)


def check_board(
    file: Path, recipe: Recipe, fingerprint: str, free: Mapping[str, Any] = FREE_OF_CURVE
) -> None:
    """Refuse a folder that holds a study of another recipe, naming what differs."""
    if not file.is_file():
        return
    there = read_json(file)
    excluded: Any = dict(free)
    before = checked(Recipe, there["recipe"], f"the recipe in {file}")  # later keys: their defaults
    there["recipe"] = before.model_dump(mode="json", exclude=excluded)
    differing = [
        f"{key} is {before!r} there and {now!r} here"
        for key, (before, now) in compared(there, identity(recipe, fingerprint, free)).items()
    ]
    if differing:
        raise ValueError(
            f"{file.parent} holds a {file.stem} of another recipe: {'; '.join(differing)}; give "
            "another --out"
        )


def identity(recipe: Recipe, fingerprint: str, free: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two calls must have alike to share a folder."""
    excluded: Any = dict(free)
    return {
        "recipe": recipe.model_dump(mode="json", exclude=excluded),
        "store_sha256": fingerprint,
    }


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


def fitting(plan: Plan, paths: Sequence[Path], fingerprint: str) -> dict[Cell, Path]:
    """Return the cells of a curve that finished pretrainings stand for.

    A run is taken where its recipe is that of a method and seed of the curve: same store, split,
    encoder and pretraining; ValueError for any other, with what differs from the nearest one.
    """
    found = {}
    for path in paths:
        origin = Run(path).pretrained()
        recipe = stored_recipe(origin)
        gaps = {
            cell: learnt_otherwise(recipe, plan.variant(cell).seeded(cell.seed))
            for cell in plan.cells
            if cell.size is None
        }
        if not gaps:
            raise ValueError(f"{path} cannot be taken: no method of the curve is pretrained")
        cell, gap = min(gaps.items(), key=lambda item: len(item[1]))
        why = [
            f"its {key} is {its!r}, {cell.name} wants {ours!r}" for key, (its, ours) in gap.items()
        ]
        if not origin.encoder.is_file():
            why.append("it has no weights")
        elif origin.provenance()["store_sha256"] != fingerprint:
            why.append("it has learnt from another store")
        if why:
            raise ValueError(
                f"{path} cannot be taken as a pretraining of the curve: {'; '.join(why)}"
            )
        found[cell] = path
    return found


def adopt(plan: Plan, board: Board, taken: Mapping[Cell, Path]) -> list[str]:
    """Take finished pretrainings into a curve; return what became of each."""
    for cell, path in taken.items():
        origin = Run(path).pretrained()
        with board.taken(cell) as mine:
            if not mine:
                continue
            board.run(cell).path.mkdir(parents=True, exist_ok=True)
            for name in KEPT:
                shutil.copy2(origin.path / name, board.run(cell).path / name)
            # Its fine-tunings are the curve's, whatever the run's own recipe says of them.
            recipe = plan.variant(cell).seeded(cell.seed)
            write_text(board.run(cell).path / "recipe.yaml", recipe.to_yaml())
            board.settle(cell, {"seconds": None, "taken_from": str(path)})
    return [f"{path} is taken as {cell.name}" for cell, path in taken.items()]


def learnt_otherwise(one: Recipe, two: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return what differs where two recipes do not pretrain one encoder alike, by dotted key."""
    data = {"card", "channels", "window_s", "normalise"}
    wanted: Any = {"data": data, "split": True, "encoder": True, "pretrain": True, "seed": True}
    return compared(
        one.model_dump(mode="json", include=wanted), two.model_dump(mode="json", include=wanted)
    )


def compare(
    recipe: Recipe | Path | str,
    out: Path | None = None,
    *,
    jobs: int = 1,
    runs: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare methods over labelled persons, as ``biopart curve`` does.

    Parameters
    ----------
    recipe : Recipe, path or name of a shipped one
        Its ``curve`` section says methods, sizes and seeds.
    out : Path, optional
        Folder of the curve; ``curves/<name>`` by default. A stopped one is continued.
    jobs : int
        Processes. They are spawned: a script that calls this needs ``if __name__ == "__main__"``.
    runs : sequence of Path
        Finished pretrainings to use instead of new ones.
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
        If the folder holds a curve of another recipe, or a run of ``runs`` does not fit.
    """
    loaded = as_recipe(recipe)
    folder = Path("curves") / loaded.name if out is None else out
    return run_curve(loaded, folder, Crew(jobs, say=say), runs=runs)


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
    recipe, threads = sharing(recipe, crew.jobs)
    experiment = open_experiment(recipe)
    plan, notes = plan_curve(recipe, experiment)
    taken = fitting(plan, runs, experiment.cohort.fingerprint)
    board = open_board(out / "curve.json", recipe, experiment.cohort.fingerprint)
    for note in (*notes, *adopt(plan, board, taken)):
        crew.say(note)
    carry_out(plan, board, crew, threads)
    curve = gather(plan, board, recipe, notes=notes, simulated=experiment.simulated)
    return answer(curve, out)


def announce(recipe: Recipe, out: Path, crew: Crew, *, runs: Sequence[Path] = ()) -> dict[str, Any]:
    """Say what ``run_curve`` would do and how long that takes, from a few timed steps.

    Writes nothing; refuses what ``run_curve`` would refuse.
    """
    recipe, _ = sharing(recipe, crew.jobs)
    experiment = open_experiment(recipe)
    plan, notes = plan_curve(recipe, experiment)
    taken = fitting(plan, runs, experiment.cohort.fingerprint)
    check_board(out / "curve.json", recipe, experiment.cohort.fingerprint)
    return {**outlook(plan, Board(out), crew, taken=taken), "notes": notes}


def gather(
    plan: Plan, board: Board, recipe: Recipe, *, notes: Sequence[str], simulated: bool
) -> Curve:
    """Collect what the cells of a folder came to, also those of earlier calls."""
    planned = {cell.name: cell for cell in plan.cells}
    finished = {}
    order = {variant.name: place for place, variant in enumerate(plan.variants)}
    for path in board.path.glob("cells/*.json"):
        try:
            outcome = read_json(path)
        except FileNotFoundError:  # a failed cell that another process takes up again
            continue
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
    drawing = picture(curve)
    figures.save(drawing, out / f"{name}.png")
    write_page(out / f"{name}.html", curve, drawing)
    found |= {"summary": curve.summary, "differences": curve.differences}
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
