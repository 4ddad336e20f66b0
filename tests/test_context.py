"""Fine-tuning with context on nights whose epochs are noise, but for what stands around them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import biopart
from biopart.data import open_cohort
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.store import Record, create_store, write_record
from biopart.verbs.evaluate import evaluate
from biopart.verbs.export import export
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain
from biopart.verbs.stage import stage_record

EPOCHS = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten persons; the label of an epoch is the sign of the epoch before it.

    20 Hz, epochs of 3 s, one channel: a sine of 1 or 5 Hz, at random. A single epoch says nothing
    of its label, the one before it everything. The first epoch of a night has no label.
    """
    path = tmp_path_factory.mktemp("stores") / "shifted.zarr"
    about = {"card": {"name": "shifted", "title": "", "licence": ""}, "epoch_s": 3.0}
    create_store(path, {**about, "sfreq_hz": 20.0, "label_names": ["W", "N2"], "channels": ["A"]})
    rng, time = np.random.default_rng(0), np.arange(60) / 20
    for person in range(10):
        kind = rng.integers(0, 2, EPOCHS)
        waves = [np.sin(2 * np.pi * ((1, 5)[k] * time + rng.random())) for k in kind]
        signal = (1000 * np.concatenate(waves) + 50 * rng.standard_normal(60 * EPOCHS)).astype("i2")
        label = np.concatenate([[-1], kind[:-1]]).astype("i1")
        record = Record(
            signal[None], np.ones(1), label, np.zeros((0, 2), "i8"), {"person": f"p{person}"}
        )
        write_record(path, f"r{person}", record)
    return path


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe.model_validate(
        {
            "name": "shifted",
            "data": {"store": str(store)},
            "split": {"test_persons": 3, "validation_persons": 0},
            "encoder": {"patch": [10], "dim": 16, "depth": 1, "heads": 2},
            "pretrain": {"objective": {"name": "part", "patches": 6, "pairs": 8}, "steps": 2}
            | {"batch": 16, "warmup_epochs": 0},
            "finetune": {"subjects": 7, "steps": 60, "batch": 32, "lr": 3e-3, "layer_decay": 1.0}
            | {"warmup_epochs": 0, "patience": None}
            | {"sequence": {"steps": 150, "lr": 5e-3, "heads": 2, "warmup_epochs": 0}},
            "compute": {"precision": "float32", "threads": 1},
        }
    )
    return pretrain(recipe, out=tmp_path_factory.mktemp("runs") / "run", latest=False)


@pytest.fixture(scope="module")
def tuned(run: Run) -> Run:
    return finetune(run, changes=["finetune.context=3", "finetune.sequence.frozen=false"])


def test_context_tells_what_a_window_alone_does_not(tuned: Run) -> None:
    result = tuned.result()
    assert tuned.path.name.startswith("s7-seed0-context3")
    assert result["context"] == 3
    assert abs(result["without_context"]["kappa"]) < 0.3
    assert result["kappa"] > 0.8


def test_without_context_is_the_fine_tuning_beside_it_which_is_not_done_twice(
    tuned: Run, run: Run
) -> None:
    alone = Run(tuned.path.parent / tuned.result()["without_context"]["run"])
    assert alone.path.name == "s7-seed0"
    assert alone.result()["kappa"] == tuned.result()["without_context"]["kappa"]
    before = (alone.path / "result.json").stat().st_mtime_ns
    finetune(run, changes=["finetune.context=4", "finetune.sequence.steps=1"])
    assert (alone.path / "result.json").stat().st_mtime_ns == before


def test_a_frozen_encoder_stays_as_it_was(run: Run) -> None:
    frozen = finetune(run, changes=["finetune.context=3"])
    alone = Run(frozen.path.parent / "s7-seed0")
    model, single = biopart.load(frozen.path), biopart.load(alone.path)
    with pytest.raises(ValueError, match=r"sequences of \d+ windows.* have shape \(2, 2, 60\)"):
        model(torch.zeros(2, 2, 60))
    state = model.single.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in single.net.state_dict().items())
    with pytest.raises(
        ValueError, match="classifies from 3 windows at once, which --to onnx does not"
    ):
        export(frozen, "onnx", frozen.path / "model.onnx")


def test_a_loaded_model_and_evaluate_find_the_result_again(
    tuned: Run, store: Path, tmp_path: Path
) -> None:
    result = tuned.result()
    again = evaluate(tuned, store, result["test_persons"], device="cpu")
    assert again["kappa"] == result["kappa"]
    items = open_cohort(store).source(labelled=True, context=3, persons=result["test_persons"])
    batch = items.__getitems__(range(len(items)))
    with torch.no_grad():
        predicted = biopart.load(tuned.path)(batch.values)[:, 1].argmax(-1)
    right = (predicted == batch.label).float().mean().item()
    assert right == pytest.approx(result["accuracy"])


def test_a_dry_run_keeps_nothing(run: Run) -> None:
    before = sorted(path.name for path in (run.path / "finetune").iterdir())
    finetune(run, changes=["finetune.context=5"], seed=3, dry_run=True)
    assert sorted(path.name for path in (run.path / "finetune").iterdir()) == before


def test_what_a_bad_window_holds_does_not_change_how_its_neighbours_are_staged(
    tuned: Run, store: Path
) -> None:
    cohort, model = open_cohort(store), biopart.load(tuned.path)
    signal = cohort.signal(cohort.records[0])
    other = signal.copy()
    other[:, 5 * 60 : 6 * 60] = 0

    def probabilities(signal: NDArray[np.int16], bad: list[list[int]]) -> NDArray[np.float32]:
        record = Record(signal, np.ones(1), np.zeros(EPOCHS, "i1"), np.array(bad, "i8"), {})
        values = stage_record(record, card, model).dataset["probability"].values
        return np.asarray(values)

    card = cast(Any, SimpleNamespace(epoch_s=3.0, sfreq_hz=20.0))
    around, rest = [4, 6], [e for e in range(EPOCHS) if e not in (4, 5, 6)]
    good = probabilities(signal, []), probabilities(other, [])
    assert np.array_equal(good[0][rest], good[1][rest])
    assert (good[0][around] != good[1][around]).all()
    bad = probabilities(signal, [[310, 320]]), probabilities(other, [[310, 320]])
    assert np.array_equal(bad[0][[*around, *rest]], bad[1][[*around, *rest]])
    assert (bad[0][5] != bad[1][5]).all()
