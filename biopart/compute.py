"""The hardware of a run: device, threads, precision, and placement of the cohort."""

import atexit
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

from biopart.data import Source
from biopart.data.source import Resident
from biopart.files import cache_folder, write_json
from biopart.nn import Encoder
from biopart.nn.shards import shard
from biopart.recipe import ComputeSettings


def open_fabric(
    compute: ComputeSettings, trial: Callable[[], Encoder] | None = None, *, share: bool = False
) -> Fabric:
    """Choose device, threads and precision, and launch the processes that share a training.

    Lightning Fabric starts the command again for each further process, or finds that torchrun or
    SLURM has.

    Parameters
    ----------
    compute : ComputeSettings
        Settings of the recipe; every auto is resolved here.
    trial : callable, optional
        Builds an encoder to measure bfloat16 against float32 if precision is auto.
    share : bool
        Whether several processes may share the work, as ``compute.devices`` and ``nodes`` say.

    Raises
    ------
    ValueError
        If a device is not available, or there are fewer than asked for.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if not has_device(name):
        raise ValueError(f"device {name!r} is not available; give auto, cpu or cuda:N")
    here, nodes = processes(compute, name) if share else (1, 1)
    devices: Any = [int(number)] if number else here
    each = threads_each(here) if compute.threads == "auto" else compute.threads
    if share or not torch.distributed.is_initialized():  # a probe inside a training leaves it
        torch.set_num_threads(each)
    precision: str = compute.precision
    if precision == "auto":
        precision = "float32" if trial is None else measured_precision(trial(), name)
    spelled = {"float32": "32-true", "bfloat16": "bf16-mixed"}[precision]
    options: dict[str, Any] = {"accelerator": kind, "devices": devices, "precision": spelled}
    if here * nodes > 1:
        options |= {"strategy": strategy_of(compute, here * nodes), "num_nodes": nodes}
    fabric = Fabric(**options)
    if here * nodes > 1:
        begun = torch.distributed.is_initialized()
        fabric.launch()
        torch.set_num_threads(each)  # Fabric sets it anew
        if not begun:
            atexit.register(torch.distributed.destroy_process_group)
    return fabric


def processes(compute: ComputeSettings, device: str) -> tuple[int, int]:
    """Return how many processes share a training on this machine, and on how many machines.

    What torchrun has started counts; ValueError where there are fewer devices than asked for.
    """
    kind, _, number = device.partition(":")
    there = torch.cuda.device_count() if kind == "cuda" else None
    here, nodes = compute.devices if compute.devices != "auto" else there or 1, compute.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        here, nodes = (int(os.environ[f"{key}_WORLD_SIZE"]) for key in ("LOCAL", "GROUP"))
    if there is not None and here > there:
        raise ValueError(f"devices is {here}, but this machine has {there} GPUs; give at most that")
    if compute.strategy == "fsdp" and here * nodes == 1 and compute.devices != "auto":
        raise ValueError(
            "strategy fsdp divides the weights among devices, but devices is 1; give more, or "
            "leave the strategy out"
        )
    if number and here * nodes > 1:
        raise ValueError(f"device {device} is one device; give device cuda for {here} of them")
    return here, nodes


def strategy_of(compute: ComputeSettings, count: int) -> DDPStrategy | ModelParallelStrategy:
    """Return how so many processes share a training; ValueError where it cannot be so."""
    wait = timedelta(hours=2)  # the first process scores meanwhile
    if compute.strategy == "ddp":
        # In a step without hints, say, positions take no part.
        return DDPStrategy(find_unused_parameters=True, timeout=wait)
    if compute.compile:
        raise ValueError("compute.compile does not work with strategy fsdp; leave one of them out")
    return ModelParallelStrategy(
        lambda module, mesh: shard(module, mesh["data_parallel"]),
        data_parallel_size=count,
        tensor_parallel_size=1,
        timeout=wait,
    )


def has_device(name: str) -> bool:
    """Tell whether this machine has a device: cpu, cuda or cuda:N."""
    kind, _, number = name.partition(":")
    return kind == "cpu" or (kind == "cuda" and int(number or 0) < torch.cuda.device_count())


def cores() -> int:
    """Return the number of CPU cores that this process, or its container, may use."""
    from joblib import cpu_count

    return int(cpu_count())


def threads_each(processes: int) -> int:
    """Return the threads of each of several processes: a share of the cores.

    OMP_NUM_THREADS, which schedulers and users set for what they have been given, is the limit.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    share = max(1, cores() // processes)
    return min(share, int(limit)) if limit.isdigit() and int(limit) else share


def measured_precision(encoder: Encoder, device: str) -> str:
    """Return the faster precision, measured once per machine and kind of encoder.

    The result is cached in ``$XDG_CACHE_HOME/biopart/precision.json`` (``~/.cache`` by default), so
    that two runs of one recipe on one machine choose the same and end with the same weights.
    """
    file, cached = cache_folder() / "precision.json", {}
    machine = f"{platform.node()} {device} {torch.get_num_threads()} threads"
    key = f"torch {torch.__version__} on {machine}: {json.dumps(encoder.arguments)}"
    if file.is_file():
        cached = json.loads(file.read_text(encoding="utf-8"))
    if key not in cached:
        cached[key] = faster_precision(encoder, device)
        with suppress(OSError):  # without a writable home, it is measured every time
            write_json(file, cached)
    return str(cached[key])


def faster_precision(encoder: Encoder, device: str) -> str:
    """Measure which precision has the faster forward and backward pass of an encoder."""
    encoder = encoder.to(device)
    shape = (16, encoder.n_patches, encoder.channels, *encoder.patch)
    patches = torch.randn(shape, device=device)
    seconds = {"float32": math.inf, "bfloat16": math.inf}
    for _ in range(3):
        for name in seconds:
            begun = time.perf_counter()
            with torch.autocast(device.partition(":")[0], torch.bfloat16, name == "bfloat16"):
                encoder(patches).float().square().mean().backward()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return "bfloat16" if seconds["bfloat16"] < 0.9 * seconds["float32"] else "float32"


def settle(source: Source, compute: ComputeSettings, fabric: Fabric) -> Source | Resident:
    """Hold a source on the device if the recipe says so, or if a GPU has room."""
    wanted = compute.resident
    if wanted == "auto":
        if fabric.device.type != "cuda":
            return source
        wanted = source.nbytes < 0.5 * torch.cuda.mem_get_info(fabric.device)[0]
    if not wanted:
        return source
    return source.resident(fabric.device)


def describe(fabric: Fabric, source: object) -> dict[str, Any]:
    """Return the choice for every auto, for provenance.json; a resume reuses it."""
    mixed = fabric._precision.precision != "32-true"
    return {
        "device": str(fabric.device) if fabric.world_size == 1 else fabric.device.type,
        "precision": "bfloat16" if mixed else "float32",
        "threads": torch.get_num_threads(),
        "resident": isinstance(source, Resident),
    }


def compiled(encoder: Encoder, compute: ComputeSettings) -> None:
    """Compile an encoder in place if the recipe says so; its names are kept."""
    if compute.compile:
        encoder.compile()
