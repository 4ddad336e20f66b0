"""Batches with a class at every place, for training: recordings with events, annotated images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from biopart.data.batch import DenseBatch
from biopart.data.items import PlacedWindows, Tiles
from biopart.data.pictures import class_names, target_of
from biopart.data.scenes import FILL
from biopart.data.windows import WindowSource
from biopart.evaluation.dense import UNKNOWN
from biopart.images.annotated import Annotated, opened


class DenseWindows:
    """Windows of recordings with the events in them as classes (``Tiles``), at random places.

    Parameters
    ----------
    source : WindowSource
        Windows of the persons, which give channels and length.
    """

    def __init__(self, source: WindowSource) -> None:
        self.source, self.tiles = source, Tiles(source)
        self._first = self.tiles.first

    def __len__(self) -> int:
        return len(self.tiles)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Move every window by less than its length, from (seed, epoch, item) only."""
        rng = np.random.default_rng([seed, epoch, 1])
        shift = rng.integers(0, self.tiles.size, len(self)) - self.tiles.size // 2
        cohort = self.tiles.cohort
        length = np.array([cohort.length(name) for name in cohort.records])[self.tiles.record]
        self._first = np.clip(self.tiles.first + shift, 0, np.maximum(length - self.tiles.size, 0))

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> DenseBatch:
        """Read windows, as stored, and the class of every sample."""
        items = np.asarray(indices, np.int64)
        record, first = self.tiles.record[items], self._first[items]
        batch = PlacedWindows(self.source, record, first).__getitems__(np.arange(len(items)))
        classes = self.tiles.classes_at(record, first)
        return DenseBatch(batch.values, batch.label, batch.person, batch.key, dense=classes)


class DenseImages:
    """Square crops of annotated images with the class of every pixel, drawn anew every epoch.

    Parameters
    ----------
    found : Annotated
        With masks, or outlines of objects.
    canvas : int
        Side of a crop in pixels.
    scale : (float, float)
        Factors of an image whose shorter side is ``canvas``; drawn log-uniformly.
    flip : float
        Probability of a mirror image.
    threads : int
        Threads that decode images.
    """

    def __init__(
        self,
        found: Annotated,
        canvas: int,
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.0,
        threads: int = 4,
    ) -> None:
        self.found, self.canvas = found, canvas
        self.scale, self.flip, self.threads = scale, flip, threads
        self.names = class_names(found)
        self._turn = (0, 0)

    def __len__(self) -> int:
        return len(self.found.scenes)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Set the randomness of an epoch; that of an item follows from (seed, epoch, item)."""
        self._turn = (seed, epoch)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> DenseBatch:
        """Read crops, uint8 (B, 3, S, S), and the class of every pixel."""
        items = np.asarray(indices, np.int64).tolist()
        with ThreadPoolExecutor(self.threads) as pool:
            drawn = list(pool.map(self._crop, items))
        names = [self.found.scenes[item].name for item in items]
        values, classes = (torch.stack([one[k] for one in drawn]) for k in (0, 1))
        return DenseBatch(values, torch.full((len(items),), -1), names, names, dense=classes)

    def _crop(self, item: int) -> tuple[Tensor, Tensor]:
        """Draw a crop of an image: scaled, cut, filled up where it is smaller, mirrored."""
        scene, side = self.found.scenes[item], self.canvas
        rng = np.random.default_rng([*self._turn, item])
        low, high = np.log(self.scale)
        factor = float(np.exp(rng.uniform(low, high))) * side / min(scene.height, scene.width)
        size = max(1, round(scene.height * factor)), max(1, round(scene.width * factor))
        image = opened(scene).resize(size[::-1], Image.Resampling.BILINEAR)
        classes = target_of(self.found, item, size)
        top, left = (int(rng.integers(0, max(extent - side, 0) + 1)) for extent in size)
        cut = np.asarray(image)[top : top + side, left : left + side]
        pixels = np.empty((side, side, 3), np.uint8)
        pixels[:] = FILL
        pixels[: cut.shape[0], : cut.shape[1]] = cut
        target = np.full((side, side), UNKNOWN, np.int64)
        target[: cut.shape[0], : cut.shape[1]] = classes[top : top + side, left : left + side]
        if rng.random() < self.flip:
            pixels, target = pixels[:, ::-1], target[:, ::-1]
        values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return values, torch.from_numpy(np.ascontiguousarray(target))
