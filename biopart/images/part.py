"""The result of every image reader: classes, and the images of each part by number."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Read:
    """Some images with the outcome of reading them.

    Attributes
    ----------
    pixels : uint8 (read, channel, y, x)
        Those that could be read.
    kept : int (read,)
        Their numbers.
    bad : mapping
        Name to reason for those that could not be read.
    digest : str
        SHA-256 of the names and bytes of all of them.
    """

    pixels: NDArray[np.uint8]
    kept: NDArray[np.int64]
    bad: Mapping[str, str]
    digest: str


Outcome = NDArray[np.uint8] | str  # the pixels (channel, y, x), or the reason without them
MOST_CLASSES = int(np.iinfo(np.int16).max)


def collected(
    outcomes: Iterable[tuple[int, Outcome, str]], names: Sequence[str], shape: Sequence[int]
) -> Read:
    """Combine the outcomes by image number: pixels (channel, y, x) or a reason, and a hash.

    Parameters
    ----------
    outcomes
        Number, pixels or reason, and SHA-256 of the bytes of each image.
    names
        Names of all images.
    shape
        Shape of the pixels of one image.
    """
    pixels, kept, bad, hashes = [], [], {}, {}
    for number, outcome, sha256 in outcomes:
        hashes[names[number]] = sha256
        if isinstance(outcome, str):
            bad[printable(names[number])] = outcome
        else:
            pixels.append(outcome)
            kept.append(number)
    whole = np.stack(pixels) if pixels else np.zeros((0, *shape), np.uint8)
    return Read(whole, np.array(kept, dtype=np.int64), bad, digest_of(hashes))


def digest_of(hashes: Mapping[str, str]) -> str:
    """Return the SHA-256 of names and of their hashes or other identifiers."""
    lines = (f"{name} {value}\n" for name, value in hashes.items())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def printable(name: str) -> str:
    """Return a printable name, also for a file whose name is not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def skipped(others: Mapping[str, int]) -> str:
    """Report how many files of each suffix are not images.

    Examples
    --------
    >>> skipped({".json": 3, "": 1})
    'skipped files that are not images: no suffix (1), .json (3)'
    """
    listed = [f"{suffix or 'no suffix'} ({count})" for suffix, count in sorted(others.items())]
    return f"skipped files that are not images: {', '.join(listed)}"


def class_codes(labels: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int16]:
    """Return class numbers in the type of the store; ValueError if one is too large."""
    highest = max(labels, default=0)
    if highest > MOST_CLASSES or min(labels, default=0) < 0:
        raise ValueError(
            f"the class {highest if highest > 0 else min(labels)} cannot be stored; classes are "
            f"numbers from 0 to {MOST_CLASSES}"
        )
    return np.asarray(labels, dtype=np.int16)


class Part(Protocol):
    """One part of a collection (train, test)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each image, unique in the collection."""

    @property
    def labels(self) -> NDArray[np.int16]:
        """Class of each image."""

    def stamp(self, start: int, stop: int) -> str:
        """Return a cheap indicator of changed images: names, sizes, times."""

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of names and bytes of the images of these numbers, as in ``Read``."""

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Read the images of these numbers, in several processes if they are decoded."""


@dataclass(frozen=True)
class Collection:
    """An image collection: the names of its classes, its parts, and what was skipped in each.

    ``left_out`` has sentences by part.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
