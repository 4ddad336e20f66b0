"""Trainings that several processes share: the same steps, and one sentence where one cannot."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from lightning_fabric import Fabric

from biopart.compute import processes, strategy_of
from biopart.nn.weights import load_tensors
from biopart.recipe import ComputeSettings, Recipe
from biopart.run import Run
from biopart.store import Record, create_store, write_record
from biopart.train import Stop
from biopart.train.checks import Begun, Checks
from biopart.train.ranks import Ranks, agree, check_processes, none_lost, shares
from biopart.verbs.pretrain import pretrain

OBJECTIVES = {
    "part": {"name": "part", "patches": 8, "pairs": 16, "position_hint": 0.5},
    "mae": {"name": "mae", "decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
}
TAUGHT = {
    "moby": {"name": "moby", "hidden": 16, "out": 8, "queue": 24},
    "selfpatch": {
        "name": "selfpatch",
        "prototypes": 8,
        "image": {"name": "dino", "prototypes": 12, "hidden": 16, "bottleneck": 8},
    },
}
for settings in TAUGHT.values():  # views of signals: a place at random, and noise
    whole: dict[str, Any] = settings.get("image", settings)
    whole["views"] = {"global_size": [80], "values": {"noise": 0.1, "mask": 0.2}}
WEIGHTED = {
    "near": {**OBJECTIVES["part"], "distance_weight": "linear"},
    "droppos": {**OBJECTIVES["mae"], "name": "droppos", "attentive": True},
}


def pretrained(
    values: Mapping[str, Any], folder: Path, devices: int, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in processes that share the training."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(values)))
    command = [sys.executable, "-m", "biopart", "pretrain", "recipe.yaml", "--out", "run"]
    return subprocess.run(
        [*command, "--devices", str(devices), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # processes share the cores
        check=False,
    )


def pretrained_alone(values: Mapping[str, Any], folder: Path) -> None:
    """Train as ``pretrained`` does, in this process."""
    pretrain(Recipe.model_validate(values), out=folder / "run", latest=False)


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "counts"), [("part", (2, 4)), pytest.param("mae", (2,), marks=pytest.mark.slow)]
)
def test_any_number_of_processes_makes_the_same_steps(
    small_recipe: dict[str, Any], tmp_path: Path, name: str, counts: tuple[int, ...]
) -> None:
    # 24 windows of 4 persons without the bad: epochs of 6 batches, the last of which is shorter.
    values = small_recipe | {"split": {"test_persons": 2, "validation_persons": 1}}
    values["pretrain"] = values["pretrain"] | {"objective": OBJECTIVES[name], "steps": 50}
    rows, weights = {}, {}
    for count in (1, *counts):
        folder = tmp_path / str(count)
        if count == 1:
            pretrained_alone(values, folder)
        else:
            answer = pretrained(values, folder, count)
            assert answer.returncode == 0, answer.stderr
            assert answer.stdout.count("\nstep: 50") == 1  # once for all processes
        rows[count] = logged(folder)
        weights[count] = load_tensors(folder / "run/encoder.safetensors")[0]
    for count in counts:
        assert [row["step"] for row in rows[count]] == [row["step"] for row in rows[1]]
        for one, other in zip(rows[1], rows[count], strict=True):
            for key in ("train/loss", "train/gradient_norm", "validation/loss"):
                if key in one:
                    assert other[key] == pytest.approx(one[key], rel=2e-4), (count, one["step"])
        for key, value in weights[1].items():
            torch.testing.assert_close(weights[count][key], value, rtol=1e-2, atol=1e-3)


SLOW_IN_SHARDS = ("mae", "selfpatch", "mp3", "droppos")


@pytest.mark.parametrize(
    "name", ["part", "moby", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW_IN_SHARDS)]
)
def test_weights_in_shards_make_the_same_steps(
    small_recipe: dict[str, Any], tmp_path: Path, name: str
) -> None:
    values = small_recipe | {"split": {"test_persons": 2, "validation_persons": 1}}
    objectives = OBJECTIVES | TAUGHT | WEIGHTED | {"mp3": {"name": "mp3", "masked": 0.75}}
    pace = {"objective": objectives[name], "steps": 20, "probe_every": 2, "lr": 1e-3}
    pace["accumulate"] = 2 if name in ("part", "droppos") else 1  # of a batch's own statistics 1
    values["pretrain"] = values["pretrain"] | pace
    pretrained_alone(values, tmp_path / "one")
    answer = pretrained(values, tmp_path / "two", 2, "--strategy", "fsdp")
    assert answer.returncode == 0, answer.stderr
    for one, two in zip(logged(tmp_path / "one"), logged(tmp_path / "two"), strict=True):
        assert one.keys() == two.keys()
        for key in ("train/loss", "train/gradient_norm", "validation/loss"):
            if key in one:
                assert two[key] == pytest.approx(one[key], rel=1e-3), (key, one["step"])
    checkpoints = [
        load_tensors(tmp_path / where / "run/last/checkpoint.safetensors")[0]
        for where in ("one", "two")
    ]
    shapes = [{key: value.shape for key, value in state.items()} for state in checkpoints]
    assert shapes[0] == shapes[1]  # whole, whatever the strategy
    encoder, _ = load_tensors(tmp_path / "two/run/encoder.safetensors")
    for name, value in encoder.items():  # what is exported is what took the steps
        same = [v for k, v in checkpoints[1].items() if k.endswith(f"encoder.{name}")]
        assert any(torch.equal(value, other) for other in same), name


@pytest.mark.parametrize("name", ["moby", pytest.param("selfpatch", marks=pytest.mark.slow)])
def test_teachers_centres_and_queues_are_those_of_the_whole_batch(
    small_recipe: dict[str, Any], tmp_path: Path, name: str
) -> None:
    values = small_recipe | {"split": {"test_persons": 2, "validation_persons": 1}}
    pace = {"objective": TAUGHT[name], "steps": 30, "lr": 1e-3}
    values["pretrain"] = values["pretrain"] | pace
    rows, states = {}, {}
    pretrained_alone(values, tmp_path / "1")
    answer = pretrained(values, tmp_path / "2", 2)
    assert answer.returncode == 0, answer.stderr
    for count in (1, 2):
        folder = tmp_path / str(count)
        rows[count] = [row for row in logged(folder) if "train/loss" in row]
        states[count] = load_tensors(folder / "run/last/checkpoint.safetensors")[0]
    for one, two in zip(rows[1], rows[2], strict=True):
        assert two["train/loss"] == pytest.approx(one["train/loss"], rel=1e-3), one["step"]
    # Running means hold the bias before a batch norm, whose gradient is nothing but rounding.
    memory = [key for key in states[1] if key.endswith((".running_var", ".value", ".keys"))]
    assert memory
    for key in memory:
        torch.testing.assert_close(states[2][key], states[1][key], rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("name", [*OBJECTIVES, *WEIGHTED])
def test_a_batch_in_parts_makes_the_same_steps(
    small_recipe: dict[str, Any], tmp_path: Path, name: str
) -> None:
    losses = {}
    for parts in (1, 3):
        pace = {"objective": (OBJECTIVES | WEIGHTED)[name], "accumulate": parts}
        values = small_recipe | {"pretrain": small_recipe["pretrain"] | pace}
        rows: list[dict[str, Any]] = []
        recipe = Recipe.model_validate(values)
        pretrain(recipe, out=tmp_path / str(parts), latest=False, report=rows.append)
        losses[parts] = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[3] == pytest.approx(losses[1], rel=2e-4)


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("ddp", marks=pytest.mark.slow)])
def test_two_processes_fine_tune_as_one_does(
    small_recipe: dict[str, Any], tmp_path: Path, strategy: str
) -> None:
    # Two rates to choose from, and a transformer over neighbours on top of the better one.
    tuning = {"search": {"lr": [3e-3, 1e-5]}, "steps": 50, "context": 3, "patience": None}
    tuning |= {"ema": 0.9, "layer_decay": 0.6}
    values = small_recipe | {"finetune": small_recipe["finetune"] | tuning}
    values["finetune"] |= {"sequence": {"dropout": 0.0, "steps": 50, "batch": 8}}
    pretrain(Recipe.model_validate(values), out=tmp_path / "run", latest=False)
    command = [sys.executable, "-m", "biopart", "finetune", "--run", "run", "--json"]
    kept: dict[int, dict[str, Any]] = {}
    for count in (1, 2):
        shutil.copytree(tmp_path / "run", tmp_path / str(count) / "run")
        answer = subprocess.run(
            [*command, "--devices", str(count), *(["--strategy", strategy] * (count > 1))],
            cwd=tmp_path / str(count),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        kept[count] = json.loads(answer.stdout)  # once for all processes
        runs = sorted((tmp_path / str(count) / "run/finetune").iterdir())
        assert len(runs) == 2
        kept[count]["rows"] = [row for run in runs for row in Run(run).metrics()]
    assert [row["finetune.lr"] for row in kept[1]["tried"]] == [3e-3, 1e-5]
    for one, other in zip(kept[1]["rows"], kept[2]["rows"], strict=True):
        for key in ("train/loss", "train/gradient_norm", "validation/kappa"):
            if key in one:
                assert other[key] == pytest.approx(one[key], rel=1e-3), one["step"]
    for key in ("kappa", "without_context", "confusion", "tried"):
        assert kept[2][key] == kept[1][key], key


def test_a_window_that_one_process_cannot_train_on_stops_all_with_one_sentence(
    tmp_path: Path, small_recipe: dict[str, Any]
) -> None:
    store = tmp_path / "gaps.zarr"
    about = {"card": {"name": "gaps", "title": "", "licence": ""}, "epoch_s": 6.0}
    create_store(store, {**about, "sfreq_hz": 20.0, "label_names": ["W"], "channels": ["A", "B"]})
    for person in range(3):
        signal = np.random.default_rng(person).integers(-99, 99, (2, 480)).astype(np.int16)
        if person == 2:
            signal[:, 130] = -32768  # in epoch 1, and not marked as bad
        no_bad = np.zeros((0, 2), np.int64)
        record = Record(signal, np.ones(2), np.zeros(4, np.int8), no_bad, {"person": f"p{person}"})
        write_record(store, f"n{person}", record)
    values = small_recipe | {"data": {"store": str(store)}}
    values["split"] = {"test_persons": 1, "validation_persons": 0, "seed": 1}
    values["pretrain"] = values["pretrain"] | {"batch": 4}
    answer = pretrained(values, tmp_path / "run", 2)
    assert answer.returncode == 1
    lines = [line for line in answer.stderr.splitlines() if line.startswith("Error")]
    assert lines == [
        "Error: windows n2:1 have missing samples (NaN); find them with: biopart check STORE"
    ]


def test_a_batch_that_does_not_divide_names_the_nearest_that_do(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [value] * 3)
    three = SimpleNamespace(world_size=3, global_rank=0, _precision=SimpleNamespace(precision=""))
    recipe = Recipe.model_validate(small_recipe)
    message = "a batch of 16 does not divide among 3 processes; set pretrain.batch to 15 or 18"
    with pytest.raises(ValueError, match=message):
        check_processes(cast(Fabric, three), recipe, "pretrain.batch", "store")


def test_shares_are_the_batch_and_their_weighted_losses_its_mean() -> None:
    items, loss = np.arange(5, 12), np.arange(7.0) ** 2
    parts = [part for rank in range(3) for part in shares(items, rank, 3)]
    assert np.concatenate([part.items for part in parts]).tolist() == items.tolist()
    assert [part.first for part in parts] == [0, 2, 5]
    means = [part.weight * loss[part.items - 5].mean() for part in parts]
    assert np.mean(means) == pytest.approx(loss.mean())
    few = [part for rank in range(4) for part in shares(items[:2], rank, 4)]
    assert sorted(part.weight for part in few) == [0, 0, 2, 2]
    assert all(len(part.items) == 1 for part in few)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert processes(ComputeSettings(devices="auto", nodes=3), "cuda") == (2, 3)
    assert processes(ComputeSettings(devices="auto"), "cpu") == (1, 1)
    with pytest.raises(ValueError, match="devices is 8, but this machine has 2 GPUs"):
        processes(ComputeSettings(devices=8), "cuda")
    with pytest.raises(ValueError, match="strategy fsdp divides the weights among devices, but"):
        processes(ComputeSettings(strategy="fsdp"), "cpu")
    with pytest.raises(ValueError, match=r"compute\.compile does not work with strategy fsdp"):
        strategy_of(ComputeSettings(strategy="fsdp", compile=True), 2)
    with pytest.raises(ValueError, match="device cuda:1 is one device; give device cuda for 2"):
        processes(ComputeSettings(devices=2), "cuda:1")


def test_what_torchrun_has_started_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert processes(ComputeSettings(), "cuda") == (8, 2)
    with pytest.raises(ValueError, match="device cuda:0 is one device; give device cuda for 8"):
        processes(ComputeSettings(), "cuda:0")


def test_processes_with_different_stores_are_refused() -> None:
    others = SimpleNamespace(rank=0, gather=lambda value: [value, value | {"store": "b"}])
    with pytest.raises(ValueError, match="process 1 has a different store from process 0"):
        agree(cast(Ranks, others), {"store": "a", "recipe": "r"})


def test_the_end_of_another_process_is_a_sentence_and_other_errors_stay() -> None:
    ranks = cast(Ranks, SimpleNamespace(count=2))
    with (
        pytest.raises(ValueError, match=r"another of the 2 processes .* has stopped; go on"),
        none_lost(ranks, "go on"),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer")
    with pytest.raises(RuntimeError, match="out of memory"), none_lost(ranks, "go on"):
        raise RuntimeError("CUDA out of memory")


def test_what_is_to_be_looked_at_is_not_written_and_raised_by_all_at_once() -> None:
    checks = Checks(lambda text: ["", text or "fault of another"])
    assert checks.clean()
    step = Begun(torch.tensor([False, True]), ["n0:0"], torch.tensor(0.5), torch.tensor(torch.inf))
    checks._begun = step  # as on a GPU, where a step is looked at one later
    assert not checks.clean()
    with pytest.raises(ValueError, match="fault of another"):
        checks.settle()


def test_a_process_that_is_alone_changes_nothing() -> None:
    ranks = Ranks(Fabric(accelerator="cpu", devices=1))
    loss, part = torch.tensor(0.3), shares(np.arange(3), 0, 1)[0]
    assert ranks.loss(loss, part.weight, torch.ones(3, dtype=torch.bool)) is loss
    assert (part.weight, ranks.gather("a"), ranks.from_first(lambda: 5)) == (1.0, ["a"], 5)


def test_ctrl_c_names_the_command_that_continues_and_a_second_one_ends_at_once(
    small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    values = small_recipe | {"pretrain": small_recipe["pretrain"] | {"steps": 5000}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "biopart", "pretrain", "recipe.yaml", "--out", "run"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--quiet"], cwd=tmp_path, **pipes) as training:
        while not (tmp_path / "run/metrics.jsonl").is_file():
            assert training.poll() is None
            time.sleep(0.05)
        training.send_signal(signal.SIGINT)
        said, warned = training.communicate(timeout=60)
    assert training.returncode == 130
    again = "continue with: biopart pretrain --resume --out run\n"
    assert re.fullmatch(rf"stopped after step \d+; {again}", said)
    assert warned == "\nending after a checkpoint; press Ctrl-C again to end at once\n"
    assert (tmp_path / "run/last/checkpoint.safetensors").is_file()
    with Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("devices", "name", "steps", "strategy"),
    [
        (1, "part", 300, "ddp"),
        pytest.param(1, "selfpatch", 150, "ddp", marks=pytest.mark.slow),
        pytest.param(2, "moby", 60, "fsdp", marks=pytest.mark.slow),
    ],
)
def test_a_training_that_is_asked_to_end_goes_on_as_if_it_had_not(
    small_recipe: dict[str, Any],
    tmp_path: Path,
    devices: int,
    name: str,
    *,
    steps: int,
    strategy: str,
) -> None:
    pace = {"steps": steps, "objective": (OBJECTIVES | TAUGHT)[name]}
    values = small_recipe | {"pretrain": small_recipe["pretrain"] | pace}
    values["compute"] = values["compute"] | {"strategy": strategy}
    if devices == 1:
        pretrained_alone(values, tmp_path / "whole")
    else:
        assert pretrained(values, tmp_path / "whole", devices).returncode == 0
    folder = tmp_path / "asked"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "biopart", "pretrain"]
    begin = [*command, "recipe.yaml", "--out", "run", "--devices", str(devices)]
    with subprocess.Popen(begin, cwd=folder, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        while not (folder / "run/metrics.jsonl").is_file() or len(logged(folder)) < 3:
            assert training.poll() is None
            time.sleep(0.05)
        training.send_signal(signal.SIGTERM)
        said = training.stdout.read()
        assert training.wait(60) == 0
    found = re.fullmatch(
        r"requeue: stopped after step (\d+); continue with: biopart pretrain --resume --out run\n",
        said,
    )
    assert found is not None
    assert 10 <= int(found[1]) < steps
    assert not (folder / "run/encoder.safetensors").exists()
    resume = [*command, "--resume", "--out", "run"]
    subprocess.run(resume, cwd=folder, check=True, capture_output=True, timeout=120)
    heads = "objective.safetensors"
    one, other = (tmp_path / where / "run/encoder.safetensors" for where in ("whole", "asked"))
    kept = [(one, other), (one.with_name(heads), other.with_name(heads))]  # teachers, queues
    for first, second in kept:
        before, after = load_tensors(first)[0], load_tensors(second)[0]
        for key, value in before.items():
            assert torch.equal(after[key], value), key
    timeless = [
        [{k: v for k, v in row.items() if k != "windows_per_second"} for row in logged(place)]
        for place in (tmp_path / "whole", folder)
    ]
    assert timeless[0] == timeless[1]  # the scores of every epoch, too
