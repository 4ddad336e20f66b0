"""CIFAR-10 and CIFAR-100 in their own binary files (Krizhevsky 2009).

The python version holds the same images as pickles, which can run any code; it is not opened.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.files import read_text
from biopart.images.part import Collection, Read
from biopart.store.image_card import ImageCard

PIXELS = 3 * 32 * 32
FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
ARCHIVES = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}
FILES = {
    "cifar10": {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
    "cifar100": {"train": ["train"], "test": ["test"]},
}
CLASSES = {"cifar10": "batches.meta.txt", "cifar100": "fine_label_names.txt"}
# What a folder of the python version has.
PICKLED = ("batches.meta", "meta", "cifar-10-batches-py", "cifar-100-python")


@dataclass(frozen=True)
class ArrayPart:
    """One part of a collection that is held in memory."""

    names: tuple[str, ...]
    labels: NDArray[np.int16]
    pixels: NDArray[np.uint8]

    def stamp(self, start: int, stop: int) -> str:
        """Return the hash of the pixels, which are in memory."""
        return self.digest(start, stop)

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of the pixels and labels of these image numbers."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels[start:stop]).data)
        digest.update(self.labels[start:stop].tobytes())
        return digest.hexdigest()

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Return the images of these numbers; they need no decoding."""
        digest = self.digest(start, stop)
        return Read(self.pixels[start:stop], np.arange(start, stop), {}, digest)


def find_cifar(card: ImageCard, raw: Path) -> Collection:
    """Read CIFAR from its folder, or from the parent folder.

    Raises
    ------
    FileNotFoundError
        If its files do not exist.
    ValueError
        If a file differs from CIFAR's in length, or the folder holds the python version.
    """
    kind = card.images
    for folder in (raw, raw / FOLDERS[kind]):
        if (folder / CLASSES[kind]).is_file():
            lines = [line.strip() for line in read_text(folder / CLASSES[kind]).split("\n")]
            return _collection(kind, folder, tuple(filter(None, lines)))
    if any((raw / name).exists() for name in PICKLED):
        raise ValueError(
            f"{raw} holds CIFAR's python version, pickles that could run any code; unpack the "
            f"binary version, {ARCHIVES[kind]}, instead"
        )
    raise FileNotFoundError(
        f"{raw} has no {CLASSES[kind]} of {kind}; give the folder into which {ARCHIVES[kind]} was "
        "unpacked"
    )


def _collection(kind: str, folder: Path, classes: tuple[str, ...]) -> Collection:
    """Read the parts of a folder."""
    parts = {}
    for part, files in FILES[kind].items():
        rows = np.concatenate([_rows(folder / f"{file}.bin", kind) for file in files])
        labels = rows[:, -PIXELS - 1].astype(np.int16)
        if labels.max() >= len(classes):
            raise ValueError(
                f"{folder} has labels beyond its {len(classes)} classes; unpack the archive again"
            )
        names = tuple(f"{part}/{number:05d}" for number in range(len(labels)))
        parts[part] = ArrayPart(names, labels, rows[:, -PIXELS:].reshape(-1, 3, 32, 32))
    return Collection(classes, parts)


def _rows(path: Path, kind: str) -> NDArray[np.uint8]:
    """Read rows of a label (CIFAR-100: a coarse and a fine one) and 3,072 pixels."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; unpack the archive of CIFAR again")
    width = PIXELS + (2 if kind == "cifar100" else 1)
    values = np.fromfile(path, np.uint8)
    if not values.size or values.size % width:
        raise ValueError(
            f"{path} has {values.size} bytes, not a multiple of {width}; unpack it again"
        )
    return values.reshape(-1, width)
