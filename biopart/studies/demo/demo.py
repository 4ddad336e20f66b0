"""The demonstration: simulated nights, prepared, learnt from, staged, and a page of it all.

Everything goes through the verbs that real recordings go through. A second call into the same
folder takes what is finished: nights and store always, trainings where recipe, store, versions and
commit are the same; a training that was stopped goes on, any other begins anew.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from biopart.data import open_cohort
from biopart.recipe import Recipe, load_recipe
from biopart.run import Run, origins
from biopart.signals.ingest import ingest
from biopart.signals.simulate import simulate_cohort
from biopart.store import load_card
from biopart.studies.demo.page import BANNER, write_page
from biopart.train import Row
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain, resume

CARD, RECIPE = "physionet2018", "demo"
SIZES = (1, 2, 4)

Say = Callable[[str], None]
Made = TypeVar("Made")


@dataclass
class Clock:
    """Seconds of each part of the demonstration; None = taken from an earlier call."""

    say: Say
    seconds: dict[str, float | None] = field(default_factory=dict)

    def part(self, name: str, call: Callable[[], tuple[Made, bool]]) -> Made:
        """Do a part, which returns what it made and whether it had to work for it."""
        self.say(f"{name} ...")
        begun = time.perf_counter()
        made, worked = call()
        seconds = time.perf_counter() - begun
        self.seconds[name] = seconds if worked else None
        self.say(f"{name}: {seconds:.1f} s" if worked else f"{name}: there before, taken as it is")
        return made


def run_demo(
    out: Path,
    say: Say,
    *,
    persons: int = 12,
    hours: float = 1.0,
    sizes: Sequence[int] = SIZES,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Simulate nights, prepare them, pretrain, fine-tune, and write a page of it all.

    Parameters
    ----------
    out : Path
        Folder for nights, store, run, page and pictures; taken up where an earlier call ended.
    say : callable
        Gets lines of progress.
    persons, hours : int, float
        Simulated persons and the length of their nights.
    sizes : sequence of int
        Labelled persons of the fine-tunings.
    changes : sequence of str
        ``a.b=value`` settings that replace the shipped recipe's.

    Returns
    -------
    dict
        JSON-ready: ``page``, ``pictures``, ``run``, ``simulated``, ``rows`` (per size the results
        ``part`` and ``scratch``), ``pretraining`` (last held-out figures) and ``seconds``.

    Raises
    ------
    ValueError
        If the folder holds something else, or other simulated nights.
    """
    store = out / "nights.zarr"
    recipe = load_recipe(RECIPE, changes)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": store})})
    clock = Clock(say)
    clock.part("simulate", lambda: simulate(out / "raw", persons, hours, say))
    clock.part("prepare", lambda: prepare(out / "raw", store))
    run = clock.part("pretrain", lambda: pretrained(recipe, out / "run", say))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        row: dict[str, Any] = {"persons": size}
        for method in ("part", "scratch"):
            name = f"finetune with {size}{', from scratch' if method == 'scratch' else ''}"
            row[method] = clock.part(name, partial(finetuned, run, size, method)).result()
        rows.append(row)
    say("page ...")
    page, pictures = write_page(out, run, rows, clock.seconds)
    held_out = [line for line in run.metrics() if "validation/r2" in line]
    return {
        "page": str(page),
        "pictures": [str(path) for path in pictures],
        "run": str(run.path),
        "simulated": True,
        "rows": rows,
        "pretraining": held_out[-1] if held_out else {},
        "seconds": clock.seconds,
    }


def simulate(raw: Path, persons: int, hours: float, say: Say) -> tuple[list[Path], bool]:
    """Simulate the nights that are not there yet."""
    complete = (raw / "training" / "RECORDS").is_file()
    report: Say = (lambda line: None) if complete else say
    files = simulate_cohort(raw, persons=persons, hours=hours, seed=0, kind="wfdb", report=report)
    return files, not complete


def prepare(raw: Path, store: Path) -> tuple[Path, bool]:
    """Prepare the nights that the store does not hold yet, by the shipped card."""
    report = ingest(load_card(CARD), raw, store)
    if report.refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.refused.items())
        raise ValueError(f"{reasons}; remove {raw} and start the demonstration again")
    return store, bool(report.written)


def pretrained(recipe: Recipe, folder: Path, say: Say) -> tuple[Run, bool]:
    """Pretrain, go on with a pretraining that was stopped, or take a finished one."""

    def report(row: Row) -> None:
        if "validation/r2" in row:
            say(f"pretrain step {row['step']}: held-out R2 {row['validation/r2']:.3f}")

    run = Run(folder)
    if is_current(run, recipe):
        if run.encoder.is_file():
            return run, False
        return resume(folder, report), True
    if folder.is_dir():
        ours = any((folder / name).is_file() for name in ("recipe.yaml", "provenance.json"))
        if any(folder.iterdir()) and not ours:
            raise ValueError(f"{folder} holds something else than a run; choose another folder")
        if ours:
            say("the run that is there has another recipe, store or version: trained anew")
        shutil.rmtree(folder)
    return pretrain(recipe, out=folder, report=report), True


def is_current(run: Run, recipe: Recipe) -> bool:
    """Tell whether a run was made from this recipe and store by the software that runs now."""
    made, settings = run.path / "provenance.json", run.path / "recipe.yaml"
    if not made.is_file() or not settings.is_file():
        return False
    then, now = run.provenance(), origins()
    now |= {"store_sha256": open_cohort(recipe.data.store).fingerprint}
    same = all(then[key] == now[key] for key in ("versions", "commit", "python", "store_sha256"))
    return same and settings.read_text(encoding="utf-8") == recipe.to_yaml()


def finetuned(run: Run, subjects: int, method: str) -> tuple[Run, bool]:
    """Fine-tune, or take the fine-tuning of the same persons that is finished."""
    prefix = "scratch-" if method == "scratch" else ""
    found = Run(run.path / "finetune" / f"{prefix}s{subjects}-seed0")
    if (found.path / "result.json").is_file():
        return found, False
    scratch = method == "scratch"
    return finetune(run, subjects=subjects, seed=0, from_scratch=scratch), True


def table(result: dict[str, Any]) -> list[str]:
    """Return the demonstration's result as lines: kappa on test persons by labelled persons.

    Examples
    --------
    >>> score = {"kappa": 0.5, "kappa_ci95": [0.4, 0.625], "n_test_persons": 4}
    >>> lines = table({"rows": [{"persons": 1, "part": score, "scratch": score}]})
    >>> lines[2]
    '      1    0.50 (0.40 to 0.62)     0.50 (0.40 to 0.62)'
    """
    test = result["rows"][0]["part"]["n_test_persons"]
    lines = [
        f"{BANNER}.",
        "persons    PART, kappa (95 %)      from scratch (95 %)",
    ]
    for row in result["rows"]:
        part, scratch = (spelled(row[method]) for method in ("part", "scratch"))
        lines.append(f"{row['persons']:7d}    {part:22s}  {scratch}")
    return [*lines, f"Cohen's kappa of {test} simulated test persons, intervals over persons"]


def spelled(score: dict[str, Any]) -> str:
    """Return a kappa with its interval, two decimals."""
    low, high = score["kappa_ci95"]
    return f"{score['kappa']:.2f} ({low:.2f} to {high:.2f})"
