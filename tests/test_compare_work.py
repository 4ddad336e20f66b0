import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

from biopart.recipe import Recipe
from biopart.studies.compare import work as working
from biopart.studies.compare.folder import StudyFolder
from biopart.studies.compare.plan import Plan, Training
from biopart.studies.compare.variants import Variant
from biopart.studies.compare.work import Workers, perform, processes, train_all


def workers():
    """Return the living processes of studies; joblib keeps its own alive between tests."""
    children = multiprocessing.active_children()
    return [child for child in children if not child.name.startswith("Loky")]


@pytest.fixture
def small_plan(small_recipe):
    """Two variants and two baselines with one seed and the sizes 2 and 3."""
    small_recipe["pretrain"]["steps"] = 6
    small_recipe["finetune"] |= {"epochs": 1}
    recipe = Recipe.model_validate(small_recipe)
    kinds = {"part": "pretrained", "plain": "scratch", "untrained": "untrained_mean"}
    variants = tuple(Variant(name, recipe, kind) for name, kind in kinds.items())
    return Plan((*variants, Variant("powers", recipe, "band_powers")), (2, 3), (0,))


@pytest.fixture
def here():
    """Workers that are a thread of this process."""
    with ThreadPoolExecutor(1) as executor:
        yield Workers(executor=executor)


def answers(folder):
    """The outcomes by name, without the time that they took."""
    found = {training.name: outcome for training, outcome in folder.outcomes().items()}
    for outcome in found.values():
        outcome.pop("seconds", None)
        outcome.get("result", {}).pop("seconds", None)
    return found


def written(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.path.glob("cells/*.json")}


def test_work_ends_with_every_training_done_and_nested_persons(small_plan, tmp_path, here):
    folder = StudyFolder(tmp_path)
    train_all(small_plan, folder, here)
    found = answers(folder)
    assert sorted(found) == sorted(training.name for training in small_plan.trainings)
    persons = {n: v["result"]["train_persons"] for n, v in found.items() if "result" in v}
    assert len({tuple(p) for n, p in persons.items() if "-s2-" in n}) == 1
    assert set(persons["part-s2-seed0"]) < set(persons["plain-s3-seed0"])
    tests = {tuple(v["result"]["confusion_by_person"]) for v in found.values() if "result" in v}
    assert len(tests) == 1
    assert not set(persons["part-s3-seed0"]) & set(tests.pop())


def test_two_processes_come_to_what_one_thread_does(small_plan, tmp_path, here):
    alone, shared = StudyFolder(tmp_path / "alone"), StudyFolder(tmp_path / "shared")
    train_all(small_plan, alone, here)
    seen = []
    train_all(small_plan, shared, Workers(2), lambda outcomes: seen.append(len(outcomes)))
    assert json.dumps(answers(alone)) == json.dumps(answers(shared))
    assert (seen[0], seen[-1]) == (0, len(small_plan.trainings))
    assert workers() == []


def test_a_stopped_study_keeps_its_outcomes_and_ends_as_an_uninterrupted_one(
    small_plan, tmp_path, here
):
    whole, stopped = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "stopped")
    train_all(small_plan, whole, here)

    def stop_after_three(outcomes):
        if len(outcomes) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(small_plan, stopped, Workers(), stop_after_three)
    assert workers() == []
    kept = written(stopped)
    assert 3 <= len(kept) < len(small_plan.trainings)
    train_all(small_plan, stopped, here)
    assert answers(stopped) == answers(whole)
    assert kept.items() <= written(stopped).items()


def test_a_training_that_fails_has_its_reason_and_the_others_go_on(small_plan, tmp_path, here):
    values = small_plan.variants[0].recipe.model_dump(mode="json")
    values["pretrain"] |= {"lr": 1e30, "clip": None}
    broken = Variant("broken", Recipe.model_validate(values))
    plan = Plan((broken, small_plan.variants[1]), (2,), (0,))
    folder = StudyFolder(tmp_path)
    train_all(plan, folder, here)
    failed = plan.failed(folder.outcomes())
    assert failed["broken-seed0"].startswith("ValueError: the loss is")
    assert failed["broken-s2-seed0"].startswith("its pretraining failed: ValueError")
    assert set(failed) == {"broken-seed0", "broken-s2-seed0"}
    assert ", in fit\n" in folder.outcomes()[Training("broken", 0)]["traceback"]


def test_a_pretraining_that_was_stopped_goes_on_from_its_checkpoint(small_plan, tmp_path):
    folder, training = StudyFolder(tmp_path), small_plan.trainings[0]
    perform(small_plan.variants[0], training, tmp_path)
    run = folder.run(training)
    weights, rows = run.encoder.read_bytes(), run.metrics()
    shutil.rmtree(tmp_path / "cells")
    run.encoder.unlink()
    perform(small_plan.variants[0], training, tmp_path)
    assert run.encoder.read_bytes() == weights
    assert run.metrics() == rows  # no step was made twice


def kill_once(outcomes):
    """Kill the worker, as the system does where memory is short."""
    for process in workers():
        os.kill(process.pid, signal.SIGKILL)


def test_a_worker_that_is_killed_ends_the_study_which_goes_on_as_if_uninterrupted(
    small_plan, tmp_path, here
):
    whole, killed = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "killed")
    plan = Plan(small_plan.variants[1:], (2, 3), (0,))
    train_all(plan, whole, here)
    message = (
        "a worker process was killed during (.*), probably .* are kept in .*repeat the command"
    )
    with pytest.raises(ChildProcessError, match=message) as end:
        train_all(plan, killed, Workers(), lambda found: kill_once(found) if found else None)
    kept = written(killed)
    assert 1 <= len(kept) < len(plan.trainings)
    name = re.search(message, str(end.value))[1]
    # Its outcome may have been written just before.
    assert name in [training.name for training in plan.trainings[len(kept) - 1 : len(kept) + 1]]
    train_all(plan, killed, here)
    assert answers(killed) == answers(whole)
    assert kept.items() <= written(killed).items()


def visible_devices(barrier):
    barrier.wait()  # so that each process has one call
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_processes_take_turns_on_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with multiprocessing.Manager() as manager, processes(2, spread=True) as pool:
        barrier = manager.Barrier(2)
        futures = [pool.submit(visible_devices, barrier) for _ in range(2)]
        assert sorted(future.result() for future in futures) == ["2", "5"]


def hold(path):
    lock = FileLock(path)
    lock.acquire()
    path.with_suffix(".ready").touch()
    time.sleep(60)


def hold_in_a_worker(path):
    with processes(1) as pool:
        pool.submit(hold, path).result()


def test_workers_end_with_the_process_that_started_them(tmp_path):
    path = tmp_path / "held.lock"
    started = multiprocessing.get_context("spawn").Process(target=hold_in_a_worker, args=(path,))
    started.start()
    while not path.with_suffix(".ready").exists():
        time.sleep(0.05)
    started.kill()
    started.join()
    FileLock(path).acquire(timeout=30)  # the system drops the lock when the worker ends


def test_a_store_that_was_moved_is_found_where_it_is_now(small_plan, tmp_path, here):
    folder, training = StudyFolder(tmp_path), small_plan.trainings[0]
    perform(small_plan.variants[0], training, tmp_path)
    store = small_plan.variants[0].recipe.data.store
    moved = shutil.copytree(store, tmp_path / "moved.zarr")
    recipe = folder.run(training).path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(store), "nowhere"))
    variants = []
    for variant in small_plan.variants:
        data = variant.recipe.data.model_copy(update={"store": moved})
        changed = variant.recipe.model_copy(update={"data": data})
        variants.append(replace(variant, recipe=changed))
    plan = Plan(tuple(variants), small_plan.sizes, small_plan.seeds)
    train_all(plan, folder, here)
    assert plan.failed(folder.outcomes()) == {}
    assert plan.left(folder.outcomes()) == []


def test_cores_are_shared_where_threads_are_auto(monkeypatch):
    monkeypatch.setattr("biopart.compute.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recipe = Recipe()
    assert [Workers(jobs).share(recipe).compute.threads for jobs in (2, 16)] == [4, 1]
    given = Recipe.model_validate({"compute": {"threads": 3}})
    assert Workers(2).share(given).compute.threads == 3


def test_a_worker_has_the_threads_of_its_recipe(small_plan, tmp_path, monkeypatch):
    found = {}

    def tuned(variant, training, folder):
        found["threads"] = torch.get_num_threads()
        return {"result": {}}

    monkeypatch.setattr(working, "tuned", tuned)
    before = torch.get_num_threads()
    compute = small_plan.variants[1].recipe.compute.model_copy(
        update={"threads": 1 if before > 1 else 2}
    )
    recipe = small_plan.variants[1].recipe.model_copy(update={"compute": compute})
    perform(replace(small_plan.variants[1], recipe=recipe), small_plan.trainings[1], tmp_path)
    assert found["threads"] == compute.threads != before
    assert torch.get_num_threads() == before  # where it worked in the caller's process
