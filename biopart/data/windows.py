"""Windows of recordings."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from biopart.codes import MISSING
from biopart.data.batch import Batch, Context
from biopart.data.source import Source, unopened
from biopart.store import Store


class WindowSource(Source):
    """Windows of recordings by item number; see Cohort.source.

    Parameters
    ----------
    size : int
        Samples of a window.
    context : int
        Windows around each epoch.
    """

    def __init__(
        self,
        cohort: Store,
        picked: tuple[int, ...],
        size: int,
        *,
        context: int,
        table: NDArray[np.int64],
    ) -> None:
        super().__init__(cohort, picked, table)
        self.size, self.context = size, context
        self._offset = np.full(len(self), (cohort.epoch_samples - size) // 2)
        self._signals: dict[int, NDArray[np.int16]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents S of a window."""
        return (self.size,)

    @cached_property
    def persons(self) -> list[str]:
        """Person of each item."""
        names = [self.cohort.persons[record] for record in self.cohort.records]
        return [names[number] for number in self.record.tolist()]

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Whether an item's window touches a bad segment or leaves the recording."""
        bad = np.zeros(len(self), dtype=bool)
        for number in np.unique(self.record).tolist():
            in_record = self.record == number
            record = self.cohort.records[number]
            epochs = int(self.place[in_record].max()) + 1
            bad[in_record] = touches_bad(self.cohort, record, epochs, self.size)[
                self.place[in_record]
            ]
        return bad

    @property
    def nbytes(self) -> int:
        """Size of the windows' records in memory, in bytes."""
        return sum(self.signal(number).nbytes for number in np.unique(self.record).tolist())

    def of_table(self, table: NDArray[np.int64]) -> "WindowSource":
        """Return an equal source with the items of another table."""
        return WindowSource(self.cohort, self.picked, self.size, context=self.context, table=table)

    def keys(self, indices: Sequence[int]) -> list[str]:
        """Return ``record:epoch`` of items."""
        records = self.cohort.records
        return [f"{records[self.record[i]]}:{self.place[i]}" for i in indices]

    def scales(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return physical value per stored unit of items, (B, C)."""
        numbers = self.record[indices].tolist()
        table = {
            n: self.cohort.scale(self.cohort.records[n])[list(self.picked)] for n in set(numbers)
        }
        return np.stack([table[number] for number in numbers]).astype(np.float32)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the position of windows shorter than the epoch, from (seed, epoch, item) only."""
        room = self.cohort.epoch_samples - self.size
        if room > 0:
            generator = np.random.default_rng([seed, epoch, 1])
            self._offset = generator.integers(0, room + 1, size=len(self))

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Read items as one batch, windows in their stored form."""
        items = np.asarray(indices, dtype=np.int64)
        values = np.empty((len(items), self.context, len(self.picked), self.size), np.int16)
        every = self.picked == tuple(range(len(self.cohort.channels)))
        numbers = self.record[items].tolist()
        starts = self.starts(items).tolist()
        for row, (number, first) in enumerate(zip(numbers, starts, strict=True)):
            signal = self.signal(number)
            for place, start in enumerate(first):
                inside = signal[:, max(start, 0) : max(start + self.size, 0)]
                window = values[row, place]
                if inside.shape[1] < self.size:
                    window.fill(MISSING)
                    left = max(-start, 0)
                    window[:, left : left + inside.shape[1]] = inside[self.picked, :]
                elif every:
                    window[...] = inside
                else:
                    np.take(inside, self.picked, axis=0, out=window)
        if self.context == 1:
            return self.batch_of(torch.from_numpy(values[:, 0]), items)
        return replace(self.batch_of(torch.from_numpy(values), items), context=self.around(items))

    def around(self, items: NDArray[np.int64]) -> Context:
        """Return which neighbours of items exist, and their labels, (B, L)."""
        place = self.place[items][:, None] + offsets(self.context)
        label = np.full(place.shape, -1, dtype=np.int64)
        present = np.zeros(place.shape, dtype=bool)
        for number in np.unique(self.record[items]).tolist():
            in_record = self.record[items] == number
            known = self.cohort.label(self.cohort.records[number]).astype(np.int64)
            here = place[in_record]
            inside = (here >= 0) & (here < len(known))
            present[in_record] = inside
            label[in_record] = np.where(inside, known[here.clip(0, len(known) - 1)], -1)
        return Context(torch.from_numpy(present), torch.from_numpy(label))

    def starts(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first sample of each window of items, (B, L)."""
        first = (self.place[items][:, None] + offsets(self.context)) * self.cohort.epoch_samples
        starts: NDArray[np.int64] = first + self._offset[items][:, None]
        return starts

    def signal(self, number: int) -> NDArray[np.int16]:
        """Return the stored integers (channel, time) of a record by its number, opened once."""
        if number not in self._signals:
            signal = self.cohort.signal(self.cohort.records[number])
            self._signals[number] = unopened(signal, torch.int16)
        return self._signals[number]


def offsets(context: int) -> NDArray[np.int64]:
    """Return the offsets of a context, in windows from the classified one.

    Examples
    --------
    >>> offsets(3).tolist(), offsets(4).tolist()
    ([-1, 0, 1], [-1, 0, 1, 2])
    """
    return np.arange(context) - (context - 1) // 2


def touches_bad(store: Store, record: str, epochs: int, size: int) -> NDArray[np.bool_]:
    """Tell which epochs have a window that may touch a bad segment or leave the recording."""
    epoch = store.epoch_samples
    first = np.arange(epochs) * epoch + min(0, (epoch - size) // 2)
    touches = np.zeros(epochs, dtype=bool)
    for start, stop in store.bad(record):
        touches |= (first < stop) & (first + max(epoch, size) > start)
    return touches | (first < 0) | (first + size > store.length(record))
