"""The hardware of a run: device, threads, precision, and placement of the cohort."""

import json
import logging
import math
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from biopart.codes import MISSING
from biopart.data import Batch, ImageSource, Source, WindowSource
from biopart.data.batch import moved
from biopart.files import cache_folder, write_json
from biopart.nn import Encoder
from biopart.recipe import ComputeSettings


def open_fabric(compute: ComputeSettings, trial: Callable[[], Encoder] | None = None) -> Fabric:
    """Choose device, threads and precision.

    Parameters
    ----------
    compute : ComputeSettings
        Settings of the recipe; every auto is resolved here.
    trial : callable, optional
        Builds an encoder to measure bfloat16 against float32 if precision is auto.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    torch.set_num_threads(cores() if compute.threads == "auto" else compute.threads)
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if not has_device(name):
        raise ValueError(f"device {name!r} is not available; give auto, cpu or cuda:N")
    devices: Any = [int(number)] if number else 1
    precision: str = compute.precision
    if precision == "auto":
        precision = "float32" if trial is None else measured_precision(trial(), name)
    spelled = {"float32": "32-true", "bfloat16": "bf16-mixed"}[precision]
    return Fabric(accelerator=kind, devices=devices, precision=spelled)


def has_device(name: str) -> bool:
    """Tell whether this machine has a device: cpu, cuda or cuda:N."""
    kind, _, number = name.partition(":")
    return kind == "cpu" or (kind == "cuda" and int(number or 0) < torch.cuda.device_count())


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def settle(source: Source, compute: ComputeSettings, fabric: Fabric) -> "Source | Resident":
    """Hold a source on the device if the recipe says so, or if a GPU has room."""
    wanted = compute.resident
    if wanted == "auto":
        if fabric.device.type != "cuda":
            return source
        wanted = source.nbytes < 0.5 * torch.cuda.mem_get_info(fabric.device)[0]
    if not wanted:
        return source
    if isinstance(source, ImageSource):
        return ResidentImages(source, fabric.device)
    assert isinstance(source, WindowSource)
    return ResidentWindows(source, fabric.device)


def describe(fabric: Fabric, source: object) -> dict[str, Any]:
    """Return the choice for every auto, for provenance.json; a resume reuses it."""
    mixed = fabric._precision.precision != "32-true"
    return {
        "device": str(fabric.device),
        "precision": "bfloat16" if mixed else "float32",
        "threads": torch.get_num_threads(),
        "resident": isinstance(source, Resident),
    }


class Resident(ABC):
    """A source whose stored values are on a device; one gather per batch."""

    def __init__(self, source: Source, device: torch.device | str) -> None:
        self.source, self.device = source, torch.device(device)

    def __len__(self) -> int:
        return len(self.source)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the random properties of the items of an epoch."""
        self.source.start_epoch(seed, epoch)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Gather items on the device as one batch."""
        items = np.asarray(indices, dtype=np.int64)
        return self.source.batch_of(self.gather(items), items).to(self.device)

    @abstractmethod
    def gather(self, items: NDArray[np.int64]) -> Tensor:
        """Return the stored values of items, on the device."""


class ResidentWindows(Resident):
    """Windows whose records are on a device as one int16 tensor."""

    source: WindowSource

    def __init__(self, source: WindowSource, device: torch.device | str) -> None:
        super().__init__(source, device)
        if source.context > 1:
            raise ValueError("a resident source gives single windows; give context=1")
        numbers = np.unique(source.record).tolist()
        lengths = [source.signal(number).shape[1] + source.size for number in numbers]
        shape = (len(source.picked), source.size + sum(lengths))
        self._flat = torch.full(shape, MISSING, dtype=torch.int16, device=self.device)
        starts = source.size + np.cumsum([0, *lengths[:-1]])
        self._offset = np.zeros(max(numbers, default=-1) + 1, np.int64)
        self._offset[numbers] = starts
        for number, start in zip(numbers, starts.tolist(), strict=True):
            # One at a time: a cohort fills the memory.
            rows = torch.from_numpy(source.signal(number)[list(source.picked)])
            self._flat[:, start : start + rows.shape[1]] = rows

    def gather(self, items: NDArray[np.int64]) -> Tensor:
        """Return int16 windows (B, C, T); samples outside a recording are missing."""
        offset = self._offset[self.source.record[items]][:, None]
        first = moved(torch.from_numpy(self.source.starts(items) + offset), self.device)
        index = first + torch.arange(self.source.size, device=self.device)
        return self._flat[:, index].transpose(0, 1).contiguous()


class ResidentImages(Resident):
    """Images that are on a device as one uint8 tensor, in the order of their items."""

    source: ImageSource

    def __init__(self, source: ImageSource, device: torch.device | str) -> None:
        super().__init__(source, device)
        shape = (len(source), len(source.picked), *source.shape)
        self._images = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for number in np.unique(source.record).tolist():  # one at a time, as above
            in_record = np.flatnonzero(source.record == number)
            pixels = torch.from_numpy(source.pixels(in_record))
            self._images[torch.from_numpy(in_record).to(self.device)] = pixels.to(self.device)

    def gather(self, items: NDArray[np.int64]) -> Tensor:
        """Return uint8 images (B, C, y, x)."""
        return self._images[moved(torch.from_numpy(items), self.device)]


def compiled(encoder: Encoder, compute: ComputeSettings) -> None:
    """Compile an encoder in place if the recipe says so; its names are kept."""
    if compute.compile:
        encoder.compile()
