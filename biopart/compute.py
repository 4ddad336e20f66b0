"""The machine that a run uses: device, threads, precision, and where a cohort lies."""

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from biopart.data import ResidentSource, Source
from biopart.nn import ViT
from biopart.recipe import ComputeSettings


def open_fabric(compute: ComputeSettings, trial: Callable[[], nn.Module] | None = None) -> Fabric:
    """Choose device, threads and precision.

    Parameters
    ----------
    compute : ComputeSettings
        What the recipe says; every auto is chosen here.
    trial : callable, optional
        Builds an encoder on which bfloat16 is measured against float32 where precision is auto.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    torch.set_num_threads((os.cpu_count() or 1) if compute.threads == "auto" else compute.threads)
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device {name!r} is not there; give auto, cpu or cuda:N")
    devices: Any = [int(number)] if number else 1
    precision: str = compute.precision
    if precision == "auto":
        precision = "float32" if trial is None else faster_precision(trial(), name)
    spelled = {"float32": "32-true", "bfloat16": "bf16-mixed"}[precision]
    return Fabric(accelerator=kind, devices=devices, precision=spelled)


def faster_precision(encoder: nn.Module, device: str) -> str:
    """Return the precision whose forward and backward of an encoder is faster, measured."""
    assert isinstance(encoder, ViT)
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


def settle(source: Source, compute: ComputeSettings, fabric: Fabric) -> Source | ResidentSource:
    """Hold a source on the device where the recipe asks for it, or where a GPU has room."""
    wanted = compute.resident
    if wanted == "auto":
        if fabric.device.type != "cuda":
            return source
        numbers = np.unique(source.record).tolist()
        size = sum(source.cohort.signal(source.cohort.records[n]).nbytes for n in numbers)
        wanted = size < 0.5 * torch.cuda.mem_get_info(fabric.device)[0]
    return source.resident(fabric.device) if wanted else source


def compiled(encoder: ViT, compute: ComputeSettings) -> None:
    """Compile an encoder in place where the recipe asks for it; its names stay."""
    if compute.compile:
        encoder.compile()
