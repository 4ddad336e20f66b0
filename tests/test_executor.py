"""Independent work on a dask cluster: a killed worker costs time and nothing else."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import xarray as xr
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

from biopart import executor
from biopart.executor import calls_on, trainings_on, workers_lost
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.signals import ingest
from biopart.store import Store, load_card
from biopart.studies.compare.study import run_study
from biopart.studies.compare.work import Standing, Workers
from biopart.verbs.embed import embed
from biopart.verbs.probe import probe

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as two:
        yield two


def kill_one(cluster: LocalCluster) -> int:
    """Kill a worker of a cluster with -9, a busy one if any; return the number of its process."""
    with Client(cluster, set_as_default=False) as client:
        tasks = client.processing()  # on a slow machine all may be done by now
        worker = max(tasks, key=lambda address: len(tasks[address]))
        (process,) = client.run(os.getpid, workers=[worker]).values()
    os.kill(process, signal.SIGKILL)
    return int(process)


def contents(path: Path) -> dict[str, dict[str, Any]]:
    store = Store(path)
    return {name: store.about(name) for name in store}


def test_a_worker_killed_while_nights_are_prepared_costs_no_record(
    cluster: LocalCluster, simulated_raw: Path, simulated_store: Path, tmp_path: Path
) -> None:
    written: list[str] = []

    def on_record(name: str, reason: str | None) -> None:
        assert reason is None
        written.append(name)
        if len(written) == 1:
            kill_one(cluster)

    with calls_on(cluster.scheduler_address):
        report = ingest(
            load_card("physionet2018"), simulated_raw, tmp_path / "there.zarr", on_record=on_record
        )
    assert report.written == written
    assert len(set(written)) == 4
    assert contents(tmp_path / "there.zarr") == contents(simulated_store)


def test_a_worker_killed_during_a_curve_costs_no_training(
    cluster: LocalCluster, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    small_recipe["pretrain"]["steps"] = 12
    small_recipe["finetune"] |= {"epochs": 1}
    small_recipe["curve"] = {"methods": ["part", "supervised"], "sizes": [2], "repeats": 1}
    recipe = Recipe.model_validate(small_recipe)
    killed: list[int] = []

    def progress(standing: Standing) -> None:
        if standing.done and not killed:
            killed.append(kill_one(cluster))

    alone = run_study("curve", recipe, tmp_path / "here", Workers())
    workers = Workers(scheduler=cluster.scheduler_address, progress=progress)
    shared = run_study("curve", recipe, tmp_path / "there", workers)
    assert killed
    assert shared["failed"] == {} == alone["failed"]
    for key in ("summary", "differences"):
        assert json.dumps(shared[key]) == json.dumps(alone[key])
    assert timeless(tmp_path / "there") == timeless(tmp_path / "here")


def test_workers_embed_and_probe_as_this_process_does(
    cluster: LocalCluster, small_run: Run, small_store: Path, tmp_path: Path
) -> None:
    alone = probe(small_run)
    with calls_on(cluster.scheduler_address):
        assert probe(small_run) == alone
        embed(small_run, small_store, tmp_path / "there", device="cpu")
    embed(small_run, small_store, tmp_path / "here", device="cpu")
    here, there = (xr.open_zarr(tmp_path / name, consolidated=False) for name in ("here", "there"))
    xr.testing.assert_allclose(here, there, rtol=1e-5)


def timeless(folder: Path) -> dict[str, Any]:
    """Return the outcomes in a study's folder without the time that they took."""
    found = {path.name: json.loads(path.read_text()) for path in folder.glob("cells/*.json")}
    for outcome in found.values():
        outcome.pop("seconds")
        outcome.get("result", {}).pop("seconds", None)
    return found


def test_a_scheduler_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "CONNECT_S", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ValueError, match=f"no scheduler answers at {address}"), calls_on(address):
        pass


def test_a_worker_with_another_version_or_several_threads_is_refused(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trainings_on(cluster.scheduler_address) as pool:
        assert pool.submit(pow, 2, 5).result() == 32
    monkeypatch.setattr(executor, "own_version", lambda: "0.0.0")
    with (
        pytest.raises(ValueError, match=r"has biopart .*, this command 0.0.0; install the same"),
        calls_on(cluster.scheduler_address),
    ):
        pass
    monkeypatch.undo()
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as wide,
        pytest.raises(ValueError, match="has 2 threads, but trainings need a process each"),
        trainings_on(wide.scheduler_address),
    ):
        pass


def test_a_scheduler_without_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "WORKERS_S", 0.2)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(ValueError, match="has no worker; start some with: dask worker"),
        calls_on(empty.scheduler_address),
    ):
        pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor.importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(ValueError, match=r'pip install "biopart\[cluster\]"'),
        calls_on("tcp://x:1"),
    ):
        pass


def test_a_killed_process_is_a_sentence_and_other_faults_stay() -> None:
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(
            ChildProcessError, match=r"a worker process was killed, .* stopped; repeat it, with"
        ),
        workers_lost("repeat it"),
    ):
        pool.submit(os._exit, 1).result()
    for error in (
        CancelledError(),
        BrokenProcessPool(),
        KilledWorker("call", SimpleNamespace(address="w"), 3),
    ):
        with pytest.raises(ChildProcessError), workers_lost("repeat it"):
            raise error
    with pytest.raises(ZeroDivisionError), workers_lost("repeat it"):
        raise ZeroDivisionError
