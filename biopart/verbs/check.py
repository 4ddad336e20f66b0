"""Say what is wrong with a store, a run or a recipe; measure position leaks of a store."""

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
from biopart.store.image_card import ImageCard
from biopart.store.kinds import IMAGES, RECORDINGS
from biopart.store.persons import doubtful_persons

LEAK_WINDOWS = 60
OUTLYING = 0.9
"""Decades from the median deviation of a store beyond which a record's unit is doubted."""


def check_store(store: Store, raw: Path | None = None) -> dict[str, Any]:
    """Look at every record of a store, whose arrays must have the hash they were written with.

    Parameters
    ----------
    store : Store
        Of recordings or images.
    raw : Path, optional
        Raw folder, whose files must still be those that the store was made of.

    Returns
    -------
    dict
        ``records``; of recordings ``persons``, ``windows`` and ``bad_share`` (share of samples
        marked), of images ``images``; ``labels`` {name: how many}, ``problems`` (sentences; empty
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
        remarks += [f"{record}: {n} is left out, {why}" for n, why in about.get("bad", {}).items()]
        if names and not (label >= 0).any():
            remarks.append(f"{record}: nothing is labelled")
    if not len(store):
        problems.append("the store holds no record")
    with suppress(ValueError):  # of a record that cannot be read, which was named above
        problems += doubtful_persons(store)
    problems += _outliers(deviations)
    problems += [] if raw is None else stale(store, raw)
    problems += [f"no {store.kind.item} is of {name}" for name in names if labels[name] == 0]
    counts: dict[str, Any] = {"images": items}
    if recordings:
        share = bad / max(samples, 1)
        counts = {"persons": len(persons), "windows": items, "bad_share": share}
    return {
        "records": len(store),
        **counts,
        "labels": {name: labels[name] for name in names},
        "problems": problems,
        "remarks": remarks,
    }


def stale(store: Store, raw: Path) -> list[str]:
    """Say where a store and the raw folder that it was made of disagree, by the files' bytes."""
    card = store.attributes["card"]
    if store.kind is IMAGES:
        return stale_packs(store, checked(ImageCard, dict(card), "the store's card"), raw)
    return stale_records(store, raw)


def _deviation(store: Store, record: str) -> float:
    """Return the usual standard deviation of an epoch of a record, over channels, in its unit."""
    signal = store.signal(record)
    epoch = store.epoch_samples
    whole = signal.shape[1] // epoch
    chosen = np.unique(np.linspace(0, max(whole - 1, 0), min(whole, 50)).astype(int))
    epochs = [signal[:, n * epoch : (n + 1) * epoch].std(axis=1) for n in chosen.tolist()]
    values = np.array(epochs) * store.scale(record) if epochs else np.zeros((1, 1))
    return float(np.median(values))


def _outliers(deviations: Mapping[str, float]) -> list[str]:
    """Name the records whose scale is a power of ten from that of the others.

    Examples
    --------
    >>> _outliers({"a": 20.0, "b": 30.0, "c": 25000.0})
    ['c: its deviation is 25000, about 10^3 of the other records (30): check its unit']
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
                f"{record}: its deviation is {value:.5g}, about 10^{round(power)} of the other "
                f"records ({middle:.3g}): check its unit"
            )
    return lines


def _changed(store: Store, record: str) -> list[str]:
    """Say where a record's arrays are not those that were written."""
    written = store.about(record).get("sha256")
    if written is None or written == store.digest(record):
        return []
    return [
        f"{record}: its arrays differ from those that were written (sha256); remove its folder and "
        "prepare it again"
    ]


def _faults(store: Store, record: str) -> list[str]:
    """Say in sentences what is wrong with one record; ValueError where it cannot be read."""
    signal, label = store.signal(record), store.label(record)
    faults = []
    if len(label) != signal.shape[1] // store.epoch_samples:
        faults.append(f"{record}: {len(label)} labels do not fit its length")
    deviation = store.scale(record) * signal[:, ::50].std(axis=1)
    for channel, value in zip(store.channels, deviation.tolist(), strict=True):
        if value == 0:
            faults.append(f"{record}: {channel} is flat throughout")
    if (signal[:, :: store.epoch_samples] == MISSING).all():
        faults.append(f"{record}: every epoch begins with a missing sample")
    return faults


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
    if store.kind is not RECORDINGS:
        raise ValueError("position leaks are measured on recordings; this store holds images")
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
            f"the store {store.path} holds no clean window, so no leak can be measured; prepare "
            "recordings into it first"
        )
    patches = np.stack(windows).astype(np.float32)
    return position_leak(patches, persons, seed=seed, windows_per_person=LEAK_WINDOWS)


def check_run(run: Run) -> dict[str, Any]:
    """Look whether a run is complete and its figures are finite."""
    origin = run.pretrained()
    problems = []
    detecting = origin.kind == "detection"
    if not (origin.model if detecting else origin.encoder).is_file():
        what, command = ("detector", "detect") if detecting else ("encoder", "pretrain")
        problems.append(f"the {what} is missing: go on with biopart {command} --resume")
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
