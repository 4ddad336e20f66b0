"""The order of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampler:
    """Order of the items in an epoch, from (seed, epoch) only; the last batch may be smaller.

    Parameters
    ----------
    items, batch : int
        Number of items, and of items per batch.
    seed : int
        Seed of the order.
    repeats : int
        How often an item occurs in an epoch, in succession, with a different view each time
        (repeated augmentation, arXiv 1901.09335); the length of an epoch is unchanged, so it has 1
        / repeats of the items.
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
