"""The demonstration: simulate nights, prepare them, train, stage one, and write a page.

Every step uses the verbs that real recordings use. A second call with the same folder reuses what
is finished: nights and store always, trainings if recipe, store, versions and commit are the same;
a stopped training is continued, any other is started again.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from biopart.data import open_cohort
from biopart.files import read_json
from biopart.recipe import Recipe, load_recipe
from biopart.run import Run, origins
from biopart.signals.ingest import ingest
from biopart.signals.simulate import simulate_cohort
from biopart.store import load_card
from biopart.studies.demo.page import BANNER, METHODS, DemoReport, verdict, write_page
from biopart.train import Row
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain, resume
from biopart.verbs.probe import probe
from biopart.verbs.show import open_part_run

CARD, RECIPE = "physionet2018", "demo"
PERSONS, HOURS, SIZES = 40, 1.5, (1, 2, 4)
WHOLE = ("data.window_s=30",)
"""Settings of fine-tunings and probes: they see whole epochs, the pretraining short windows."""
Say = Callable[[str], None]
Made = TypeVar("Made")


def timed(
    name: str, call: Callable[[], tuple[Made, bool]], seconds: dict[str, float | None], say: Say
) -> Made:
    """Run a step, which returns its result and whether it had to work; None = it had not."""
    say(f"{name} ...")
    begun = time.perf_counter()
    made, worked = call()
    seconds[name] = time.perf_counter() - begun if worked else None
    say(f"{name}: {seconds[name]:.1f} s" if worked else f"{name}: already present")
    return made


def run_demo(
    out: Path,
    say: Say,
    *,
    persons: int = PERSONS,
    hours: float = HOURS,
    sizes: Sequence[int] = SIZES,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Simulate nights, prepare them, pretrain, fine-tune, and write a page about the results.

    Parameters
    ----------
    out : Path
        Folder for nights, store, run, pages and pictures; an earlier call in it is continued.
    say : callable
        Gets lines of progress.
    persons, hours, sizes : int, float, sequence of int
        Simulated persons, the length of their nights, and how many have labels in fine-tunings.
    changes : sequence of str
        ``a.b=value`` settings that replace the shipped recipe's.

    Returns
    -------
    dict
        JSON-ready: ``page``, ``pictures``, ``run``, ``simulated``, ``rows`` (per size the results
        ``part`` and ``scratch``), ``pretraining`` (last held-out scores), ``probes``, ``seconds``.
    """
    store = out / "nights.zarr"
    recipe = load_recipe(RECIPE, changes)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": store})})
    seconds: dict[str, float | None] = {}
    part = partial(timed, seconds=seconds, say=say)
    part("simulate", lambda: simulate(out / "raw", persons, hours, say))
    part("prepare", lambda: prepare(out / "raw", store))
    run = part("pretrain", lambda: pretrained(recipe, out / "run", say))
    rows: list[dict[str, Any]] = [{"persons": size} for size in sizes]
    for row in rows:
        for method in ("scratch", "part"):  # the last one is the newest, which stage takes
            task = partial(finetuned, run, row["persons"], method)
            tuned = part(f"finetune with {row['persons']}, {METHODS[method]}", task)
            row[method] = tuned.result()
    probes = part("probe", lambda: probed(run, sizes[-1]))
    say("page ...")
    demo = DemoReport(out, hours, open_part_run(run), rows, probes, tuned, WHOLE)
    page, pictures = write_page(demo, seconds)
    return {
        "page": str(page),
        "pictures": [str(path) for path in pictures],
        "run": str(run.path),
        "simulated": True,
        "rows": rows,
        "pretraining": next((r for r in run.metrics()[::-1] if "validation/r2" in r), {}),
        "probes": probes,
        "seconds": seconds,
    }


def simulate(raw: Path, persons: int, hours: float, say: Say) -> tuple[list[Path], bool]:
    """Simulate the nights that do not exist yet."""
    complete = (raw / "training" / "RECORDS").is_file()
    report: Say = (lambda line: None) if complete else say
    return simulate_cohort(raw, persons=persons, hours=hours, seed=0, report=report), not complete


def prepare(raw: Path, store: Path) -> tuple[Path, bool]:
    """Prepare the nights that the store does not contain yet, by the shipped card."""
    report = ingest(load_card(CARD), raw, store)
    if report.refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.refused.items())
        raise ValueError(f"{reasons}; remove {raw} and start the demonstration again")
    return store, bool(report.written)


def pretrained(recipe: Recipe, folder: Path, say: Say) -> tuple[Run, bool]:
    """Pretrain, continue a stopped pretraining, or reuse a finished one."""

    def report(row: Row) -> None:
        if "validation/r2" in row:
            say(f"pretrain step {row['step']}: held-out R2 {row['validation/r2']:.3f}")

    run = Run(folder)
    if is_current(run, recipe):
        return (run, False) if run.encoder.is_file() else (resume(folder, report), True)
    if any((folder / name).is_file() for name in ("recipe.yaml", "provenance.json")):
        say("the existing run has another recipe, store or version; training again")
        shutil.rmtree(folder)
    return pretrain(recipe, out=folder, report=report), True


def is_current(run: Run, recipe: Recipe) -> bool:
    """Tell whether a run was made from this recipe and store by the installed software."""
    made = run.path / "recipe.yaml"  # written after provenance.json
    if not made.is_file() or made.read_text(encoding="utf-8") != recipe.to_yaml():
        return False
    now = origins() | {"store_sha256": open_cohort(recipe.data.store).fingerprint}
    keys = ("versions", "commit", "python", "store_sha256")
    return all(run.provenance()[key] == now[key] for key in keys)


def finetuned(
    run: Run, subjects: int, method: str, changes: Sequence[str] = WHOLE
) -> tuple[Run, bool]:
    """Fine-tune, or reuse a finished fine-tuning of the same persons."""
    wanted = [subjects, run.provenance()["seed"], method == "scratch"]
    for tuned in run.finetunings():
        if [tuned.result()[k] for k in ("n_train_persons", "seed", "from_scratch")] == wanted:
            return tuned, False
    return finetune(run, subjects=subjects, from_scratch=wanted[-1], changes=changes), True


def probed(run: Run, subjects: int) -> tuple[Mapping[str, Mapping[str, Any]], bool]:
    """Probe the frozen encoder beside an untrained one, or reuse existing scores."""
    found = run.path / "probe" / f"s{subjects}-seed{run.provenance()['seed']}.json"
    if found.is_file():
        return read_json(found), False
    return probe(run, subjects=subjects, changes=WHOLE), True


def table(result: dict[str, Any]) -> list[str]:
    """Return the demonstration's result as lines: kappa on test persons by labelled persons.

    Examples
    --------
    >>> score = {"kappa": 0.5, "kappa_ci95": [0.4, 0.625], "n_test_persons": 4}
    >>> lines = table({"rows": [{"persons": 1, "part": score, "scratch": score}]})
    >>> lines[2]
    '      1    0.50 (0.40 to 0.62)     0.50 (0.40 to 0.62)'
    """
    lines = [f"{BANNER}.", "persons    PART, kappa (95 %)      from scratch (95 %)"]
    for row in result["rows"]:
        scores = [(row[m]["kappa"], *row[m]["kappa_ci95"]) for m in METHODS]
        part, scratch = ("{:.2f} ({:.2f} to {:.2f})".format(*score) for score in scores)
        lines.append(f"{row['persons']:7d}    {part:22s}  {scratch}")
    test = result["rows"][0]["part"]["n_test_persons"]
    lines.append(f"Cohen's kappa of {test} simulated test persons, intervals over persons")
    return [*lines, verdict(result["rows"])]
