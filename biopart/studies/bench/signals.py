"""The path from a raw night to windows, measured."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biopart.signals import simulate_cohort
from biopart.store import create_store, load_card
from biopart.studies.bench.night import bench_batches, bench_memory, bench_preparation

Say = Callable[[str], None]


def bench_signals(
    repeats: int, say: Say = lambda line: None, *, hours: float = 8.0, nights: int = 8
) -> dict[str, Any]:
    """Measure preparing one night, its memory, and reading shuffled windows.

    Parameters
    ----------
    repeats : int
        Turns that count.
    say : callable
        Gets a line before each measurement.
    hours : float
        Length of the simulated night and of the nights that windows are read from.
    nights : int
        Nights that windows are read from.

    Returns
    -------
    dict
        ``preparation``, ``memory`` and ``batches``, each with its parts and its limit.
    """
    with tempfile.TemporaryDirectory(prefix="biopart-bench-") as name:
        folder = Path(name)
        say(f"simulating a night of {hours:g} h with 13 channels at 200 Hz")
        (header,) = simulate_cohort(folder / "raw", persons=1, hours=hours, seed=0)
        card = load_card("physionet2018")
        create_store(folder / "store", card.store_attributes(simulated=True))
        say("preparing it, beside the parts of preparing")
        preparation = bench_preparation(header, folder / "store", card, repeats)
        say("measuring the peak memory of preparing in a process of its own")
        memory = bench_memory(header, folder / "store")
        say(f"reading shuffled windows of {nights} nights of random values")
        batches = bench_batches(folder / "windows", card, repeats, hours=hours, nights=nights)
    return {
        "night": f"simulated, {hours:g} h, 13 channels at 200 Hz in WFDB, six wanted",
        "repeats": repeats,
        "preparation": preparation,
        "memory": memory,
        "batches": batches,
    }
