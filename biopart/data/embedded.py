"""Windows as embeddings of a frozen encoder, each with its neighbours."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.data.batch import Batch, Context
from biopart.data.windows import WindowSource, offsets


class EmbeddedWindows:
    """Embeddings of windows and their neighbours by item number.

    Parameters
    ----------
    source : WindowSource
        Items, with their context L.
    everything : WindowSource
        All windows of the same records, in order.
    embeddings : float32 (windows, D)
        Of ``everything``.
    """

    def __init__(
        self,
        source: WindowSource,
        everything: WindowSource,
        embeddings: NDArray[np.float32],
    ) -> None:
        if len(embeddings) != len(everything):
            raise ValueError(
                f"{len(embeddings)} embeddings for {len(everything)} windows; give one each"
            )
        self.source, self.embeddings = source, torch.from_numpy(embeddings)
        numbers, first = np.unique(everything.record, return_index=True)
        self._first = dict(zip(numbers.tolist(), first.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.source)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Do nothing: the embeddings do not change."""

    def rows(self, items: NDArray[np.int64]) -> tuple[Tensor, Context]:
        """Return which embeddings surround items (B, L), and their labels; 0 for none."""
        context = self.source.around(items)
        first = np.array([self._first[number] for number in self.source.record[items].tolist()])
        place = self.source.place[items][:, None] + offsets(self.source.context)
        rows = np.where(context.present.numpy(), first[:, None] + place, 0)
        return torch.from_numpy(rows), context

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return embeddings (B, L, D); those outside the recording are 0 and not present."""
        items = np.asarray(indices, dtype=np.int64)
        rows, context = self.rows(items)
        values = self.embeddings[rows] * context.present[..., None]
        return replace(self.source.batch_of(values, items), context=context)
