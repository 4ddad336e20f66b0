"""The order of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampler:
    """The order of items in an epoch, by (seed, epoch) alone; the last batch may be smaller."""

    items: int
    batch: int
    seed: int

    def __len__(self) -> int:
        return -(-self.items // self.batch)

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the item numbers of each batch; each item comes once."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.items)
        for start in range(0, self.items, self.batch):
            yield order[start : start + self.batch]
