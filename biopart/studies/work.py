"""Doing the cells of a study: one at a time in a process, several processes side by side."""

import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from biopart.compute import cores, has_device
from biopart.files import write_text
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.studies.cells import FAULTS, Board, Cell, Plan
from biopart.studies.estimate import Standing, estimate, overview, remaining, spoken, standing
from biopart.train import Row
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain, resume
from biopart.verbs.probe import probe

PAUSE_S = 0.5  # between looks for a cell that is ready
LOOK_S = 2.0  # between looks at the board: each reads what every cell came to

Progress = Callable[[], None]


def work(plan: Plan, board: Board, report: Callable[[Row], None] = lambda row: None) -> None:
    """Do cells until none is left, neither here nor with another process of the same folder.

    Parameters
    ----------
    plan : Plan
        The cells.
    board : Board
        Where they stand.
    report : callable
        Gets the rows that trainings log.
    """
    while True:
        left = [cell for cell in plan.cells if board.is_open(plan, cell)]
        if not left:
            return
        if not any(attempt(plan, board, cell, report) for cell in left):
            time.sleep(PAUSE_S)


def attempt(plan: Plan, board: Board, cell: Cell, report: Callable[[Row], None]) -> bool:
    """Do a cell if it is ready and nobody else has it; a fault becomes its outcome."""
    if not board.is_ready(plan, cell):
        return False
    with board.taken(cell) as mine:
        if mine:
            try:
                board.settle(cell, run_cell(plan, board, cell, report))
            except FAULTS as error:
                text = " ".join(str(error).split()) or "no reason given"
                failed = f"{type(error).__name__}: {text}"
                board.settle(cell, {"failed": failed, "traceback": traceback.format_exc()})
        return mine


def run_cell(plan: Plan, board: Board, cell: Cell, report: Callable[[Row], None]) -> dict[str, Any]:
    """Do a cell and return its outcome: ``result``, ``probe`` and ``seconds``."""
    begun = time.perf_counter()
    variant, run = plan.variant(cell), board.run(cell)
    if cell.size is None:
        pretrained(run, plan, cell, report)
        return {"seconds": time.perf_counter() - begun}
    if not (run.path / "recipe.yaml").is_file():
        write_text(run.path / "recipe.yaml", variant.seeded(cell.seed).to_yaml())
    # The run may have been begun elsewhere, where the store lies under another path.
    drawn: Any = {"subjects": cell.size, "seed": cell.seed, "store": variant.recipe.data.store}
    if variant.kind in ("untrained_mean", "band_powers", "pixels"):
        found = probe(run, **drawn, features=[variant.kind])
        return {"result": found[variant.kind], "seconds": time.perf_counter() - begun}
    scratch = variant.kind == "scratch"
    tuned = finetune(run, **drawn, from_scratch=scratch, report=report)
    outcome: dict[str, Any] = {"run": str(tuned.path.relative_to(board.path))}
    outcome["result"] = tuned.result()
    if not scratch:
        found = probe(run, **drawn, features=["pretrained_mean"])
        outcome["probe"] = found["pretrained_mean"]
    return {**outcome, "seconds": time.perf_counter() - begun}


def pretrained(run: Run, plan: Plan, cell: Cell, report: Callable[[Row], None]) -> None:
    """Pretrain, from the last checkpoint where a process was stopped on the way.

    What was begun on a device that this machine lacks is begun anew.
    """
    begun = (run.path / "recipe.yaml").is_file() and (run.path / "provenance.json").is_file()
    if begun and has_device(run.provenance()["chosen"]["device"]):
        resume(run.path, report, store=plan.variant(cell).recipe.data.store)
        return
    if run.path.exists():
        shutil.rmtree(run.path)
    pretrain(plan.variant(cell).seeded(cell.seed), out=run.path, latest=False, report=report)


@dataclass(frozen=True)
class Crew:
    """Who does the cells, and who hears of it.

    Attributes
    ----------
    jobs : int
        Processes.
    retry : bool
        Do failed cells again.
    say : callable
        Gets lines.
    progress : callable
        Gets a function that says how it stands, and returns one that is called every so often.
    """

    jobs: int = 1
    retry: bool = False
    say: Callable[[str], None] = lambda line: None
    progress: Callable[[Callable[[], Standing]], Progress] = lambda look: lambda: None


def sharing(recipe: Recipe, jobs: int) -> tuple[Recipe, int]:
    """Let processes share the cores where threads are auto: the recipe, and threads of each.

    Two processes of one thread each do more than one of two threads, on small networks.
    """
    compute = recipe.compute
    threads = max(1, cores() // jobs) if compute.threads == "auto" else compute.threads
    compute = compute.model_copy(update={"threads": threads})
    return recipe.model_copy(update={"compute": compute}), threads


def outlook(
    plan: Plan, board: Board, crew: Crew, *, taken: Collection[Cell] = ()
) -> dict[str, Any]:
    """Say what ``carry_out`` would do and how long that takes, from a few timed steps."""
    left = {cell for cell in plan.cells if board.is_open(plan, cell)} - set(taken)
    if crew.retry:
        left |= {cell for cell in plan.cells if board.reason(plan, cell) is not None}
    return overview(plan, left, estimate(plan, crew.say), crew.jobs)


def carry_out(plan: Plan, board: Board, crew: Crew, threads: int) -> None:
    """Do what is left of a study, after saying how long it will take."""
    if crew.retry:
        crew.say(f"failed cells taken up again: {', '.join(board.forget_failures()) or 'none'}")
    if not any(board.is_open(plan, cell) for cell in plan.cells):
        return
    seconds = estimate(plan, crew.say)
    left = [cell for cell in plan.cells if board.is_open(plan, cell)]
    time_left = spoken(remaining(left, seconds, crew.jobs))
    crew.say(
        f"{len(plan.cells) - len(left)} of {len(plan.cells)} cells are done, about {time_left} to "
        f"go, processes: {crew.jobs} with {threads} threads each"
    )
    display = crew.progress(lambda: standing(plan, board, seconds))
    work_together(plan, board, jobs=crew.jobs, threads=threads, progress=display)


def work_together(plan: Plan, board: Board, *, jobs: int, threads: int, progress: Progress) -> None:
    """Do cells in processes of their own until none is left.

    A process that is killed, for want of memory for instance, costs its cell, not the study.

    Parameters
    ----------
    plan, board : Plan, Board
        The cells and where they stand.
    jobs, threads : int
        Processes, and threads of each.
    progress : callable
        Called every so often, to look at the board.
    """
    workers = [start(plan, board, threads) for _ in range(jobs)]
    try:
        while workers:
            progress()
            workers = [new for worker in workers for new in follow(worker, plan, board, threads)]
    finally:
        for worker in workers:
            worker.terminate()
    progress()


def start(plan: Plan, board: Board, threads: int) -> SpawnProcess:
    """Start a process that does cells."""
    process = get_context("spawn").Process(target=_worker, args=(plan, board.path, threads))
    process.start()
    board.drop_holder(process.pid or -1)
    return process


def follow(worker: SpawnProcess, plan: Plan, board: Board, threads: int) -> Iterator[SpawnProcess]:
    """Wait a moment; yield the process, or a new one where it died over a cell."""
    worker.join(LOOK_S)
    if worker.exitcode is None:
        yield worker
    elif worker.exitcode != 0:
        held = board.held_by(worker.pid or -1)
        for cell in (cell for cell in plan.cells if cell.name in held):
            with board.taken(cell) as mine:  # another process may have done it since
                if mine:
                    board.settle(cell, {"failed": _end(worker.exitcode)})
        if not held:
            raise ChildProcessError(
                f"a process that had no cell yet {_end(worker.exitcode)}; the cells that are done "
                "are kept: call again with fewer --jobs"
            )
        yield start(plan, board, threads)


def _end(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with status {code}; what it said stands on stderr"
    return f"was killed by {signal.Signals(-code).name}, as for want of memory"


def _worker(plan: Plan, path: Path, threads: int) -> None:
    """Work in a process of its own, and end with the one that started it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with threadpool_limits(threads):
        work(plan, Board(path))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
