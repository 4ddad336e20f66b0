"""Windows from an array in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from biopart.data.batch import Batch


@dataclass(frozen=True)
class ArrayWindows:
    """Windows of an array by number, for training.

    Attributes
    ----------
    values : float32 (W, C, *S)
        Finite.
    label : int64 (W,)
        Classes, -1 = unknown.
    """

    values: NDArray[np.float32]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Do nothing: every epoch has the same windows."""

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return windows as one batch; the key of each is its number."""
        rows = np.asarray(indices, dtype=np.int64)
        keys = [f"window {row}" for row in rows.tolist()]
        values, label = torch.from_numpy(self.values[rows]), torch.from_numpy(self.label[rows])
        return Batch(values, label, keys, keys)
