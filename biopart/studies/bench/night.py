"""The path from a raw night to windows, measured: preparation, its memory, shuffled batches."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
import wfdb
import zarr
from numpy.typing import NDArray
from scipy import signal as dsp

from biopart.data import Sampler, WindowSource, open_cohort
from biopart.signals import open_recording, prepare_recording
from biopart.signals.ingest import ingest_one
from biopart.store import Card, Record, Store, create_store, write_record
from biopart.studies.bench.turns import in_turns, limited

MEMORY_PROBE = """
import json, sys
from pathlib import Path
import wfdb
from biopart.signals import open_recording, prepare_recording
from biopart.signals.readers import wfdb_records
from biopart.store import load_card, write_record
if len(sys.argv) > 1:
    header, store = map(Path, sys.argv[1:])
    record = prepare_recording(open_recording(header), load_card("physionet2018"))
    write_record(store, header.stem, record)
status = Path("/proc/self/status")
if status.is_file() and "VmHWM" in status.read_text():
    peak = int(status.read_text().partition("VmHWM:")[2].split()[0])
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_kib": peak, "torch": "torch" in sys.modules}))
"""
"""Prints the peak memory of a process that prepares a night, or that only imports the same.

VmHWM where there is one: Linux starts ru_maxrss of a child at the size of its parent.
"""


def bench_preparation(header: Path, store: Path, card: Card, repeats: int) -> dict[str, Any]:
    """Time opening, preparing and writing a night, in turns with the parts of that work.

    ``command_s`` is what ``biopart prepare`` does with a night: the same, and the person, the
    hash of the raw files and the reason where a night is refused.
    """
    parts = Parts(header, card, store.with_name("part.zarr"))

    def whole() -> None:
        record = prepare_recording(open_recording(header), card)
        write_record(store, header.stem, record)

    def command() -> None:
        assert isinstance(ingest_one(card, header, store, layout="training", people={}), dict)

    calls = {"whole": whole, "command": command, **parts.calls()}
    timing = in_turns(calls, repeats)
    figures = {
        **timing.medians(),
        "furthest_from_parts_in_steps": parts.furthest(Store(store)),
        "command_ratio": timing.ratio("command", *parts.calls()),
        "cpu_ratio": timing.cpu_ratio("whole", *parts.calls()),
        "ratio_of_turns": timing.ratio_of_turns("whole", *parts.calls()),
        "ratio": timing.ratio("whole", *parts.calls()),
    }
    assert figures["furthest_from_parts_in_steps"] < 1, "the parts do not do the same work"
    return limited(figures, "ratio", at_most=1.5)


class Parts:
    """What preparing a night cannot do without, each part by itself on the same data.

    Parameters
    ----------
    header : Path
        WFDB header of a night at 200 Hz.
    card : Card
        Channels, rate and band.
    target : Path
        Where the write goes.
    """

    def __init__(self, header: Path, card: Card, target: Path) -> None:
        self.record, self.target = str(header.with_suffix("")), target
        fields = wfdb.rdheader(self.record)
        self.picked = [fields.sig_name.index(name) for name in card.channels]
        self.from_hz, self.to_hz = fields.fs, card.sfreq_hz
        self.sections = dsp.butter(
            card.filter_order, card.band_hz, "bandpass", fs=card.sfreq_hz, output="sos"
        )
        gain = np.array(fields.adc_gain, np.float32)[self.picked, None]
        baseline = np.array(fields.baseline, np.float32)[self.picked, None]
        self.physical = (self.read().T.astype(np.float32) - baseline) / gain
        self.resampled = self.resample()
        self.filtered = self.band_pass()
        self.stored = np.stack(self.filtered).astype(np.int16)

    def calls(self) -> dict[str, Callable[[], object]]:
        """Return the parts by name."""
        return {
            "read": self.read,
            "resample": self.resample,
            "band_pass": self.band_pass,
            "write": self.write,
        }

    def read(self) -> NDArray[np.int16]:
        """Read the wanted channels as the file's integers, (time, channel)."""
        options = {"physical": False, "return_res": 16, "channels": self.picked}
        integers: NDArray[np.int16] = wfdb.rdrecord(self.record, **options).d_signal
        return integers

    def resample(self) -> list[NDArray[np.float32]]:
        """Resample each channel, float32."""
        rates = (self.from_hz, self.to_hz)
        return [soxr.resample(row, *rates, quality="HQ") for row in self.physical]

    def band_pass(self) -> list[NDArray[np.float64]]:
        """Filter each channel forward and backward."""
        return [dsp.sosfiltfilt(self.sections, row) for row in self.resampled]

    def write(self) -> None:
        """Write int16 as one raw chunk."""
        shape = self.stored.shape
        options: Any = {"chunks": shape, "compressors": None, "zarr_format": 3, "overwrite": True}
        zarr.create_array(self.target, shape=shape, dtype="int16", **options)[:] = self.stored

    def furthest(self, store: Store) -> float:
        """Return the largest difference of the stored night from the parts', in stored steps."""
        (name,) = store.records
        scale = store.scale(name)[:, None]
        away = np.abs(store.signal(name) - np.stack(self.filtered) / scale)
        return float(away.max())


def bench_memory(header: Path, store: Path) -> dict[str, Any]:
    """Measure the peak memory of preparing above an idle interpreter with the same libraries."""
    idle, busy = _probe(), _probe(header, store)
    assert not busy["torch"], "preparing imported torch"
    figures = {
        "idle_mib": idle["peak_kib"] / 1024,
        "peak_mib": busy["peak_kib"] / 1024,
        "torch_imported": busy["torch"],
    }
    figures["above_idle_mib"] = figures["peak_mib"] - figures["idle_mib"]
    return limited(figures, "above_idle_mib", at_most=700.0)


def _probe(*arguments: Path) -> dict[str, Any]:
    """Run the memory probe in a process of its own."""
    command = [sys.executable, "-c", MEMORY_PROBE, *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


def bench_batches(
    path: Path, card: Card, repeats: int, *, hours: float, nights: int
) -> dict[str, Any]:
    """Time shuffled batches of 256 windows of (6, 3000), without a worker process."""
    create_store(path, card.store_attributes(simulated=True))
    generator = np.random.default_rng(0)
    epochs = round(hours * 3600 / card.epoch_s)
    shape = (len(card.channels), round(epochs * card.epoch_s * card.sfreq_hz))
    label, bad = np.zeros(epochs, np.int8), np.zeros((0, 2), np.int64)
    for night in range(nights):
        values = generator.integers(-3000, 3000, shape, dtype=np.int16)
        record = Record(values, np.ones(len(values)), label, bad, {"person": f"night{night}"})
        write_record(path, f"night{night}", record)
    source = open_cohort(path).source()
    assert isinstance(source, WindowSource)
    items = list(Sampler(len(source), 256, seed=0).batches(epoch=0))
    every = np.concatenate(items)
    slices = [source.signal(n)[:, e * 3000 : e * 3000 + 3000] for n, e in _places(source, every)]
    read = torch.cat([source.__getitems__(batch).values for batch in items])
    assert np.array_equal(read.numpy(), np.stack(slices)), "a window is not what is stored"
    timing = in_turns({"epoch": lambda: [source.__getitems__(i) for i in items]}, repeats)
    figures: dict[str, Any] = {"windows": len(source), "equal_to_store": True, **timing.medians()}
    figures["windows_per_cpu_second"] = len(source) / figures["epoch_cpu_s"]
    figures["windows_per_second"] = len(source) / figures["epoch_s"]
    return limited(figures, "windows_per_second", at_least=40_000)


def _places(source: Any, items: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return record number and epoch of items."""
    return list(zip(source.record[items].tolist(), source.place[items].tolist(), strict=True))
