"""Where independent work runs: processes of this machine, or the workers of a dask cluster.

Calls are scheduled by joblib, ``concurrent.futures`` or dask.distributed, never by us.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

CONNECT_S = 10.0  # within which a scheduler must answer
WORKERS_S = 60.0  # within which the first worker must come


@contextmanager
def calls_on(scheduler: str | None) -> Iterator[None]:
    """Let joblib's calls run on the cluster of a scheduler, or, without one, on this machine.

    Raises
    ------
    ValueError
        If the scheduler cannot be used, as of ``cluster``.
    ChildProcessError
        If a worker was killed: on a cluster, as often as its scheduler allows for one call.
    """
    with workers_lost("finished items are kept, repeat the command"):
        if scheduler is None:
            yield
            return
        from joblib import parallel_config

        with cluster(scheduler) as client, parallel_config(backend="dask", client=client):
            yield


@contextmanager
def trainings_on(scheduler: str) -> Iterator[Executor]:
    """Give an executor on a cluster, which queues what no worker is free for.

    Raises ValueError as ``cluster`` does, and for a worker with several threads: trainings of a
    process share a generator of random numbers.
    """
    with cluster(scheduler) as client:
        threads = client.nthreads()
        many = {address: count for address, count in threads.items() if count > 1}
        if many:
            address, count = next(iter(many.items()))
            raise ValueError(
                f"worker {address} has {count} threads, but trainings need a process each; start "
                "it with: dask worker ADDRESS --nworkers N --nthreads 1"
            )
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)


@contextmanager
def cluster(scheduler: str) -> Iterator[Any]:
    """Connect to the scheduler of a dask cluster, ``tcp://host:8786``; give its client.

    Raises
    ------
    ValueError
        If dask.distributed is not installed, the scheduler does not answer, no worker comes, or a
        worker has another version of biopart.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ValueError(
            '--scheduler needs dask.distributed; install it with: pip install "biopart[cluster]"'
        )
    distributed: Any = importlib.import_module("distributed")
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no scheduler answers at {scheduler}; start one with: dask scheduler, or correct the "
            "address"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            raise ValueError(
                f"the scheduler at {scheduler} has no worker; start some with: dask worker "
                f"{scheduler} --nthreads 1"
            ) from error
        own = own_version()
        for address, theirs in client.run(version, "biopart", on_error="return").items():
            if theirs != own:
                has = f"biopart {theirs}" if isinstance(theirs, str) else "no biopart"
                raise ValueError(
                    f"worker {address} has {has}, this command {own}; install the same on all"
                )
        settings = {key: text for key, text in os.environ.items() if key.startswith("BIOPART_")}
        client.run(os.environ.update, settings)
        yield client


def own_version() -> str:
    """Return the version of biopart of this process."""
    return version("biopart")


@contextmanager
def workers_lost(remedy: str) -> Iterator[None]:
    """Turn the end of a worker process into a ChildProcessError with a remedy."""
    try:
        yield
    except killed() as error:
        raise ChildProcessError(
            "a worker process was killed, probably because memory ran out, or the scheduler has "
            f"stopped; {remedy}, with fewer jobs if memory is short"
        ) from error


def killed() -> tuple[type[BaseException], ...]:
    """Return the errors that say that a worker was killed, or that a scheduler has stopped."""
    scheduling: Any = sys.modules.get("distributed.scheduler")
    here = (BrokenExecutor, CancelledError)
    return (*here, scheduling.KilledWorker) if scheduling else here
