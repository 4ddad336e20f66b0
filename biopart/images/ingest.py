"""A collection of images into a store: packs of images, each whole or not at all."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from biopart.images.cifar import find_cifar
from biopart.images.folders import find_folders
from biopart.images.part import Part, Read
from biopart.images.shards import find_shards
from biopart.store import Images, Store, create_store, finish_store, write_record
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
    on_record: Callable[[str, str | None], None] = lambda name, reason: None,
) -> Report:
    """Prepare a collection of images into a store; a stopped call goes on with the missing packs.

    A raw folder that has changed since is refused: it makes another store.

    Parameters
    ----------
    card : ImageCard
        What to do with them.
    raw, out : Path
        Raw folder and store.
    jobs : int
        Processes that decode.
    layout : "training" or "archive"
        Of the packs written.
    on_record : callable
        Gets each pack's name, and None since none is refused alone.

    Returns
    -------
    Report
        ``left_out`` names the bad images of each pack, kept or written, with the reason.

    Raises
    ------
    FileNotFoundError
        If the folder is missing or has no images of the card's kind.
    ValueError
        If parts have different classes, more images than ``max_bad`` are bad, or a pack that is
        there was made of other images.
    """
    if not raw.is_dir():
        raise FileNotFoundError(f"no folder {raw}; give the raw files of {card.name} by --raw")
    find = {"folders": find_folders, "shards": find_shards}.get(card.images, find_cifar)
    collection = find(card, raw)
    create_store(out, card.store_attributes(collection.classes))
    report, present, bad = Report(), set(Store(out).records), dict[str, str]()
    packs = list(_packs(collection.parts))
    for name in sorted(present - {name for name, *_ in packs}):
        raise _changed(out, name)
    for name, part, of, span in packs:
        digest = of.digest(*span)
        read = None if name in present else of.read(*span, jobs)
        mine = _bad_of(out, name, digest) if read is None else dict(read.bad)
        bad |= mine
        _count_bad(bad, card.max_bad)
        if mine:
            report.left_out[name] = [f"{image}: {reason}" for image, reason in mine.items()]
        if read is None:
            report.kept.append(name)
            continue
        write_record(out, name, _pack(of, read, part, digest), layout=layout)
        report.written.append(name)
        on_record(name, None)
    finish_store(out)
    return report


def _packs(parts: Mapping[str, Part]) -> Iterator[tuple[str, str, Part, tuple[int, int]]]:
    """Yield name, part and range of every pack."""
    for part, of in parts.items():
        for number, start in enumerate(range(0, len(of.names), PACK)):
            stop = min(start + PACK, len(of.names))
            yield f"{part}-{number:04d}", part, of, (start, stop)


def _bad_of(out: Path, name: str, digest: str) -> dict[str, str]:
    """Return the bad images of a pack that is there; ValueError if it was made of others."""
    about = Store(out).about(name)
    if about["raw_sha256"] != digest:
        raise _changed(out, name)
    bad: dict[str, str] = about["bad"]
    return bad


def _changed(out: Path, name: str) -> ValueError:
    return ValueError(
        f"pack {name} of {out} was made of other images than the raw folder has now; give another "
        "--out or remove it"
    )


def _count_bad(bad: dict[str, str], most: int) -> None:
    if len(bad) > most:
        some = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:5])
        raise ValueError(
            f"{len(bad)} images are bad, {most} may be ({some}); mend or remove them, or allow "
            f"more by --set max_bad={len(bad)}"
        )


def _pack(of: Part, read: Read, part: str, digest: str) -> Images:
    """Put together the images of a pack that could be read."""
    names = tuple(of.names[number] for number in read.kept.tolist())
    about = {"part": part, "raw_sha256": digest, "bad": dict(read.bad)}
    return Images(read.pixels, of.labels[read.kept], names, about)
