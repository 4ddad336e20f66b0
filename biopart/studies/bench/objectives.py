"""Benchmark: the price of a step of each pretraining objective, beside the bare encoder."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from biopart.data import Batch
from biopart.experiment.stored import build_objective
from biopart.grid import patchify
from biopart.nn import ViT
from biopart.recipe import DropPosSettings, MaeSettings, Mp3Settings, Objective, PartSettings
from biopart.studies.bench.turns import Timing, in_turns

Inputs = tuple[Any, ...]

# Decoders of 128 x 2: on a CPU the published one of 512 x 8 would be most of a step.
SETTINGS: tuple[Objective, ...] = (
    MaeSettings(decoder_dim=128, decoder_depth=2, decoder_heads=4),
    Mp3Settings(),
    DropPosSettings(decoder_dim=128, decoder_depth=2, decoder_heads=4),
    PartSettings(patches=40, pairs=160),
)


def bench_objectives(
    repeats: int,
    say: Callable[[str], None] = lambda line: None,
    *,
    windows: int = 64,
    encoders: Sequence[tuple[int, int]] = ((128, 4), (512, 8)),
) -> dict[str, Any]:
    """Measure a step of MAE, MP3, DropPos and PART against the bare encoder.

    A step is forward and backward on windows of 30 patches of 100 samples and six channels, of
    random values; normalising, which all need, and the optimiser are in none.

    Parameters
    ----------
    repeats : int
        Turns that count.
    say : callable
        Gets a line before each measurement.
    windows : int
        Windows in a step.
    encoders : sequence of (dim, heads)
        Encoders of depth 4 to measure.

    Returns
    -------
    dict
        ``objectives``: their settings; ``dim<D>``: the measurements of ``bench_steps``.
    """
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "windows": windows,
        "objectives": [settings.model_dump(mode="json") for settings in SETTINGS],
    }
    for dim, heads in encoders:
        say(f"steps of all objectives beside the encoder, dim {dim}, depth 4, {windows} windows")
        encoder = ViT((3000,), (100,), 6, dim, 4, heads, position="sincos")
        result[f"dim{dim}"] = bench_steps(encoder, windows, repeats)
    return result


def bench_steps(encoder: ViT, windows: int, repeats: int) -> dict[str, Any]:
    """Time steps of all objectives in turns with the encoder alone, all with the same weights.

    Returns
    -------
    dict
        ``encoder``: forward and backward on all patches of the grid. By objective: ``tokens`` that
        its encoder gets beside [CLS], seconds, and the ratio to ``encoder``; ``own_encoder_s`` and
        ``ratio_to_own_encoder`` are of the encoder alone on the very input that the objective
        gives it (MAE and DropPos: the visible patches; MP3: all, with its mask; PART: its 40).
    """
    batch = random_batch(encoder, windows)
    calls: dict[str, Callable[[], object]] = {}
    tokens: dict[str, int] = {}
    for settings in SETTINGS:
        objective = build_objective(encoder, settings)
        name = settings.name
        inputs, options = inputs_of(objective, encoder, batch)
        tokens[name] = inputs[0].shape[1]
        calls[name] = partial(step, objective, batch)
        calls[f"{name}_encoder"] = partial(bare_step, encoder, inputs, options)
    calls["encoder"] = partial(bare_step, encoder, (patchify(batch.values, encoder.patch),), {})
    timing = in_turns(calls, repeats)
    return {
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        "encoder": {"tokens": encoder.n_patches, **seconds(timing, "encoder")},
        **{name: {"tokens": tokens[name], **scores_of(timing, name)} for name in tokens},
    }


def random_batch(encoder: ViT, windows: int) -> Batch:
    """Draw windows of normally distributed values that fit an encoder."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(windows, encoder.channels, *encoder.shape, generator=generator)
    unknown = torch.full((windows,), -1)
    return Batch(values, unknown, ["nobody"] * windows, ["random:0"] * windows)


def step(objective: nn.Module, batch: Batch) -> None:
    """Go forward and backward through an objective."""
    objective.zero_grad(set_to_none=True)
    objective(batch, torch.Generator().manual_seed(1), 0.0).loss.backward()


def bare_step(encoder: ViT, inputs: Inputs, options: dict[str, Any]) -> None:
    """Go forward and backward through an encoder alone.

    The gradient is random: the final norm would turn a constant one into zeros and denormals.
    """
    encoder.zero_grad(set_to_none=True)
    tokens: Tensor = encoder(*inputs, **options)
    torch.autograd.backward(tokens, torch.randn_like(tokens))


def inputs_of(objective: nn.Module, encoder: ViT, batch: Batch) -> tuple[Inputs, dict[str, Any]]:
    """Return what an objective gives its encoder."""
    calls: list[tuple[Inputs, dict[str, Any]]] = []
    hook = encoder.register_forward_pre_hook(
        lambda _, inputs, options: calls.append((inputs, options)), with_kwargs=True
    )
    step(objective, batch)
    hook.remove()
    inputs, options = calls[-1]
    # A weight of the objective, DropPos's token, is no more than a value here.
    return inputs, {
        name: value.detach() if isinstance(value, Tensor) else value
        for name, value in options.items()
    }


def seconds(timing: Timing, name: str) -> dict[str, float]:
    """Return the medians of a call: on the clock and of the CPUs."""
    return {"step_s": median(timing.wall[name]), "step_cpu_s": median(timing.cpu[name])}


def scores_of(timing: Timing, name: str) -> dict[str, float]:
    """Return seconds and ratios of an objective."""
    own = f"{name}_encoder"
    return {
        **seconds(timing, name),
        "own_encoder_s": median(timing.wall[own]),
        "ratio": timing.ratio(name, "encoder"),
        "cpu_ratio": timing.cpu_ratio(name, "encoder"),
        "ratio_of_turns": timing.ratio_of_turns(name, "encoder"),
        "ratio_to_own_encoder": timing.ratio(name, own),
    }
