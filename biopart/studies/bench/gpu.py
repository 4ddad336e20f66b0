"""Throughput of training on this machine's device: windows, images, and how busy it is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from biopart.compute import compiled, open_fabric
from biopart.data import Batch
from biopart.experiment.stored import build_objective
from biopart.grid import patchify
from biopart.nn import Encoder, build_encoder
from biopart.recipe import ComputeSettings, PartSettings, PretrainSettings
from biopart.settings import checked
from biopart.train import Training, fit

Say = Callable[[str], None]
WINDOW = ("windows", (3000,), (100,), 6)
IMAGE = ("images", (224, 224), (16, 16), 3)
# Dense bfloat16 peaks in FLOP/s, of the makers' data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


@dataclass(frozen=True)
class Size:
    """What is trained: a name, the grid of an item, and the encoder."""

    name: str
    unit: str
    shape: tuple[int, ...]
    patch: tuple[int, ...]
    channels: int
    dim: int
    depth: int
    heads: int
    batch: int

    def encoder(self) -> Encoder:
        """Build it."""
        return build_encoder(
            {
                "shape": self.shape,
                "patch": self.patch,
                "channels": self.channels,
                "dim": self.dim,
                "depth": self.depth,
                "heads": self.heads,
                "position": "sincos",
            }
        )


SIZES = (
    Size("EEG, 12.9 M parameters", *WINDOW, dim=512, depth=4, heads=8, batch=1024),
    Size("ViT-B/16", *IMAGE, dim=768, depth=12, heads=12, batch=256),
)


class RandomItems:
    """Items of random integers on the device, like those of a resident cohort."""

    def __init__(self, size: Size, count: int, device: torch.device) -> None:
        generator = torch.Generator(device=device).manual_seed(0)
        shape = (count, size.channels, *size.shape)
        signed = size.unit == "windows"
        self.values = torch.randint(
            -3000 if signed else 0,
            3000 if signed else 256,
            shape,
            generator=generator,
            device=device,
            dtype=torch.int16 if signed else torch.uint8,
        )
        self._label = torch.full((count,), -1, device=device)

    def __len__(self) -> int:
        return len(self.values)

    def __getitems__(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Batch:
        """Return items by a slice, since their order does not matter."""
        first, count = int(indices[0]) % (len(self) - len(indices) + 1), len(indices)
        values = self.values[first : first + count]
        return Batch(values, self._label[:count], ["nobody"] * count, ["random:0"] * count)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Do nothing: items are used whole."""


def bench_gpu(
    repeats: int,
    say: Say = lambda line: None,
    *,
    sizes: Sequence[Size] = SIZES,
    steps: int = 100,
    device: str = "auto",
) -> dict[str, Any]:
    """Train by PART on random items on the device, with the training loop.

    Runs on a CPU too, which takes minutes there.

    Parameters
    ----------
    repeats : int
        Trainings that count, each of ``steps`` steps; figures are of the fastest.
    say : callable
        Gets a line before each measurement.
    sizes : sequence of Size
        Encoders and items.
    steps : int
        Steps of a training.
    device : str
        auto, cpu or cuda:N.

    Returns
    -------
    dict
        ``device``, ``matrix_tflops`` (what a product of two large bfloat16 matrices reaches
        here) and by encoder: ``items_per_second``, ``step_ms``, ``tflops`` (of a whole step, as
        torch counts them), ``utilisation`` (share of the maker's dense bfloat16 peak; None where
        it is not known), ``device_waits`` (share of time without a kernel, by torch's profiler; on
        a GPU only), ``ratio_to_encoder`` (time of a step to that of the bare encoder on as many
        tokens) and ``peak_gib``; on a GPU each once more for the compiled encoder.
    """
    settings = checked(ComputeSettings, {"device": device, "precision": "bfloat16"}, "bench gpu")
    fabric = open_fabric(settings)
    gpu = fabric.device.type == "cuda"
    name = torch.cuda.get_device_name(fabric.device) if gpu else "CPU"
    peak = next((peak for key, peak in PEAKS.items() if key in name), None)
    product = matrix_flops(fabric.device, side=8192 if gpu else 1024)
    result: dict[str, Any] = {"device": name, "matrix_tflops": product / 1e12}
    for size in sizes:
        for compile_it in (False, True) if gpu else (False,):
            title = f"{size.name}{', compiled' if compile_it else ''}: batches of {size.batch}"
            say(f"{title}, {steps} steps by PART on {name}")
            compute = settings.model_copy(update={"compile": compile_it})
            figures = measure_size(size, fabric, compute, repeats=repeats, steps=steps)
            figures["utilisation"] = peak and figures["tflops"] * 1e12 / peak
            result[size.name + (", compiled" if compile_it else "")] = figures
    return result


def measure_size(
    size: Size, fabric: Fabric, compute: ComputeSettings, *, repeats: int, steps: int
) -> dict[str, Any]:
    """Train an encoder of a size and return its measurements."""
    torch.manual_seed(0)
    tokens = int(np.prod([s // p for s, p in zip(size.shape, size.patch, strict=True)]))
    encoder = size.encoder()
    objective = build_objective(encoder, PartSettings(patches=tokens, pairs=4 * tokens))
    flops = step_flops(objective, size) * size.batch * steps
    compiled(encoder, compute)
    source = RandomItems(size, 4 * size.batch, fabric.device)
    optimisation = PretrainSettings(steps=steps, batch=size.batch, warmup_epochs=0).loop_settings
    task = Training(objective, source, optimisation, "window", 0)
    fit(task, fabric)  # warms up, and compiles
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(fabric.device)
    seconds = min(timed(lambda: fit(task, fabric), fabric.device) for _ in range(repeats))
    values = source.values[: size.batch].float()
    bare = timed(lambda: bare_steps(encoder, values, fabric, steps), fabric.device)
    figures: dict[str, Any] = {
        "items": size.unit,
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        "tokens": tokens,
        "batch": size.batch,
        "items_per_second": size.batch * steps / seconds,
        "step_ms": 1000 * seconds / steps,
        "encoder_ms": 1000 * bare / steps,
        "ratio_to_encoder": seconds / bare,
        "tflops": flops / seconds / 1e12,
    }
    if fabric.device.type == "cuda":
        figures["device_waits"] = waiting(lambda: fit(task, fabric), fabric.device)
        figures["peak_gib"] = torch.cuda.max_memory_allocated(fabric.device) / 2**30
    return figures


def bare_steps(encoder: Encoder, values: Tensor, fabric: Fabric, steps: int) -> None:
    """Go forward and backward through an encoder on the grid's patches."""
    patches = patchify(values, encoder.patch)
    for _ in range(steps):
        encoder.zero_grad(set_to_none=True)
        with fabric.autocast():
            tokens = encoder(patches)
        torch.autograd.backward(tokens, torch.ones_like(tokens))


def step_flops(objective: nn.Module, size: Size) -> float:
    """Count the operations of a step for one item, forward and backward, by torch's counter."""
    count, counter = 2, FlopCounterMode(display=False)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count, size.channels, *size.shape, generator=generator)
    unknown = torch.full((count,), -1)
    batch = Batch(values, unknown, ["nobody"] * count, ["random:0"] * count)
    with counter:
        objective(batch, torch.Generator().manual_seed(0), 0.0).loss.backward()
    objective.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / count


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of work, until the device is done."""
    synchronise(device)
    begun = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begun


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waiting(work: Callable[[], object], device: torch.device) -> float:
    """Return the share of time in which no kernel runs, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        work()
        synchronise(device)
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in trace.events() or []
        if event.device_type.name == "CUDA"
    )
    return idle_share(spans)


def idle_share(spans: Sequence[tuple[float, float]]) -> float:
    """Return the share of the time from first to last that no span covers; spans are sorted.

    Examples
    --------
    >>> idle_share([(0.0, 2.0), (1.0, 3.0), (5.0, 8.0)])
    0.25
    """
    busy, reached = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return 1 - busy / (reached - spans[0][0])


def matrix_flops(device: torch.device, side: int) -> float:
    """Return the operations per second of a bfloat16 product of two square matrices."""
    left, right = torch.randn(2, side, side, device=device).bfloat16()
    for _ in range(3):
        left @ right
    repeats = 10
    seconds = timed(lambda: [left @ right for _ in range(repeats)], device)
    return 2.0 * side**3 * repeats / seconds
