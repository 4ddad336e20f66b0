"""Images in tar files of WebDataset's convention: ``0001.jpg`` beside ``0001.cls``."""

import hashlib
import importlib.util
import io
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from biopart.images.folders import SUFFIXES, decode
from biopart.images.part import Collection, Outcome, Read, collected
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
        Number of the first image of each, and at the end how many there are.
    sizes : tuple of int
        Bytes of each image as it is packed.
    """

    shards: tuple[Path, ...]
    first: tuple[int, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int16]
    sizes: tuple[int, ...]
    card: ImageCard

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of the names and sizes in bytes of the images of these numbers."""
        rows = zip(self.names[start:stop], self.sizes[start:stop], strict=True)
        return hashlib.sha256("\n".join(f"{n} {size}" for n, size in rows).encode()).hexdigest()

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Decode the images of these numbers, a shard at a time."""
        wanted = [
            (shard, max(start, low) - low, min(stop, high) - low)
            for shard, low, high in zip(self.shards, self.first[:-1], self.first[1:], strict=True)
            if low < stop and high > start
        ]
        calls = (delayed(decode_shard)(*one, self.card) for one in wanted)
        made = [outcome for found in Parallel(n_jobs=jobs)(calls) for outcome in found]
        outcomes = zip(range(start, stop), made, strict=True)
        return collected(outcomes, self.names, (len(self.card.channels), *self.card.size))


def find_shards(card: ImageCard, raw: Path) -> Collection:
    """List a collection in tar files; each is read once for it.

    The classes are the lines of ``classes.txt`` in the raw folder, or else the numbers found.

    Raises
    ------
    FileNotFoundError
        If a part has no tar file.
    ValueError
        If the extra ``shards`` is not installed, a file is damaged, an image has no class or one
        beyond the classes.
    """
    if importlib.util.find_spec("webdataset") is None:
        raise ValueError('shards need webdataset; install it with: pip install "biopart[shards]"')
    found = {part: _listed(card, raw / folder) for part, folder in card.parts.items()}
    text = raw / CLASSES
    most = max(int(part.labels.max()) for part in found.values())
    classes = tuple(map(str, range(most + 1)))
    if text.is_file():
        classes = tuple(text.read_text(encoding="utf-8").split())
    if most >= len(classes):
        raise ValueError(f"{text} has {len(classes)} classes; the shards have number {most}")
    return Collection(classes, found)


def _listed(card: ImageCard, folder: Path) -> ShardPart:
    """Read the names and classes of the shards of a part."""
    shards = tuple(sorted(folder.glob("*.tar")))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no tar file; {card.name} needs one")
    names, labels, sizes, first = [], [], [], [0]
    for shard in shards:
        for key, image, label in samples(shard):
            names.append(f"{folder.name}/{shard.stem}/{key}")
            labels.append(label)
            sizes.append(len(image))
        first.append(len(names))
    if not names:
        raise ValueError(f"the tar files of {folder} hold no image")
    codes = np.array(labels, np.int16)
    return ShardPart(shards, tuple(first), tuple(names), codes, tuple(sizes), card)


def samples(shard: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield key, packed image and class of a shard; ValueError names what is wrong with one."""
    try:
        for sample in _grouped(shard):
            images = [end for end in sample if f".{end.lower()}" in SUFFIXES]
            key, label = sample["__key__"], sample.get("cls", b"").decode("ascii", "replace")
            if not images:
                continue
            if not label.strip().isdecimal():
                raise ValueError(f"{shard}: {key} has no number of a class in a .cls beside it")
            yield key, sample[images[0]], int(label)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{shard} is damaged: {' '.join(str(error).split())}") from error


def _grouped(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard, whose file is closed at the end (webdataset leaves it open)."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    with shard.open("rb") as file:
        members = ({**one, "__url__": str(shard)} for one in tar_file_iterator(file))
        yield from group_by_keys(members)


def decode_shard(shard: Path, start: int, stop: int, card: ImageCard) -> Sequence[Outcome]:
    """Decode the images from one number to another of a shard."""
    outcomes: list[Outcome] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # corrupt EXIF, as in folders
        for number, (_, image, _) in enumerate(samples(shard)):
            if number >= stop:
                break
            if number >= start:
                outcomes.append(decode(io.BytesIO(image), card))
    return outcomes
