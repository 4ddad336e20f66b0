"""Say what is wrong with a store, a run or a recipe; measure position leaks of a store."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from biopart.evaluation.leak import position_leak
from biopart.run import Run
from biopart.store import Store
from biopart.store.records import MISSING

LEAK_WINDOWS = 60


def check_store(store: Store) -> dict[str, Any]:
    """Look at every record of a store.

    Returns
    -------
    dict
        ``records``, ``persons``, ``windows``, ``labels`` {name: windows}, ``bad_share`` (share of
        samples marked), ``problems`` (sentences; empty = nothing found) and ``remarks``.
    """
    problems, remarks = [], []
    labels: Counter[str] = Counter()
    windows = bad = samples = 0
    names = store.label_names
    for record in store:
        signal, label, about = store.signal(record), store.label(record), store.about(record)
        windows, samples = windows + len(label), samples + signal.shape[1]
        bad += int(np.diff(store.bad(record)).sum())
        labels.update(names[code] for code in label[label >= 0].tolist())
        if len(label) != signal.shape[1] // store.epoch_samples:
            problems.append(f"{record}: {len(label)} labels do not fit its length")
        deviation = store.scale(record) * signal[:, ::50].std(axis=1)
        for channel, value in zip(store.channels, deviation.tolist(), strict=True):
            if value == 0:
                problems.append(f"{record}: {channel} is flat throughout")
        if (signal[:, :: store.epoch_samples] == MISSING).all():
            problems.append(f"{record}: every epoch begins with a missing sample")
        remarks += [f"{record}: {warning}" for warning in about.get("warnings", [])]
        if names and not (label >= 0).any():
            remarks.append(f"{record}: no epoch is labelled")
    if not len(store):
        problems.append("the store holds no record")
    problems += [f"nobody has {name}" for name in names if labels[name] == 0]
    return {
        "records": len(store),
        "persons": len(set(store.persons.values())),
        "windows": windows,
        "labels": {name: labels[name] for name in names},
        "bad_share": bad / max(samples, 1),
        "problems": problems,
        "remarks": remarks,
    }


def check_leak(store: Store, *, patch_s: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Ask whether trivial features tell the first or last patch of a window from the others.

    Parameters
    ----------
    store : Store
        At least two persons.
    patch_s : float
        Length of a patch in seconds; epochs are cut into whole patches.
    seed : int
        Of the windows taken, the folds and the bootstrap.

    Returns
    -------
    dict
        As evaluation.leak.position_leak: area under the curve and interval over persons for
        ``first``, ``last`` and ``edge``, and ``leaks``.
    """
    epoch, patch = store.epoch_samples, round(patch_s * store.sfreq_hz)
    count = epoch // patch
    if count < 3:
        raise ValueError(f"an epoch of {epoch} samples has fewer than 3 patches of {patch}")
    generator = np.random.default_rng(seed)
    windows, persons = [], []
    for record in store:
        signal, bad = store.signal(record), store.bad(record)
        whole = signal.shape[1] // epoch
        starts = np.arange(whole) * epoch
        clean = np.ones(whole, dtype=bool)
        for first, last in bad:
            clean &= (starts + epoch <= first) | (starts >= last)
        epochs = np.flatnonzero(clean)
        chosen = generator.permutation(epochs)[:LEAK_WINDOWS]
        for number in chosen.tolist():
            window = signal[:, number * epoch : number * epoch + count * patch]
            windows.append(window.reshape(len(window), count, patch).transpose(1, 0, 2))
        persons += [store.persons[record]] * len(chosen)
    patches = np.stack(windows).astype(np.float32)
    return position_leak(patches, persons, seed=seed, windows_per_person=LEAK_WINDOWS)


def check_run(run: Run) -> dict[str, Any]:
    """Look whether a run is complete and its figures are finite."""
    origin = run.pretrained()
    problems = []
    if not origin.encoder.is_file():
        problems.append("the encoder is missing: go on with biopart pretrain --resume")
    rows = origin.metrics()
    broken = [row["step"] for row in rows if row.get("train/loss", 0.0) is None]
    if broken:
        problems.append(f"the loss is no number at steps {broken[:5]}")
    return {
        "run": str(origin.path),
        "steps_logged": rows[-1]["step"] if rows else 0,
        "finetunings": [tuned.path.name for tuned in origin.finetunings()],
        "problems": problems,
        "remarks": [],
    }


def is_store(path: Path) -> bool:
    """Tell a store's folder from a run's."""
    return (path / "zarr.json").is_file()
