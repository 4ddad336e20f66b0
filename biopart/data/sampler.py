"""The order of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS_AT_A_TIME = 32


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
    groups : int64 (items,), optional
        What is fetched at a time, such as the record of each item: groups then follow each other in
        random order, and the items of one are mixed with those of the ``spread`` after it.
    spread : int
        Groups that are in use at a time.
    """

    items: int
    batch: int
    seed: int
    repeats: int = 1
    groups: NDArray[np.int64] | None = None
    spread: int = GROUPS_AT_A_TIME

    def __len__(self) -> int:
        return -(-self.items // self.batch)

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the item numbers of each batch."""
        generator = np.random.default_rng([self.seed, epoch])
        if self.groups is None:
            order = generator.permutation(self.items)
        else:
            names, group = np.unique(self.groups, return_inverse=True)
            rank = generator.permutation(len(names))[group]
            order = np.argsort(rank + self.spread * generator.random(self.items), kind="stable")
        order = np.repeat(order, self.repeats)[: self.items]
        for start in range(0, self.items, self.batch):
            yield order[start : start + self.batch]
