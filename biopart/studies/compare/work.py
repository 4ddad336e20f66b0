"""Run the trainings of a study through an executor, whose workers may be on any machine."""

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from threadpoolctl import threadpool_limits
from torch.cuda import device_count

from biopart.compute import has_device, threads_each
from biopart.executor import killed, trainings_on
from biopart.files import write_text
from biopart.recipe import Recipe
from biopart.studies.compare.folder import StudyFolder
from biopart.studies.compare.plan import Outcomes, Plan, Training
from biopart.studies.compare.variants import Variant
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain, resume
from biopart.verbs.probe import probe

# What a training may raise on data or settings that do not work (NaN, no memory, a damaged file),
# or through a bug: that training fails and its outcome keeps the traceback; the study continues.
FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, SafetensorError, TypeError, ValueError),
)
POLL_S = 2.0  # between two reports of progress while nothing ends


@dataclass(frozen=True)
class Standing:
    """Progress of a study: trainings by their state, and the share of the estimated time."""

    done: int
    failed: int
    trainings: int
    share: float


@dataclass(frozen=True)
class Workers:
    """How the trainings of a study are run, and where progress is reported.

    Attributes
    ----------
    jobs : int
        Trainings at a time.
    executor : Executor, optional
        Where they run; by default in processes of this machine. A pool of threads must have one
        worker: trainings seed torch's global generator.
    scheduler : str, optional
        Address of a dask cluster on whose workers they run, as many as there are.
    retry : bool
        Repeat failed trainings.
    say : callable
        Gets lines.
    progress : callable
        Gets a Standing at intervals.
    """

    jobs: int = 1
    executor: Executor | None = None
    scheduler: str | None = None
    retry: bool = False
    say: Callable[[str], None] = lambda line: None
    progress: Callable[[Standing], None] = lambda standing: None

    def share(self, recipe: Recipe) -> Recipe:
        """Divide the cores among simultaneous trainings, each on one device.

        Where the recipe's threads are auto. With small networks, two processes of one thread each
        are faster than one of two threads.
        """
        changes: dict[str, Any] = {"devices": 1, "nodes": 1, "strategy": "ddp"}
        if recipe.compute.threads == "auto":
            changes["threads"] = 1 if self.scheduler else threads_each(self.jobs)
        shared: dict[str, Any] = {"compute": recipe.compute.model_copy(update=changes)}
        if self.scheduler:  # a worker runs in another folder
            store = recipe.data.store.absolute()
            shared["data"] = recipe.data.model_copy(update={"store": store})
            weights = recipe.finetune.weights
            if weights is not None and Path(weights).expanduser().exists():
                own = {"weights": str(Path(weights).expanduser().absolute())}
                shared["finetune"] = recipe.finetune.model_copy(update=own)
        return recipe.model_copy(update=shared)

    @contextmanager
    def opened(self, *, spread: bool) -> Iterator[tuple[Executor, int]]:
        """Give the executor, and how many trainings it runs at a time."""
        if self.executor is not None:
            yield self.executor, self.jobs
        elif self.scheduler is not None:
            with trainings_on(self.scheduler) as cluster:
                yield cluster, sys.maxsize
        else:
            with processes(self.jobs, spread=spread) as pool:
                yield pool, self.jobs


def train_all(
    plan: Plan,
    folder: StudyFolder,
    workers: Workers,
    after: Callable[[Outcomes], None] = lambda outcomes: None,
) -> None:
    """Run the trainings of a study that have no outcome yet, several at a time.

    At most ``workers.jobs``, or as many as a cluster has workers. Workers write outcomes into the
    folder themselves. ``after`` gets all outcomes after every training and at intervals.
    ChildProcessError if a worker is killed; finished ones are kept.
    """
    outcomes, path = folder.outcomes(), folder.path.absolute()
    spread = plan.variants[0].recipe.compute.device == "auto"
    running: dict[Future[dict[str, Any]], Training] = {}
    try:
        with workers.opened(spread=spread) as (pool, jobs):
            while True:
                ready = [t for t in plan.ready(outcomes) if t not in running.values()]
                for training in ready[: jobs - len(running)]:
                    future = pool.submit(perform, plan.variant(training), training, path)
                    running[future] = training
                after(outcomes)
                if not running:
                    return
                for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                    outcomes[running[future]] = future.result()
                    del running[future]
    except killed() as error:
        names = ", ".join(training.name for training in running.values())
        raise ChildProcessError(
            f"a worker process was killed during {names}, probably because memory ran out, or the "
            f"scheduler has stopped; finished trainings are kept in {folder.path}: repeat the "
            "command, with fewer --jobs if memory is short"
        ) from error
    finally:
        for future in running:  # the caller's executor outlives an error here
            future.cancel()


def perform(variant: Variant, training: Training, path: Path) -> dict[str, Any]:
    """Run a training and write its outcome into a study's folder; an error becomes its outcome.

    Returns
    -------
    dict
        ``result``, ``probe``, ``run`` and ``seconds``, or ``failed`` and ``traceback``.
    """
    folder, begun = StudyFolder(path), time.perf_counter()
    threads = variant.recipe.compute.threads
    try:
        with threadpool_limits(None if threads == "auto" else threads):
            train = pretrained if training.size is None else tuned
            outcome = train(variant, training, folder)
        outcome["seconds"] = time.perf_counter() - begun
    except FAULTS as error:
        text = " ".join(str(error).split()) or "no reason given"
        outcome = {"failed": f"{type(error).__name__}: {text}"}
        outcome["traceback"] = traceback.format_exc()
    return folder.settle(training, outcome)


def pretrained(variant: Variant, training: Training, folder: StudyFolder) -> dict[str, Any]:
    """Pretrain, from the last checkpoint if the study was stopped during the training.

    A pretraining that was started on a device that this machine lacks is started again.
    """
    run = folder.run(training)
    begun = (run.path / "recipe.yaml").is_file() and (run.path / "provenance.json").is_file()
    if begun and has_device(run.provenance()["chosen"]["device"]):
        resume(run.path, store=variant.recipe.data.store)
        return {}
    if run.path.exists():
        shutil.rmtree(run.path)
    pretrain(variant.seeded(training.seed), out=run.path, latest=False)
    return {}


def tuned(variant: Variant, training: Training, folder: StudyFolder) -> dict[str, Any]:
    """Fine-tune and probe a pretraining, train from scratch, or fit a baseline."""
    run = folder.run(training)
    if not (run.path / "recipe.yaml").is_file():
        write_text(run.path / "recipe.yaml", variant.seeded(training.seed).to_yaml())
    # The run may have been started elsewhere, where the store has another path.
    drawn: Any = {"subjects": training.size, "seed": training.seed}
    drawn["store"] = variant.recipe.data.store
    if variant.kind in ("untrained_mean", "band_powers", "pixels"):
        return {"result": probe(run, **drawn, features=[variant.kind])[variant.kind]}
    fine_tuning = finetune(run, **drawn, from_scratch=variant.kind == "scratch")
    outcome: dict[str, Any] = {"run": str(fine_tuning.path.relative_to(folder.path))}
    outcome["result"] = fine_tuning.result()
    if variant.kind == "pretrained":
        probed = probe(run, **drawn, features=["pretrained_mean"])
        outcome["probe"] = probed["pretrained_mean"]
    return outcome


@contextmanager
def processes(jobs: int, *, spread: bool = False) -> Iterator[Executor]:
    """Start processes of this machine, which end with the block and with the process that runs it.

    If there are several GPUs and ``spread`` is true, the processes are spread over them.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    pool = ProcessPoolExecutor(
        jobs, context, _begin, (theirs, context.Value("i", 0) if spread else None)
    )
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _begin(alive: Connection, started: Any) -> None:
    """End this process when the other end of a connection is closed, and assign it a GPU."""

    def watch() -> None:
        with suppress(EOFError):
            alive.recv()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the study, which ends all
    threading.Thread(target=watch, daemon=True).start()
    if started is not None:
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else list(map(str, range(device_count())))
        if len(devices) > 1:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
