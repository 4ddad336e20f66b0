"""Preparing a night and reading its windows beside braindecode, which does the same."""

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from biopart.data import Sampler, Source, open_cohort
from biopart.signals import open_recording, prepare_recording, simulate_cohort
from biopart.store import Card, create_store, load_card, write_record
from biopart.studies.bench.turns import Timing, in_turns

Say = Callable[[str], None]
BATCH = 256


def bench_beside(
    repeats: int, say: Say = lambda line: None, *, hours: float = 8.0
) -> dict[str, Any]:
    """Time biopart and braindecode in turns, in one process, on one simulated night in EDF.

    Both read six channels, resample them to 100 Hz, filter 0.1 to 30 Hz forward and backward with
    Butterworth sections and cut windows of 30 s; ours are also written to a store. Then all windows
    are read in shuffled batches of 256, without worker processes.

    Parameters
    ----------
    repeats : int
        Turns that count.
    say : callable
        Gets a line before each measurement.
    hours : float
        Length of the night.

    Returns
    -------
    dict
        Medians of seconds, and ``prepare_ratio`` and ``read_ratio``: braindecode's seconds over
        ours, on the clock and of the CPUs.

    Raises
    ------
    ValueError
        If braindecode is not installed; names the extra.
    """
    if importlib.util.find_spec("braindecode") is None:
        raise ValueError(
            'bench beside needs braindecode; install it with: pip install "biopart[bench]"'
        )
    with tempfile.TemporaryDirectory(prefix="biopart-bench-") as name:
        folder, card = Path(name), load_card("physionet2018")
        say(f"simulating a night of {hours:g} h with 13 channels at 200 Hz as EDF")
        simulate_cohort(folder / "raw", persons=1, hours=hours, seed=0, kind="edf")
        (night,) = (folder / "raw").glob("*PSG.edf")
        say("preparing")
        prepared, theirs = prepare_both(night, card, folder / "store", repeats)
        say("reading shuffled batches")
        read = read_both(open_cohort(folder / "store").source(keep_bad=True), theirs, repeats)
    return {
        "versions": {n: importlib.import_module(n).__version__ for n in ("braindecode", "mne")},
        "night": f"simulated, {hours:g} h, 13 channels at 200 Hz in EDF, six wanted",
        **read,
        **compared("prepare", prepared),
    }


def prepare_both(night: Path, card: Card, store: Path, repeats: int) -> tuple[Timing, Any]:
    """Time preparing a night in turns; return the times, and braindecode's windows."""
    create_store(store, card.store_attributes(simulated=True))
    windows: list[Any] = []

    def ours() -> None:
        record = prepare_recording(open_recording(night), card)
        attributes = {**record.attributes, "person": "one"}
        write_record(store, "night", replace(record, attributes=attributes))

    def theirs() -> None:
        windows[:] = [braindecode_windows(night, card)]

    return in_turns({"biopart": ours, "braindecode": theirs}, repeats), windows[0]


def read_both(source: Source, theirs: Any, repeats: int) -> dict[str, Any]:
    """Time reading all windows in turns, which must be the same ones."""
    items = list(Sampler(len(source), BATCH, seed=0).batches(epoch=0))
    loader = DataLoader(theirs, batch_size=BATCH, shuffle=True)
    counts = len(source), len(theirs)
    assert counts[0] == counts[1], f"the windows are not as many: {counts}"
    middle = counts[0] // 2
    alike = correlation(source[middle].values[0].numpy(), theirs[middle][0])
    assert alike > 0.99, f"the windows are not the same: their correlation is {alike:.3f}"
    calls: dict[str, Callable[[], object]] = {
        "biopart": lambda: [source.__getitems__(batch) for batch in items],
        "braindecode": lambda: [batch[0] for batch in loader],
    }
    timing = in_turns(calls, repeats)
    return {"windows": counts[0], "correlation": alike, **compared("read", timing)}


def compared(what: str, timing: Timing) -> dict[str, Any]:
    """Return medians of seconds, and braindecode's seconds over ours."""
    return {
        what: timing.medians(),
        f"{what}_ratio": timing.ratio("braindecode", "biopart"),
        f"{what}_cpu_ratio": timing.cpu_ratio("braindecode", "biopart"),
    }


def braindecode_windows(night: Path, card: Card) -> Any:
    """Prepare a night with braindecode: a data set of its windows."""
    datasets: Any = importlib.import_module("braindecode.datasets")
    steps: Any = importlib.import_module("braindecode.preprocessing")
    with mne.utils.use_log_level("ERROR"):
        raw = mne.io.read_raw_edf(night, include=list(card.channels), preload=False)
        concatenated = datasets.BaseConcatDataset([datasets.RawDataset(raw, {"subject": 0})])
        low, high = card.band_hz
        iir = {"order": card.filter_order, "ftype": "butter", "output": "sos"}
        steps.preprocess(
            concatenated,
            [
                steps.Preprocessor("load_data"),
                steps.Preprocessor("reorder_channels", ch_names=list(card.channels)),
                steps.Preprocessor("resample", sfreq=card.sfreq_hz),
                steps.Preprocessor("filter", l_freq=low, h_freq=high, method="iir", iir_params=iir),
            ],
        )
        size = round(card.epoch_s * card.sfreq_hz)
        return steps.create_fixed_length_windows(
            concatenated,
            window_size_samples=size,
            window_stride_samples=size,
            drop_last_window=True,
            preload=True,
        )


def correlation(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the smallest correlation over channels of a window (C, T) in two units."""
    pairs = zip(ours, theirs, strict=True)
    return min(float(np.corrcoef(one, other)[0, 1]) for one, other in pairs)
