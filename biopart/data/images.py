"""Images of a store."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.data.batch import Batch, moved
from biopart.data.source import Opened, Resident, Source, by_record
from biopart.evaluation.images import score_images
from biopart.store import Store


class ImageSource(Source):
    """Images by item number; see Cohort.source. Each image is a person with its own name."""

    def __init__(self, cohort: Store, picked: tuple[int, ...], table: NDArray[np.int64]) -> None:
        super().__init__(cohort, picked, table)
        self.opened: Opened[np.uint8] = Opened(
            lambda record: cohort.images(record), cohort, torch.uint8
        )
        packs = {n: cohort.names(cohort.records[n]) for n in np.unique(self.record).tolist()}
        places = zip(self.record.tolist(), self.place.tolist(), strict=True)
        self._names = [packs[number][place] for number, place in places]

    @classmethod
    def of_items(
        cls,
        cohort: Store,
        picked: tuple[int, ...],
        table: NDArray[np.int64],
        *,
        window_s: float | None,
        context: int,
        keep_bad: bool,
        by_recording: bool,
    ) -> "ImageSource":
        """Make a source of images, none of which is bad; ValueError with windows or context."""
        if window_s is not None or context != 1:
            raise ValueError(
                f"{cohort.path} has images, for which window_s and context do not apply; leave "
                "them out"
            )
        if by_recording:
            raise ValueError(
                f"{cohort.path} has images, which normalise=recording does not fit; give window, "
                "imagenet or none"
            )
        return cls(cohort, picked, table)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width in pixels."""
        return self.cohort.shape

    @property
    def persons(self) -> list[str]:
        """Name of each image."""
        return self._names

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Whether an item touches a bad segment: images never do."""
        return np.zeros(len(self), dtype=bool)

    def score(self, predicted: NDArray[np.int64]) -> dict[str, Any]:
        """Score images as such: none is like another because of a person."""
        return score_images(self.labels, predicted, self.cohort.label_names)

    def resident(self, device: torch.device | str) -> "ResidentImages":
        """Return the images on a device."""
        return ResidentImages(self, device)

    def of_table(self, table: NDArray[np.int64]) -> "ImageSource":
        """Return an equal source with the items of another table."""
        return ImageSource(self.cohort, self.picked, table)

    def keys(self, indices: Sequence[int]) -> list[str]:
        """Return the names of items."""
        return [self._names[index] for index in indices]

    def pack(self, number: int) -> NDArray[np.uint8]:
        """Return the pixels (image, channel, y, x) of a pack by its number, opened once."""
        return self.opened[number]

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Do nothing: an image is used whole."""

    @property
    def nbytes(self) -> int:
        """Size of the images in memory, in bytes."""
        return len(self) * len(self.picked) * math.prod(self.shape)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Read items as one batch: uint8 (B, C, y, x)."""
        items = np.asarray(indices, dtype=np.int64)
        return self.batch_of(torch.from_numpy(self.pixels(items)), items)

    def pixels(self, items: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the pixels of items, (B, C, y, x)."""
        values = np.empty((len(items), len(self.picked), *self.shape), np.uint8)
        numbers = self.record[items]
        self.opened.fetch(numbers.tolist())
        every = self.picked == tuple(range(len(self.cohort.channels)))
        for number, in_pack in by_record(numbers):
            pixels = self.pack(number)[self.place[items[in_pack]]]
            values[in_pack] = pixels if every else pixels[:, self.picked]
        return values


class ResidentImages(Resident):
    """Images that are on a device as one uint8 tensor, in the order of their items."""

    source: ImageSource

    def __init__(self, source: ImageSource, device: torch.device | str) -> None:
        super().__init__(source, device)
        shape = (len(source), len(source.picked), *source.shape)
        self._images = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for _, items in by_record(source.record):  # one at a time, as above
            pixels = torch.from_numpy(source.pixels(items))
            self._images[torch.from_numpy(items).to(self.device)] = pixels.to(self.device)

    def gather(self, items: NDArray[np.int64]) -> Tensor:
        """Return uint8 images (B, C, y, x)."""
        return self._images[moved(torch.from_numpy(items), self.device)]
