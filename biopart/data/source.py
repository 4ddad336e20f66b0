"""Items of a cohort by number."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.data.batch import Batch, Windows
from biopart.data.sampler import GROUPS_AT_A_TIME
from biopart.store import Store
from biopart.store.kinds import Kind
from biopart.store.records import THREADS

AHEAD, BATCHES_AHEAD = 4, 32  # records that are fetched in the background, for so many batches

Stored = TypeVar("Stored", np.int16, np.uint8)


class Source(ABC):
    """Windows of recordings or images by item number; see Cohort.source.

    Parameters
    ----------
    cohort : Store
        The store that has them.
    picked : tuple of int
        Numbers of the wanted channels, in order.
    table : int64 (3, items)
        Record number, position in the record (epoch or image) and label of every item.

    Attributes
    ----------
    opened : Opened
        The records of the items.
    """

    opened: "Opened[Any]"

    def __init__(self, cohort: Store, picked: tuple[int, ...], table: NDArray[np.int64]) -> None:
        self.cohort, self.picked = cohort, picked
        self.record, self.place, self.labels = table

    @classmethod
    @abstractmethod
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
    ) -> "Source":
        """Make a source by the arguments of ``Cohort.source``; ValueError where they do not fit."""

    def __len__(self) -> int:
        return len(self.record)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.cohort.channels[index] for index in self.picked)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Extents S of an item."""

    @property
    @abstractmethod
    def persons(self) -> list[str]:
        """Person of each item; for an image its name."""

    @property
    @abstractmethod
    def bad(self) -> NDArray[np.bool_]:
        """Whether an item touches a bad segment."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Size of the items' records in memory, in bytes."""

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """Record of each item where a record is fetched as a whole and not all fit in the cache."""
        return self.record if self.cohort.is_larger_than_cache else None

    @property
    def kind(self) -> Kind:
        """Of the store."""
        return self.cohort.kind

    @abstractmethod
    def score(self, predicted: NDArray[np.int64]) -> dict[str, Any]:
        """Score predictions of the items (W,), all labelled: as result.json holds it."""

    @abstractmethod
    def resident(self, device: torch.device | str) -> "Resident":
        """Return the source with its stored values on a device."""

    @abstractmethod
    def of_table(self, table: NDArray[np.int64]) -> "Source":
        """Return an equal source with the items of another table."""

    def head(self, count: int) -> "Source":
        """Return a source of the first items only."""
        return self.of_table(self._table[:, :count])

    def thinned(self, count: int) -> "Source":
        """Return a source of some of the items, spread evenly over all."""
        picked = self.evenly(count)
        return self.of_table(self._table[:, picked])

    def evenly(self, count: int) -> NDArray[np.int64]:
        """Return the numbers of some of the items, spread evenly over all; all if fewer."""
        return np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64)

    def drawn(self, count: int, seed: int) -> "Source":
        """Return a source of some of the items, drawn by a seed, in their order; all if fewer."""
        order = np.random.default_rng([seed, 3]).permutation(len(self))
        return self.of_table(self._table[:, np.sort(order[:count])])

    @abstractmethod
    def keys(self, indices: Sequence[int]) -> list[str]:
        """Name items."""

    @abstractmethod
    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the random properties of an epoch's items, from (seed, epoch, item) only."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Read items as one batch, in their stored form."""

    def __getitem__(self, items: int | slice | Sequence[int] | NDArray[np.int64]) -> Batch:
        """Read one item, a slice of items or items by their numbers, as one batch."""
        return self.__getitems__(np.atleast_1d(np.arange(len(self))[items]))

    def expect(self, items: NDArray[np.int64]) -> None:
        """Begin to fetch the records of items from an address; do nothing where they are here."""
        self.opened.expect(self.record[items].tolist())

    def batch_of(self, values: Tensor, items: NDArray[np.int64]) -> Batch:
        """Combine values with labels, persons and keys."""
        label = torch.from_numpy(self.labels[items])
        persons = [self.persons[item] for item in items.tolist()]
        return Batch(values, label, persons, self.keys(items.tolist()))

    @property
    def _table(self) -> NDArray[np.int64]:
        """Return the table of the items of this source."""
        return np.stack([self.record, self.place, self.labels])


class Resident(ABC):
    """A source whose stored values are on a device; one gather per batch."""

    def __init__(self, source: Source, device: torch.device | str) -> None:
        self.source, self.device = source, torch.device(device)

    def __len__(self) -> int:
        return len(self.source)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the random properties of the items of an epoch."""
        self.source.start_epoch(seed, epoch)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Gather items on the device as one batch."""
        items = np.asarray(indices, dtype=np.int64)
        return self.source.batch_of(self.gather(items), items).to(self.device)

    @abstractmethod
    def gather(self, items: NDArray[np.int64]) -> Tensor:
        """Return the stored values of items, on the device."""


class Opened(Generic[Stored]):
    """The signals or pixels of records by their number, opened once, mapped.

    Of a store at an address that does not fit into the cache few are open at a time, so that what
    the cache removes does not stay on the disk.

    Parameters
    ----------
    read : callable
        Returns the array of a record's name.
    cohort : Store
        The store.
    dtype : torch.dtype
        Of the arrays.
    """

    def __init__(
        self, read: Callable[[str], NDArray[Stored]], cohort: Store, dtype: torch.dtype
    ) -> None:
        self._read: Callable[[str], NDArray[Stored]] = read
        self._cohort, self._dtype = cohort, dtype
        self._most = 2 * GROUPS_AT_A_TIME if cohort.is_larger_than_cache else None
        self._open: dict[int, NDArray[Stored]] = {}
        self._expected: dict[int, None] = {}  # in order
        self._coming: dict[int, Future[NDArray[Stored]]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __getitem__(self, number: int) -> NDArray[Stored]:
        if number not in self._open:
            if self._most is not None and len(self._open) >= self._most:
                del self._open[next(iter(self._open))]
            coming = self._coming.pop(number, None)
            self._expected.pop(number, None)
            name = self._cohort.records[number]
            values = self._read(name) if coming is None else coming.result()
            self._open[number] = unopened(values, self._dtype)
        return self._open[number]

    def expect(self, numbers: Sequence[int]) -> None:
        """Begin to fetch the records of an address that are not open, in the background.

        A few at a time, those that were expected first; whoever needs one that is coming waits.
        """
        if not self._cohort.remote:
            return
        known = (self._open, self._coming, self._expected)
        self._expected |= dict.fromkeys(n for n in numbers if not any(n in one for one in known))
        self._pool = self._pool or ThreadPoolExecutor(AHEAD)
        while self._expected and sum(not one.done() for one in self._coming.values()) < AHEAD:
            number = next(iter(self._expected))
            del self._expected[number]
            self._coming[number] = self._pool.submit(self._read, self._cohort.records[number])

    def fetch(self, numbers: Sequence[int]) -> None:
        """Fetch the records of an address that are neither open nor coming, several at a time."""
        if not self._cohort.remote:
            return
        here = {*self._open, *self._coming}
        absent = [number for number in dict.fromkeys(numbers) if number not in here]
        if len(absent) > 1:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(self._read, (self._cohort.records[n] for n in absent)))


def by_record(record: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the number of each record and its items, in their order; in one pass over all.

    Examples
    --------
    >>> [(n, items.tolist()) for n, items in by_record(np.array([2, 0, 2]))]
    [(0, [1]), (2, [0, 2])]
    """
    order = np.argsort(record, kind="stable")
    numbers, first = np.unique(record[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, first[1:]), strict=True) if len(order) else ()


def foreseen(
    source: Windows,
    batches: Iterator[NDArray[np.int64]],
    own: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> Iterator[NDArray[np.int64]]:
    """Yield the items of batches while a source fetches what those that come need.

    Parameters
    ----------
    source : Windows
        Of a store at an address, or any other, which fetches nothing.
    batches : iterator of int64 (batch,)
        Numbers of the items.
    own : callable
        Items of a batch -> those that this process reads.
    """
    if not isinstance(source, Source) or not source.cohort.remote:
        yield from batches
        return
    waiting: deque[NDArray[np.int64]] = deque()
    for items in batches:
        waiting.append(items)
        source.expect(own(items))
        if len(waiting) > BATCHES_AHEAD:
            yield waiting.popleft()
    yield from waiting


def unopened(values: NDArray[Stored], dtype: torch.dtype) -> NDArray[Stored]:
    """Return a mapped array without an open file: np.memmap keeps one, of usually 1,024."""
    if not isinstance(values, np.memmap):
        return values
    try:
        file = torch.from_file(str(values.filename), size=values.size, dtype=dtype)
    except RuntimeError:  # removed from a cache meanwhile: the map stays valid
        return values
    mapped: NDArray[Stored] = file.numpy().reshape(values.shape)
    return mapped
