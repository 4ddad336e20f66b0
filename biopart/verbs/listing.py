"""List recipes, cards, objectives and encoders, and the runs in a folder."""

import json
import time
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from biopart.recipe import ResnetSettings, VitSettings
from biopart.recipe.objectives import PRETRAINING
from biopart.run import Run
from biopart.settings import read_yaml, shipped

Kind = Literal["recipes", "cards", "objectives", "encoders"]
DEPTH = 3  # runs/NAME/TIME, and a curve's OUT/runs/NAME


def choices(kind: Kind) -> dict[str, str]:
    """Return the names of one kind, sorted, with one line about each.

    Examples
    --------
    >>> list(choices("objectives"))
    ['byol', 'cossl', 'dino', 'droppos', 'mae', 'moby', 'mp3', 'part', 'selfpatch', 'sum']
    """
    if kind == "recipes":
        return {path.stem: _head(path) for path in shipped("recipes")}
    if kind == "cards":
        return {path.stem: str(read_yaml(path).get("title", "")) for path in shipped("datasets")}
    if kind == "objectives":
        objectives = {
            str(settings.model_fields["name"].default): _line(settings) for settings in PRETRAINING
        }
        return dict(sorted(objectives.items()))
    encoders = (ResnetSettings, VitSettings)
    return {str(one.model_fields["name"].default): _line(one) for one in encoders}


def _line(documented: type) -> str:
    """Return the first line of a docstring."""
    return (documented.__doc__ or "").strip().splitlines()[0]


def _head(path: Path) -> str:
    """Return the first sentence of the comment at the head of a recipe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line.lstrip("# ") for line in takewhile(lambda t: t.startswith("#"), lines)]
    text = "".join(line if line.endswith("-") else f"{line} " for line in comment)
    return text.partition(". ")[0].strip().rstrip(".")


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """Return the runs in a folder and below, the newest first.

    Returns
    -------
    list of dict
        ``run`` (its folder), ``recipe``, ``step`` and ``steps``, ``probe_kappa`` of the newest
        probe while training, ``kappa`` of the newest fine-tuning (None without one), ``damaged``
        (whether its result.json is unreadable) and ``age_s``,
        seconds since the run last changed.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; create a run with: biopart pretrain RECIPE"
        )
    folders = [path.parent for n in range(DEPTH) for path in folder.glob("*/" * n + "recipe.yaml")]
    rows = [_row(Run(path)) for path in folders]
    return sorted(rows, key=lambda row: float(row["age_s"]))


def _row(run: Run) -> dict[str, Any]:
    """Describe one run; a damaged result is marked, so that the other runs are still shown."""
    rows = run.metrics()
    tuned = run.finetunings()
    files = [path for path in run.path.iterdir() if path.is_file()]
    changed = max(path.stat().st_mtime for path in (*files, *(one.path for one in tuned)))
    kappa, damaged = None, False
    try:
        kappa = tuned[-1].result()["kappa"] if tuned else None
    except (json.JSONDecodeError, KeyError):
        damaged = True
    probes = [row["probe/kappa"] for row in rows if "probe/kappa" in row]
    steps = [row["steps"] for row in rows if "steps" in row]
    return {
        "run": str(run.path),
        "recipe": read_yaml(run.path / "recipe.yaml").get("name"),
        "step": rows[-1]["step"] if rows else 0,
        "steps": steps[-1] if steps else None,
        "probe_kappa": probes[-1] if probes else None,
        "kappa": kappa,
        "damaged": damaged,
        "age_s": time.time() - changed,
    }


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """Return runs as the lines of a table; with a column probe if a run was probed.

    Examples
    --------
    >>> row = {"run": "runs/a", "recipe": "demo", "step": 5, "steps": 9, "kappa": None}
    >>> row |= {"probe_kappa": None, "damaged": False, "age_s": 7200.0}
    >>> lines_of([row])
    ['run     recipe  steps  kappa  age', 'runs/a  demo    5/9    -      2 h']
    >>> lines_of([row | {"probe_kappa": 0.5}])
    ['run     recipe  steps  probe  kappa  age', 'runs/a  demo    5/9    0.500  -      2 h']
    """
    has_probes = any(row["probe_kappa"] is not None for row in rows)
    table = [["run", "recipe", "steps", *(["probe"] if has_probes else []), "kappa", "age"]]
    for row in rows:
        probe, kappa = (
            "-" if row[key] is None else f"{row[key]:.3f}" for key in ("probe_kappa", "kappa")
        )
        kappa = "damaged" if row["damaged"] else kappa
        done = f"{row['step']}/{'?' if row['steps'] is None else row['steps']}"
        table.append(
            [
                row["run"],
                str(row["recipe"]),
                done,
                *([probe] if has_probes else []),
                kappa,
                age_text(row["age_s"]),
            ]
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    pairs = [zip(line, widths, strict=True) for line in table]
    return ["  ".join(f"{text:{width}}" for text, width in pair).rstrip() for pair in pairs]


def age_text(seconds: float) -> str:
    """Return an age in its largest whole unit.

    Examples
    --------
    >>> age_text(59.0), age_text(180.0), age_text(7200.0), age_text(200000.0)
    ('59 s', '3 min', '2 h', '2 d')
    """
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
