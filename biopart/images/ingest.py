"""Prepare an image collection into a store of packs, each written whole or not at all."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biopart.images.cifar import find_cifar
from biopart.images.folders import find_folders
from biopart.images.part import Collection, Part, Read
from biopart.images.shards import find_shards
from biopart.store import Images, Store, create_store, finish_store, one_writer, write_record
from biopart.store.image_card import ImageCard
from biopart.store.report import Report
from biopart.store.writing import Layout

PACK = 10_000  # images; at 32 x 32 x 3 bytes 31 MB


def ingest_images(
    card: ImageCard,
    raw: Path,
    out: Path,
    *,
    jobs: int = 1,
    layout: Layout = "training",
    verify: bool = False,
    on_record: Callable[[str, str | None], None] = lambda name, reason: None,
) -> Report:
    """Prepare an image collection into a store; a stopped call continues with the missing packs.

    Packs whose images have changed, or that have new images, are written again.

    Parameters
    ----------
    card : ImageCard
        How to prepare them.
    raw, out : Path
        Raw folder and store.
    jobs : int
        Number of decoding processes.
    layout : "training" or "archive"
        Layout of the written packs.
    verify : bool
        Compare the bytes of all images, not only of those whose size or time has changed.
    on_record : callable
        Called with the name of each pack and None, since no pack is refused alone.

    Returns
    -------
    Report
        ``left_out`` lists the bad images of each pack, kept or written, with the reason.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or has no images of the card's kind.
    ValueError
        If parts have different classes, more than ``max_bad`` images are bad, or images of the
        store are no longer in the raw folder.
    """
    collection = find_collection(card, raw)
    with one_writer(out):
        create_store(out, card.store_attributes(collection.classes))
        return _fill(collection, card, out, _Work(jobs, layout, verify, on_record))


def find_collection(card: ImageCard, raw: Path) -> Collection:
    """List the images of a raw folder for a card; errors as in ``ingest_images``."""
    if not raw.is_dir():
        raise FileNotFoundError(
            f"raw folder {raw} does not exist; give the raw files of {card.name} by --raw"
        )
    find = {"folders": find_folders, "shards": find_shards}.get(card.images, find_cifar)
    return find(card, raw)


@dataclass(frozen=True)
class _Work:
    """How packs are written, and the callback for each."""

    jobs: int
    layout: Layout
    verify: bool
    on_record: Callable[[str, str | None], None]


def _fill(collection: Collection, card: ImageCard, out: Path, work: _Work) -> Report:
    """Write the packs that a store lacks or whose images have changed."""
    store = Store(out, growing=True)
    report, bad = Report(), dict[str, str]()
    packs = list(_packs(collection.parts))
    _refuse_gone(store, collection.parts)
    report.left_out.update(collection.left_out)
    for name, part, of, span in packs:
        read = _read_again(store, name, of, span, work=work)
        bad_here = dict(store.about(name)["bad"] if read is None else read.bad)
        bad |= bad_here
        _count_bad(bad, card.max_bad)
        if bad_here:
            report.left_out[name] = [f"{image}: {reason}" for image, reason in bad_here.items()]
        if read is None:
            report.kept.append(name)
            continue
        pack = _pack(of, read, part, span)
        if name in store.records:
            report.updated[name] = _changes(store, name, pack)
        else:
            report.written.append(name)
        write_record(out, name, pack, layout=work.layout)
        work.on_record(name, None)
    finish_store(out)
    return report


def _read_again(
    store: Store, name: str, of: Part, span: tuple[int, int], *, work: _Work
) -> Read | None:
    """Read the images of a pack, unless the store has them unchanged."""
    if name in store.records:
        about = store.about(name)
        stamp = with_labels(of.stamp(*span), of, span)
        same = about.get("raw_stamp") == stamp and not work.verify
        if same or about["raw_sha256"] == with_labels(of.digest(*span), of, span):
            return None
    return of.read(*span, work.jobs)


def stale_packs(store: Store, card: ImageCard, raw: Path) -> list[str]:
    """List packs of a store that differ from the images of a raw folder, by their bytes."""
    collection = find_collection(card, raw)
    packs = {name: (of, span) for name, _, of, span in _packs(collection.parts)}
    lines = [f"pack {name} is not in the raw folder" for name in store.records if name not in packs]
    for name, (of, span) in packs.items():
        if name not in store.records:
            lines.append(f"pack {name} is missing from the store")
        elif store.about(name)["raw_sha256"] != with_labels(of.digest(*span), of, span):
            lines.append(f"pack {name} has other images than the raw folder has now")
    if tuple(store.label_names) != collection.classes:
        lines.append("the classes differ")
    return lines


def _packs(parts: Mapping[str, Part]) -> Iterator[tuple[str, str, Part, tuple[int, int]]]:
    """Yield name, part and range of every pack."""
    for part, of in parts.items():
        for number, start in enumerate(range(0, len(of.names), PACK)):
            stop = min(start + PACK, len(of.names))
            yield f"{part}-{number:04d}", part, of, (start, stop)


def _refuse_gone(store: Store, parts: Mapping[str, Part]) -> None:
    """Refuse a raw folder that lacks images of a store."""
    held: dict[str, set[str]] = {}
    for name in store.records:
        held.setdefault(str(store.about(name)["part"]), set()).update(store.names(name))
    gone = [
        name
        for part, names in held.items()
        for name in sorted(names - set(parts[part].names if part in parts else ()))
    ]
    if gone:
        raise ValueError(
            f"{len(gone)} images of {store.path} are not in the raw folder ({', '.join(gone[:3])}"
            f"{', ...' if len(gone) > 3 else ''}): put them back, or give another --out"
        )


def _changes(store: Store, name: str, pack: Images) -> list[str]:
    """Describe how a pack differs from the one in a store."""
    old = dict(zip(store.names(name), store.images(name), strict=True))
    edited = [
        image
        for image, pixels in zip(pack.names, pack.image, strict=True)
        if image in old and not np.array_equal(old[image], pixels)
    ]
    added = [image for image in pack.names if image not in old]
    gone = set(old) - set(pack.names)
    changes = {"changed": edited, "new here": added, "no longer here": sorted(gone)}
    return [
        f"{len(images)} images {what} ({', '.join(images[:3])}{', ...' if len(images) > 3 else ''})"
        for what, images in changes.items()
        if images
    ] or ["labels or files changed, but no pixels"]


def _count_bad(bad: dict[str, str], most: int) -> None:
    if len(bad) > most:
        some = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:5])
        raise ValueError(
            f"{len(bad)} images are bad, more than the {most} allowed ({some}); repair or remove "
            f"them, or allow more by --set max_bad={len(bad)}"
        )


def with_labels(digest: str, of: Part, span: tuple[int, int]) -> str:
    """Return the SHA-256 of names, hashes and labels of images."""
    labels = np.ascontiguousarray(of.labels[slice(*span)], "<i2").tobytes()
    return hashlib.sha256(digest.encode() + labels).hexdigest()


def _pack(of: Part, read: Read, part: str, span: tuple[int, int]) -> Images:
    """Combine the readable images of a pack."""
    names = tuple(of.names[number] for number in read.kept.tolist())
    about = {
        "part": part,
        "raw_sha256": with_labels(read.digest, of, span),
        "raw_stamp": with_labels(of.stamp(*span), of, span),
        "bad": dict(read.bad),
    }
    return Images(read.pixels, of.labels[read.kept], names, about)
