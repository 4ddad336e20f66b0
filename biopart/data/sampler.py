"""The order of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampler:
    """The order of items in an epoch, by (seed, epoch) alone; the last batch may be smaller.

    Parameters
    ----------
    items, batch : int
        Number of items, and of those that a batch holds.
    seed : int
        Seed of the order.
    repeats : int
        Times that an item comes in an epoch, side by side, for views of its own each (repeated
        augmentation, arXiv 1901.09335); an epoch is as long as ever, so it shows 1 / repeats of
        the items.
    """

    items: int
    batch: int
    seed: int
    repeats: int = 1

    def __len__(self) -> int:
        return -(-self.items // self.batch)

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the item numbers of each batch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.items)
        order = np.repeat(order, self.repeats)[: self.items]
        for start in range(0, self.items, self.batch):
            yield order[start : start + self.batch]
