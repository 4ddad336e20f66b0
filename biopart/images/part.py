"""What every reader of images gives: classes, and the images of each part by number."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Read:
    """Some images as they were read.

    Attributes
    ----------
    pixels : uint8 (read, channel, y, x)
        Those that could be read.
    kept : int (read,)
        Their numbers.
    bad : mapping
        Name to reason of those that could not.
    """

    pixels: NDArray[np.uint8]
    kept: NDArray[np.int64]
    bad: Mapping[str, str]


Outcome = NDArray[np.uint8] | str  # the pixels (channel, y, x), or why there are none


def collected(
    outcomes: Iterable[tuple[int, Outcome]], names: Sequence[str], shape: Sequence[int]
) -> Read:
    """Put together what came of images by number, (channel, y, x) each or a reason."""
    pixels, kept, bad = [], [], {}
    for number, outcome in outcomes:
        if isinstance(outcome, str):
            bad[names[number]] = outcome
        else:
            pixels.append(outcome)
            kept.append(number)
    whole = np.stack(pixels) if pixels else np.zeros((0, *shape), np.uint8)
    return Read(whole, np.array(kept, dtype=np.int64), bad)


class Part(Protocol):
    """One part of a collection (train, test)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each image, unique in the collection."""

    @property
    def labels(self) -> NDArray[np.int16]:
        """Class of each image."""

    def digest(self, start: int, stop: int) -> str:
        """Return what tells whether the images of these numbers are still the same."""

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Read the images of these numbers, in several processes where it decodes them."""


@dataclass(frozen=True)
class Collection:
    """A collection of images: the names of its classes and its parts."""

    classes: tuple[str, ...]
    parts: Mapping[str, Part]
