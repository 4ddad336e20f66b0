"""Images in tar files of WebDataset's convention: ``0001.jpg`` beside ``0001.cls``."""

import hashlib
import importlib.util
import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from biopart.files import read_text
from biopart.images.decoding import decode, quietly, suffixes
from biopart.images.part import (
    Collection,
    Outcome,
    Read,
    class_codes,
    collected,
    digest_of,
    skipped,
)
from biopart.store.image_card import ImageCard

CLASSES = "classes.txt"


@dataclass(frozen=True)
class ShardPart:
    """One part of a collection in tar files.

    Attributes
    ----------
    shards : tuple of Path
        Its files, in order.
    first : tuple of int
        Number of the first image of each file, and the total at the end.
    hashes : tuple of str
        SHA-256 of each image as packed.
    """

    shards: tuple[Path, ...]
    first: tuple[int, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int16]
    hashes: tuple[str, ...]
    card: ImageCard

    def stamp(self, start: int, stop: int) -> str:
        """Return the hash of the images, which were read to list them."""
        return self.digest(start, stop)

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of the names and bytes of the images of these numbers."""
        names, hashes = self.names[start:stop], self.hashes[start:stop]
        return digest_of(dict(zip(names, hashes, strict=True)))

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Decode the images of these numbers, one shard at a time."""
        wanted = [
            (shard.absolute(), max(start, low) - low, min(stop, high) - low)
            for shard, low, high in zip(self.shards, self.first[:-1], self.first[1:], strict=True)
            if low < stop and high > start
        ]
        calls = (delayed(decode_shard)(*one, self.card) for one in wanted)
        made = [outcome for found in Parallel(n_jobs=jobs)(calls) for outcome in found]
        outcomes = zip(range(start, stop), made, self.hashes[start:stop], strict=True)
        return collected(outcomes, self.names, (len(self.card.channels), *self.card.size))


def find_shards(card: ImageCard, raw: Path) -> Collection:
    """List a collection in tar files; this reads each file once.

    The classes are the lines of ``classes.txt`` in the raw folder, else the numbers that occur.

    Raises
    ------
    FileNotFoundError
        If a part has no tar file.
    ValueError
        If the extra ``shards`` is not installed, a file is damaged, or an image has no class or one
        beyond the classes.
    """
    if importlib.util.find_spec("webdataset") is None:
        raise ValueError('shards need webdataset; install it with: pip install "biopart[shards]"')
    others: dict[str, Counter[str]] = {part: Counter() for part in card.parts}
    found = {part: _listed(card, raw / folder, others[part]) for part, folder in card.parts.items()}
    text = raw / CLASSES
    most = max(int(part.labels.max()) for part in found.values())
    classes = tuple(map(str, range(most + 1)))
    if text.is_file():
        classes = tuple(line.strip() for line in read_text(text).split("\n") if line.strip())
    if most >= len(classes):
        raise ValueError(
            f"{text} has {len(classes)} classes, but the shards have number {most}; add classes"
        )
    left_out = {part: [skipped(counts)] for part, counts in others.items() if counts}
    return Collection(classes, found, left_out)


def _listed(card: ImageCard, folder: Path, others: Counter[str]) -> ShardPart:
    """Read the names and classes of the shards of a part."""
    shards = tuple(sorted(folder.glob("*.tar")))
    if not shards:
        raise FileNotFoundError(f"{folder} has no tar file; {card.name} needs one")
    names: list[str] = []
    labels: list[int] = []
    hashes, first = [], [0]
    for shard in shards:
        check_whole(shard)
        for key, image, label in samples(shard, others):
            names.append(f"{folder.name}/{shard.stem}/{key}")
            labels.append(label)
            hashes.append(hashlib.sha256(image).hexdigest())
        first.append(len(names))
    if not names:
        raise ValueError(f"the tar files of {folder} have no images; check the folder")
    if len(set(names)) < len(names):
        twice = next(name for name, n in Counter(names).items() if n > 1)
        raise ValueError(f"{folder} has two images named {twice}; give each its own name")
    try:
        codes = class_codes(labels)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return ShardPart(shards, tuple(first), tuple(names), codes, tuple(hashes), card)


def check_whole(shard: Path) -> None:
    """Refuse a truncated tar file: one that does not end with two blocks of zeros."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        file.seek(max(0, size - 1024))
        if size % 512 or file.read() != bytes(1024):
            raise ValueError(f"{shard} is damaged: it has no end of a tar file; copy it again")


def samples(shard: Path, others: Counter[str] | None = None) -> Iterator[tuple[str, bytes, int]]:
    """Yield key, packed image and class from a shard; ValueError names what is wrong with one.

    ``others`` counts parts of samples that are not an image, a class or a known companion.
    """
    try:
        for sample in _grouped(shard):
            yield from _of_sample(shard, sample, Counter() if others is None else others)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{shard} is damaged: {' '.join(str(error).split())}") from error


def _of_sample(
    shard: Path, sample: dict[str, Any], others: Counter[str]
) -> Iterator[tuple[str, bytes, int]]:
    """Yield the images of one sample, whose parts share the name up to the first point.

    ``1.png`` goes with ``1.cls``. Names with more points, ``1.left.png`` with ``1.left.cls``, are
    separate images if they have their own class; else they belong to the sample.
    """
    parts = {end: value for end, value in sample.items() if not end.startswith("__")}
    images = [end for end in parts if f".{end.lower().rpartition('.')[2]}" in suffixes()]
    own = {end: f"{end.rpartition('.')[0]}.cls".removeprefix(".") for end in images}
    labelled = [end for end in images if own[end] in parts]
    others.update(f".{end}" for end in parts if end not in images and end not in own.values())
    if images and not labelled:
        raise ValueError(
            f"{shard}: {sample['__key__']} has no .cls beside it; add one with the class number"
        )
    plain = {own[end]: [one for one in labelled if own[one] == own[end]] for end in labelled}
    for label, ends in plain.items():
        stem = label.removesuffix("cls").rstrip(".")
        key = f"{sample['__key__']}.{stem}" if stem else str(sample["__key__"])
        text = parts[label].decode("ascii", "replace").strip()
        if len(ends) > 1:
            raise ValueError(f"{shard}: {key} has several images, {', '.join(ends)}; keep one")
        if not text.isdecimal():
            raise ValueError(f"{shard}: {key} has {text!r} in its .cls, not the number of a class")
        yield key, parts[ends[0]], int(text)
    others.update(f".{end}" for end in images if end not in labelled)


def _grouped(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard and close its file at the end (webdataset leaves it open)."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    with shard.open("rb") as file:
        members = ({**one, "__url__": str(shard)} for one in tar_file_iterator(file))
        yield from group_by_keys(members)


def decode_shard(shard: Path, start: int, stop: int, card: ImageCard) -> Sequence[Outcome]:
    """Decode the images from one number to another of a shard."""
    outcomes: list[Outcome] = []
    with quietly():
        for number, (_, image, _) in enumerate(samples(shard)):
            if number >= stop:
                break
            if number >= start:
                outcomes.append(decode(io.BytesIO(image), card))
    return outcomes
