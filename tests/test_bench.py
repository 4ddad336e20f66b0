"""Benchmarks at tiny sizes: their figures fit their parts and their checks are made."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biopart.experiment.stored import build_objective
from biopart.files import plain
from biopart.grid import Boxes, grid_boxes
from biopart.nn import ViT
from biopart.objectives import DropPos
from biopart.recipe import ByolSettings, DinoSettings, DropPosSettings, PartSettings
from biopart.signals import simulate_cohort
from biopart.store import create_store, load_card
from biopart.studies import bench
from biopart.studies.bench import beside, night, teachers
from biopart.studies.bench import objectives as of_objectives
from biopart.studies.bench import part as of_part
from biopart.studies.bench.gpu import Size, step_flops
from biopart.studies.bench.images import bench_images
from biopart.studies.bench.turns import Timing, in_turns, limited


@pytest.fixture(scope="module")
def signals() -> dict[str, Any]:
    return bench.bench_signals(1, hours=0.2, nights=2)


@pytest.fixture(scope="module")
def part() -> dict[str, Any]:
    return bench.bench_part(1, grids=2, encoders=((16, 2),))


def test_calls_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []
    timing = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert [len(timing.wall["a"]), len(timing.cpu["b"])] == [2, 2]


def test_ratios_are_of_medians_or_of_turns() -> None:
    timing = Timing({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, {"a": [6.0], "b": [4.0]})
    assert timing.ratio("a", "b") == 4.0
    assert timing.ratio_of_turns("a", "b") == 3.0
    assert timing.cpu_ratio("a", "b") == 1.5


def test_a_limit_stands_beside_its_figure() -> None:
    assert limited({"ratio": 1.6}, "ratio", at_most=1.5)["kept"] is False
    fast = limited({"windows_per_second": 41_000.0}, "windows_per_second", at_least=40_000)
    assert (fast["windows_per_second_at_least"], fast["kept"]) == (40_000, True)


def test_preparation_stands_beside_the_sum_of_its_parts(signals: dict[str, Any]) -> None:
    figures = signals["preparation"]
    parts = sum(figures[f"{name}_s"] for name in ("read", "resample", "band_pass", "write"))
    assert figures["ratio"] == pytest.approx(figures["whole_s"] / parts)
    assert figures["command_ratio"] == pytest.approx(figures["command_s"] / parts)
    assert figures["ratio_at_most"] == 1.5
    assert 0 < figures["furthest_from_parts_in_steps"] < 0.51
    assert signals["night"].startswith("simulated")


def test_memory_is_counted_above_an_idle_interpreter_without_torch(signals: dict[str, Any]) -> None:
    figures = signals["memory"]
    assert figures["above_idle_mib"] == figures["peak_mib"] - figures["idle_mib"]
    assert 0 < figures["above_idle_mib"] < figures["above_idle_mib_at_most"] == 700
    assert figures["torch_imported"] is False


def test_all_windows_of_an_epoch_are_read(signals: dict[str, Any]) -> None:
    figures = signals["batches"]
    assert figures["windows"] == 2 * 24
    assert figures["windows_per_second"] == pytest.approx(48 / figures["epoch_s"])
    assert figures["equal_to_store"] is True


@pytest.mark.parametrize(("what", "patches"), [("cut_images", 2 * 196), ("cut_windows", 8 * 40)])
def test_cutting_stands_beside_loops(part: dict[str, Any], what: str, patches: int) -> None:
    figures = part[what]
    assert (figures["patches"], figures["times_loop_at_least"]) == (patches, 4)
    assert figures["times_loop"] == pytest.approx(figures["loop_s"] / figures["cut_s"])
    assert figures["bitwise_equal"] is True


def test_a_step_stands_beside_its_encoder(part: dict[str, Any]) -> None:
    figures = part["step_dim16"]
    assert figures["ratio"] == pytest.approx(figures["step_s"] / figures["encoder_s"])
    # Patch embedding, [CLS], fixed positions (30 + 1), 4 blocks, final norm.
    block = 12 * 16 * 16 + 9 * 16 + 4 * 16
    assert figures["encoder_parameters"] == 600 * 16 + 16 + 16 + 31 * 16 + 4 * block + 32


def test_figures_are_ready_for_json(part: dict[str, Any], signals: dict[str, Any]) -> None:
    for figures in (part, signals):
        assert json.loads(json.dumps(plain(figures))) == plain(figures)


def test_the_loop_of_slices_equals_patches_cut_by_hand() -> None:
    values = torch.arange(12).reshape(1, 1, 3, 4)
    boxes = Boxes(torch.tensor([[[0, 1], [1, 2]]]), torch.full((1, 2, 2), 2))
    out = torch.empty(1, 2, 1, 2, 2, dtype=torch.int64)
    of_part.slice_loop(values, of_part.slices_of(boxes), out)
    assert out.tolist() == [[[[[1, 2], [5, 6]]], [[[6, 7], [10, 11]]]]]


def test_a_cut_that_is_not_its_slice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_part, "cut", lambda values, boxes, size: torch.zeros(1, 2, 1, 4))
    fixed = grid_boxes((8,), (4,))
    drawn = Boxes(fixed.start[None], fixed.size[None])
    monkeypatch.setattr(of_part, "random_boxes", lambda *_, **options: drawn)
    with pytest.raises(AssertionError, match="not its slice"):
        of_part.bench_cut(torch.ones(1, 1, 8), 2, (4,), 1)


def test_parts_that_do_other_work_are_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(night.Parts, "furthest", lambda parts, store: 2.0)
    (header,) = simulate_cohort(tmp_path / "raw", persons=1, hours=0.2, seed=0)
    card = load_card("physionet2018")
    create_store(tmp_path / "store", card.store_attributes(simulated=True))
    with pytest.raises(AssertionError, match="same work"):
        night.bench_preparation(header, tmp_path / "store", card, 1)


@pytest.fixture(scope="module")
def objectives() -> dict[str, Any]:
    return bench.bench_objectives(1, windows=2, encoders=((24, 2),))


@pytest.mark.parametrize(
    ("name", "tokens"), [("mae", 7), ("mp3", 30), ("droppos", 7), ("part", 40)]
)
def test_each_objective_stands_beside_the_encoder_and_its_own_tokens(
    objectives: dict[str, Any], name: str, tokens: int
) -> None:
    figures = objectives["dim24"]
    whole, own = figures["encoder"]["step_s"], figures[name]["own_encoder_s"]
    assert (figures["encoder"]["tokens"], figures[name]["tokens"]) == (30, tokens)
    assert figures[name]["ratio"] == pytest.approx(figures[name]["step_s"] / whole)
    assert figures[name]["ratio_to_own_encoder"] == pytest.approx(figures[name]["step_s"] / own)


def test_the_settings_of_measured_objectives_are_told_as_json(objectives: dict[str, Any]) -> None:
    told = {settings["name"]: settings for settings in objectives["objectives"]}
    assert [told["mae"][key] for key in ("decoder_dim", "decoder_depth")] == [128, 2]
    assert [told["part"][key] for key in ("patches", "pairs")] == [40, 160]
    assert json.loads(json.dumps(plain(objectives))) == plain(objectives)


def test_an_encoder_alone_gets_what_the_objective_gives_it() -> None:
    encoder = ViT((3000,), (100,), 6, 24, 1, 2, position="sincos")
    batch = of_objectives.random_batch(encoder, 3)
    objective = DropPos(encoder, DropPosSettings(decoder_dim=16, decoder_heads=2))
    inputs, options = of_objectives.inputs_of(objective, encoder, batch)
    assert inputs[0].shape == (3, 7, 6, 100)
    assert inputs[1].isnan().sum().item() == 3 * 6  # int(7 / 4) = 1 of 7 keeps its place
    assert torch.equal(options["unknown"], objective.unknown)
    of_objectives.bare_step(encoder, inputs, options)
    assert encoder.cls_token.grad.abs().sum() > 0


def test_images_are_measured_from_store_and_files_and_in_a_step():
    torch.manual_seed(0)
    encoder = ViT((16, 16), (4, 4), 3, 16, 1, 2, position="sincos")
    found = bench_images(1, images=512, files=((8, 6),), encoder=encoder, grids=2)
    assert found["store"]["kept"] == (found["store"]["images_per_second"] >= 20_000)
    assert set(found["decoding"]) == {"8px_1_processes", "8px_2_processes"}
    decoding = found["decoding"]["8px_1_processes"]
    assert decoding["ratio"] == pytest.approx(
        decoding["images_per_second"] / decoding["pil_images_per_second"]
    )
    step = found["step"]
    assert step["patches"] == 16
    assert step["to_encoder"]["ratio"] == pytest.approx(step["part_s"] / step["encoder_s"])
    assert step["to_mae"]["ratio_to_mae"] == pytest.approx(step["part_s"] / step["mae_s"])


TINY = Size("tiny", "windows", (24,), (8,), 2, dim=16, depth=3, heads=2, batch=4)


def test_operations_of_a_step_are_those_of_its_matrices():
    encoder = TINY.encoder()
    operations = step_flops(build_objective(encoder, PartSettings(patches=3, pairs=2)), TINY)
    # Forward, 2 operations a product: patch embedding 16 -> 16 of 3 patches; in each of 3 blocks
    # 12 D^2 weights on 4 tokens, and scores and sums of 4 x 4 tokens. Backward is twice that, but
    # the values have no gradient. The head comes on top: less than a block.
    embedding = 2 * 3 * 16 * 16
    block = 2 * 12 * 16**2 * 4 + 2 * 2 * 4 * 4 * 16
    least = 2 * embedding + 3 * 3 * block
    assert least < operations < least + 3 * block


def test_a_training_is_timed_on_the_device_that_is_there():
    found = bench.bench_gpu(1, sizes=[TINY], steps=2, device="cpu")
    figures = found["tiny"]
    assert found["device"] == "CPU"
    assert (figures["tokens"], figures["batch"], figures["utilisation"]) == (3, 4, None)
    assert figures["items_per_second"] == pytest.approx(4 / figures["step_ms"] * 1000)
    assert figures["ratio_to_encoder"] == pytest.approx(figures["step_ms"] / figures["encoder_ms"])


def test_beside_braindecode_names_the_extra_or_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    if beside.importlib.util.find_spec("braindecode") is not None:
        found = bench.bench_beside(1, hours=0.25)
        assert (found["windows"], round(found["correlation"], 3)) == (30, 1.0)
    monkeypatch.setattr(beside.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs braindecode; .* pip install "biopart\[bench\]"'):
        bench.bench_beside(1)


def test_correlation_is_of_the_channel_that_agrees_least() -> None:
    one = np.array([[1.0, 2.0, 4.0], [1.0, 0.0, 2.0]])
    other = np.array([[2.0, 3.0, 5.0], [0.0, 1.0, 0.0]])
    # Second channels: deviations (0, -1, 1) and (-1, 2, -1) / 3; -3 / 3 over sqrt(2) sqrt(6) / 3.
    assert beside.correlation(one, other) == pytest.approx(-3 / 12**0.5)


def test_methods_with_a_teacher_take_turns_with_lightlys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "IMAGES", 4)
    monkeypatch.setattr(
        teachers,
        "DINO",
        DinoSettings(prototypes=32, hidden=16, bottleneck=8, teacher_temperature=(0.04, 0.04)),
    )
    monkeypatch.setattr(teachers, "BYOL", ByolSettings(hidden=16, out=8))
    found = bench.bench_teachers(1)
    ratio = found["selfpatch"]["step_s"] / found["dino"]["step_s"]
    assert found["selfpatch_to_dino"] == pytest.approx(ratio)
    assert found["cossl_to_byol"] > 0
    if find_spec("lightly") is None:
        assert "losses" not in found
        return
    for losses in found["losses"].values():
        assert losses["lightly"] == pytest.approx(losses["ours"], rel=1e-5)
