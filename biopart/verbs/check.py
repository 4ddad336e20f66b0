"""Find problems of a store or a run; measure position leaks of a store."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from biopart.codes import MISSING
from biopart.evaluation.leak import position_leak
from biopart.images.ingest import stale_packs
from biopart.run import Run
from biopart.settings import checked
from biopart.signals.ingest import stale_records
from biopart.store import Store
from biopart.store.events import events_in
from biopart.store.image_card import ImageCard
from biopart.store.kinds import IMAGES, RECORDINGS
from biopart.store.persons import doubtful_persons

LEAK_WINDOWS = 60
LOOKED_AT = 10_000
"""Samples of a record, spread evenly, by which a channel counts as flat."""
MADE_BY = {
    "pretraining": ("encoder", "pretrain"),
    "detection": ("detector", "detect"),
    "segmentation": ("network", "segment"),
}
"""What a run of each kind should contain, and the command that makes it."""
OUTLYING = 0.9
"""Decades between a record's deviation and the store's median that make its unit doubtful."""


def check_store(store: Store, raw: Path | None = None) -> dict[str, Any]:
    """Check every record of a store; the arrays must have the hash stored with them.

    Parameters
    ----------
    store : Store
        Of recordings or images.
    raw : Path, optional
        Raw folder; its files must be those that the store was prepared from.

    Returns
    -------
    dict
        ``records``; for recordings ``persons``, ``windows`` and ``bad_share`` (share of samples
        marked bad), for images ``images``; ``labels`` {name: count}, ``problems`` (sentences; empty
        = nothing found) and ``remarks``.
    """
    problems, remarks = [], []
    labels: Counter[str] = Counter()
    persons = set()
    items = bad = samples = 0
    deviations: dict[str, float] = {}
    names, recordings = store.label_names, store.kind is RECORDINGS
    for record in store:
        try:
            problems += _changed(store, record)
            label, about = store.label(record), store.about(record)
            if recordings:
                problems += _faults(store, record)
                deviations[record] = _deviation(store, record)
                persons.add(str(about["person"]))
                samples += store.length(record)
                bad += int(np.diff(store.bad(record)).sum())
        except ValueError as error:
            problems.append(str(error))
            continue
        items += len(label)
        labels.update(names[code] for code in label[label >= 0].tolist())
        remarks += [f"{record}: {warning}" for warning in about.get("warnings", [])]
        remarks += [f"{record}: {n} is excluded, {why}" for n, why in about.get("bad", {}).items()]
        if names and not (label >= 0).any():
            remarks.append(f"{record}: has no labels")
    if not len(store):
        problems.append("the store has no records")
    with suppress(ValueError):  # of an unreadable record, reported above
        problems += doubtful_persons(store)
    problems += _outliers(deviations)
    problems += [] if raw is None else stale(store, raw)
    problems += [
        f"no {store.kind.item} has the label {name}" for name in names if labels[name] == 0
    ]
    events = events_in(store) if recordings else {}
    problems += [
        f"no recording has the event {name}" for name, count in events.items() if not count
    ]
    counts: dict[str, Any] = {"images": items}
    if recordings:
        share = bad / max(samples, 1)
        counts = {"persons": len(persons), "windows": items, "bad_share": share}
    return {
        "records": len(store),
        **counts,
        "labels": {name: labels[name] for name in names},
        **({"events": events} if events else {}),
        "problems": problems,
        "remarks": remarks,
    }


def stale(store: Store, raw: Path) -> list[str]:
    """List the differences between a store and the raw folder that it was prepared from."""
    card = store.attributes["card"]
    if store.kind is IMAGES:
        return stale_packs(store, checked(ImageCard, dict(card), "the store's card"), raw)
    return stale_records(store, raw)


def _deviation(store: Store, record: str) -> float:
    """Return the median standard deviation over epochs and channels of a record, in its unit."""
    signal = store.signal(record)
    epoch = store.epoch_samples
    whole = signal.shape[1] // epoch
    chosen = np.unique(np.linspace(0, max(whole - 1, 0), min(whole, 50)).astype(int))
    epochs = [signal[:, n * epoch : (n + 1) * epoch].std(axis=1) for n in chosen.tolist()]
    values = np.array(epochs) * store.scale(record) if epochs else np.zeros((1, 1))
    return float(np.median(values))


def _outliers(deviations: Mapping[str, float]) -> list[str]:
    """Name the records whose scale differs from that of the others by a power of ten.

    Examples
    --------
    >>> _outliers({"a": 20.0, "b": 30.0, "c": 25000.0})
    ['c: its standard deviation is 25000, about 10^3 times that of the others (30): check its unit']
    """
    usable = {record: value for record, value in deviations.items() if value > 0}
    if len(usable) < 3:
        return []
    middle = float(np.median(list(usable.values())))
    lines = []
    for record, value in usable.items():
        power = float(np.log10(value / middle))
        if abs(power) >= OUTLYING:
            lines.append(
                f"{record}: its standard deviation is {value:.5g}, about 10^{round(power)} times "
                f"that of the others ({middle:.3g}): check its unit"
            )
    return lines


def _changed(store: Store, record: str) -> list[str]:
    """Report a record whose arrays have changed since they were written."""
    written = store.about(record).get("sha256")
    if written is None or written == store.digest(record):
        return []
    return [
        f"{record}: its arrays have changed since they were written (sha256); delete its folder "
        "and prepare it again"
    ]


def _faults(store: Store, record: str) -> list[str]:
    """Describe the problems of one record; ValueError if it cannot be read."""
    signal, label = store.signal(record), store.label(record)
    faults = []
    if len(label) != signal.shape[1] // store.epoch_samples:
        faults.append(f"{record}: {len(label)} labels do not fit its length")
    some = signal[:, :: max(1, signal.shape[1] // LOOKED_AT)]
    deviation = store.scale(record) * some.std(axis=1)
    for channel, value in zip(store.channels, deviation.tolist(), strict=True):
        if value == 0:
            faults.append(f"{record}: {channel} is flat throughout")
    if (signal[:, :: store.epoch_samples] == MISSING).all():
        faults.append(f"{record}: the first sample of every epoch is missing")
    return faults


def check_leak(store: Store, *, patch_s: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Test whether trivial features distinguish the first or last patch of a window.

    Parameters
    ----------
    store : Store
        At least two persons.
    patch_s : float
        Length of a patch in seconds; epochs are cut into whole patches.
    seed : int
        Of the sample of windows, the folds and the bootstrap.

    Returns
    -------
    dict
        As evaluation.leak.position_leak: area under the curve and interval over persons for
        ``first``, ``last`` and ``edge``, and ``leaks``.
    """
    if store.kind is not RECORDINGS:
        raise ValueError("position leaks are measured on recordings; this is a store of images")
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
    if not windows:
        raise ValueError(
            f"the store {store.path} has no clean window, so no leak can be measured; prepare "
            "recordings into it first"
        )
    patches = np.stack(windows).astype(np.float32)
    return position_leak(patches, persons, seed=seed, windows_per_person=LEAK_WINDOWS)


def check_run(run: Run) -> dict[str, Any]:
    """Check that a run is complete and its losses are finite."""
    origin = run.pretrained()
    problems = []
    weights = origin.encoder if origin.kind == "pretraining" else origin.model
    if not weights.is_file():
        what, command = MADE_BY[origin.kind]
        problems.append(f"the {what} is missing: continue with biopart {command} --resume")
    rows = origin.metrics()
    broken = [row["step"] for row in rows if row.get("train/loss", 0.0) is None]
    if broken:
        problems.append(f"the loss is not a finite number at steps {broken[:5]}")
    return {
        "run": str(origin.path),
        "steps_logged": rows[-1]["step"] if rows else 0,
        "finetunings": [tuned.path.name for tuned in origin.finetunings()],
        "problems": problems,
        "remarks": [],
    }
