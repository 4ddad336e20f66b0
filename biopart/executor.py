"""Where independent work runs: processes of this machine, or the workers of a dask cluster.

Calls are scheduled by joblib, ``concurrent.futures`` or dask.distributed, never by us.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
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
def trainings_on(scheduler: str) -> Iterator[tuple[Executor, int]]:
    """Return an executor on a cluster, and how many trainings it runs at a time.

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
            yield executor, len(threads)
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
        own = version("biopart")
        for address, found in client.run(installed).items():
            if found != own:
                has = f"biopart {found}" if found else "no biopart"
                raise ValueError(
                    f"worker {address} has {has}, this command {own}; install the same on all"
                )
        yield client


def installed() -> str | None:
    """Return the version of biopart where this runs; None = it is not there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("biopart")
    except PackageNotFoundError:
        return None


@contextmanager
def workers_lost(remedy: str) -> Iterator[None]:
    """Turn the end of a worker process into a ChildProcessError with a remedy."""
    try:
        yield
    except killed() as error:
        raise ChildProcessError(
            f"a worker process was killed, probably because memory ran out; {remedy}, with fewer "
            "jobs if memory is short"
        ) from error


def killed() -> tuple[type[BaseException], ...]:
    """Return the errors that say that a worker was killed."""
    scheduling: Any = sys.modules.get("distributed.scheduler")
    return (BrokenExecutor, scheduling.KilledWorker) if scheduling else (BrokenExecutor,)
