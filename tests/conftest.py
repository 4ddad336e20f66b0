"""Fixtures shared by all tests: where real data lie, small cohorts, seeded generators."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopart.recipe import Recipe
from biopart.run import Run
from biopart.signals import ingest, simulate_cohort
from biopart.store import Record, create_store, finish_store, load_card, write_record
from biopart.verbs.pretrain import pretrain


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings; skips without BIOPART_REAL_DATA, fails without it in CI."""
    folder = os.environ.get("BIOPART_REAL_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = "set BIOPART_REAL_DATA to the folder of real recordings to run this test"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is measured once per machine out of the home folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def simulated_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw folder of 4 simulated persons, 15 minutes each, in PhysioNet 2018's layout; read-only."""
    folder = tmp_path_factory.mktemp("raw") / "simulated"
    simulate_cohort(folder, persons=4, hours=0.25, seed=0)
    return folder


@pytest.fixture(scope="session")
def simulated_store(simulated_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of those nights by the shipped card: 6 channels, 100 Hz, 30 epochs; read-only."""
    store = tmp_path_factory.mktemp("stores") / "simulated.zarr"
    report = ingest(load_card("physionet2018"), simulated_raw, store)
    assert len(report.written) == 4
    return store


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of five records whose integers are known; read-only.

    10 Hz, epochs of 3 s, channels C3, C4, O1; record k is called ``rk`` and has 187 samples, 6
    epochs and a tail of 7: sample t of channel c is ``4000 k + 1000 c + t``, in uV times 0.5.
    r0 and r1 are of person a, r2 of b, r3 of c, r4 of d. Labels are -1 W N1 N2 N3 R, of r4 none.
    Samples 65 to 70 of r2 are missing in all channels and bad.
    """
    store = tmp_path_factory.mktemp("stores") / "tiny.zarr"
    labels = ["W", "N1", "N2", "N3", "R"]
    about = {"card": {"name": "tiny"}, "epoch_s": 3.0, "sfreq_hz": 10.0, "label_names": labels}
    create_store(store, {**about, "channels": ["C3", "C4", "O1"]})
    for k, person in enumerate("aabcd"):
        signal = 4000 * k + 1000 * np.arange(3)[:, None] + np.arange(187)
        bad = [[65, 70]] if k == 2 else []
        for start, stop in bad:
            signal[:, start:stop] = -32768
        label = np.full(6, -1) if k == 4 else np.arange(6) - 1
        record = Record(
            signal.astype(np.int16),
            np.full(3, 0.5),
            label.astype(np.int8),
            np.array(bad, np.int64).reshape(-1, 2),
            {"person": person},
        )
        write_record(store, f"r{k}", record)
    finish_store(store)
    return store


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of 9 persons p0-p8, one record each, in which a label is a frequency; read-only.

    20 Hz, two channels, 24 epochs of 6 s; W is a sine of 2 Hz, N1 of 6 Hz, in noise, and only p8
    has N2 (9 Hz). p7 has no labels.
    """
    store = tmp_path_factory.mktemp("stores") / "small.zarr"
    labels = ["W", "N1", "N2", "N3", "R"]
    about = {"card": {"name": "small", "title": "", "licence": ""}, "epoch_s": 6.0}
    create_store(store, {**about, "sfreq_hz": 20.0, "label_names": labels, "channels": ["A", "B"]})
    generator = np.random.default_rng(0)
    time = np.arange(120) / 20
    for person in range(9):
        label = generator.integers(0, 3 if person == 8 else 2, 24)
        frequency = np.array([2.0, 6.0, 9.0])[label]
        phase = generator.uniform(0, 6.28, (2, 24, 1))
        sine = np.sin(2 * np.pi * frequency[:, None] * time + phase).reshape(2, -1)
        signal = 500 * (sine + 0.25 * generator.standard_normal(sine.shape))
        known = np.full(24, -1) if person == 7 else label
        no_bad = np.zeros((0, 2), np.int64)
        values = signal.astype(np.int16), np.full(2, 0.1), known.astype(np.int8), no_bad
        write_record(store, f"n{person}", Record(*values, {"person": f"p{person}"}))
    finish_store(store)
    return store


@pytest.fixture(scope="session")
def small_run(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two steps of PART on small_store, without hints; only fine-tunings are added to it."""
    recipe = Recipe.model_validate(
        {
            "data": {"store": str(small_store)},
            "split": {"test_persons": 2, "validation_persons": 2},
            "encoder": {"patch": [20], "dim": 16, "depth": 1, "heads": 2},
            "pretrain": {"objective": {"name": "part", "patches": 6, "pairs": 8}, "steps": 2}
            | {"warmup_epochs": 0, "batch": 16},
            "finetune": {"subjects": 2, "steps": 3, "batch": 16, "warmup_epochs": 0},
            "compute": {"precision": "float32", "threads": 1},
        }
    )
    return pretrain(recipe, out=tmp_path_factory.mktemp("runs") / "run", latest=False)


@pytest.fixture
def small_recipe(small_store: Path) -> dict[str, Any]:
    """Values of a recipe that trains on small_store in a second."""
    return {
        "name": "small",
        "data": {"store": str(small_store)},
        "split": {"test_persons": 2, "validation_persons": 2},
        "encoder": {"patch": [20], "dim": 16, "depth": 2, "heads": 2},
        "pretrain": {
            "objective": {"name": "part", "patches": 8, "pairs": 16, "position_hint": 0.5},
            "steps": 24,
            "batch": 16,
            "warmup_epochs": 0.5,
            "validation_windows": 32,
        },
        "finetune": {"subjects": 3, "epochs": 40, "batch": 16, "lr": 3e-3, "warmup_epochs": 1},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }


@pytest.fixture(scope="session")
def pulse_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of eight persons at 20 Hz: events are pulses up and down in noise; read-only.

    The label of an epoch says which of them it has.
    """
    path = tmp_path_factory.mktemp("stores") / "pulses.zarr"
    card = {"name": "pulses", "labels": {"kind": "none"}}
    attributes: dict[str, Any] = {"card": card, "epoch_s": 4.0, "sfreq_hz": 20.0, "channels": ["a"]}
    create_store(path, {**attributes, "label_names": ["up", "down"], "event_names": ["up", "down"]})
    rng = np.random.default_rng(0)
    for person in range(8):
        signal = rng.normal(0, 20, 80 * 12)
        events: list[list[int]] = []
        for epoch in range(12):
            code, start = epoch % 2, 80 * epoch + int(rng.integers(5, 50))
            signal[start : start + 20] += 300 * (1 - 2 * code)
            events.append([start, start + 20, code])
        record = Record(
            signal.round().astype(np.int16)[None],
            np.ones(1),
            (np.arange(12) % 2).astype(np.int8),
            np.zeros((0, 2), np.int64),
            {"person": f"p{person}"},
            "uV",
            np.array(events, np.int64),
        )
        write_record(path, f"r{person}", record)
    finish_store(path)
    return path


@pytest.fixture
def small_curve(small_recipe):
    """A recipe of a curve of two methods, one size and one seed."""
    small_recipe["pretrain"]["steps"] = 4
    small_recipe["finetune"]["epochs"] = 1
    small_recipe["curve"] = {"methods": ["part", "supervised"], "sizes": [3], "repeats": 1}
    return small_recipe
