"""Items that a frozen encoder is asked about: objects, parts, events, whole grids with targets."""

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.data.source import Source
from biopart.data.windows import WindowSource
from biopart.evaluation.answers import PredictedRecording
from biopart.evaluation.dense import UNKNOWN
from biopart.grid import Boxes
from biopart.store import Store


class Items(ABC):
    """Items with a class each.

    Attributes
    ----------
    names : tuple of str
        Names of the classes by code.
    labels : int64 (items,)
        Class of each.
    units : list of str
        Person or image of each: the units of a bootstrap.
    key : str
        What the values depend on, for a cache.
    fill_grid : bool
        Whether an item is its whole grid; else ``boxes`` says where it lies in it.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    units: list[str]
    key: str
    fill_grid: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def values(self, items: NDArray[np.int64]) -> Tensor:
        """Return stored values (B, C, *S) of items."""

    def boxes(self, items: NDArray[np.int64]) -> Boxes:
        """Return where items lie in their grid, (B, N)."""
        extents = torch.tensor(self.values(items[:1]).shape[2:])
        size = extents.expand(len(items), -1)
        return Boxes(torch.zeros_like(size), size)


class SourceItems(Items):
    """Windows or images of a store as objects.

    Parameters
    ----------
    source : Source
        Labelled items.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.names = source.cohort.label_names
        self.labels = source.labels
        self.units = source.persons
        table = np.ascontiguousarray(np.stack([source.record, source.place]))
        self.key = f"{source.cohort.fingerprint} {source.shape} {source.picked} {hash_of(table)}"
        if isinstance(source, WindowSource) and source.by_recording:
            self.key += " by recording"

    def values(self, items: NDArray[np.int64]) -> Tensor:
        """Return stored values (B, C, *S) of items."""
        return self.source.__getitems__(items).values


class PlacedWindows(WindowSource):
    """Windows of recordings that begin at any sample.

    Parameters
    ----------
    source : WindowSource
        Whose recordings, channels and length are taken.
    record, first : int64 (items,)
        Number of each item's record, and first sample of its window.
    """

    def __init__(
        self, source: WindowSource, record: NDArray[np.int64], first: NDArray[np.int64]
    ) -> None:
        table = np.stack([record, np.zeros_like(record), np.full_like(record, -1)])
        super().__init__(
            source.cohort,
            source.picked,
            source.size,
            context=1,
            table=table,
            by_recording=source.by_recording,
        )
        self._offset = first


class EventItems(Items):
    """Events of recordings, each in a window around its middle, moved inside the recording.

    Parameters
    ----------
    source : WindowSource
        Windows of the persons, which give channels and length.
    most : int, optional
        Events at most, of each class its share.
    seed : int
        Of that drawing.
    """

    fill_grid = False

    def __init__(self, source: WindowSource, *, most: int | None = None, seed: int = 0) -> None:
        cohort = source.cohort
        self.names = cohort.event_names
        if not self.names:
            raise ValueError(
                f"{cohort.path} has no events; state them in its card (events: ...) and prepare "
                "it again"
            )
        table = events_of_records(cohort, np.unique(source.record))
        kept = drawn(table[:, 3], most, seed)
        record, self._start, self._stop, self.labels = table[kept].T
        length = np.array([cohort.length(name) for name in cohort.records])[record]
        middle = (self._start + self._stop - source.size) // 2
        first = np.clip(middle, 0, np.maximum(length - source.size, 0))
        self._windows = PlacedWindows(source, record, first)
        self._first, self._size = first, source.size
        names = [cohort.persons[name] for name in cohort.records]
        self.units = [names[number] for number in record.tolist()]
        events = hash_of(np.ascontiguousarray(table[kept]))
        self.key = f"{cohort.fingerprint} {source.size} {source.picked} {events}"
        self.key += " by recording" if source.by_recording else ""

    def values(self, items: NDArray[np.int64]) -> Tensor:
        """Return stored windows (B, C, T)."""
        return self._windows.__getitems__(items).values

    def boxes(self, items: NDArray[np.int64]) -> Boxes:
        """Return where an event lies in its window, at least one sample of it."""
        start = np.clip(self._start[items] - self._first[items], 0, self._size - 1)
        stop = np.clip(self._stop[items] - self._first[items], start + 1, self._size)
        return Boxes(torch.from_numpy(start)[:, None], torch.from_numpy(stop - start)[:, None])


class Tiles(Items):
    """Windows that cover recordings from end to end, with the events in them as targets.

    Class 0 is no event, 1 + code an event, -1 unknown: beyond the recording, and what the window
    before has already, so that every sample is scored once. An event across windows is in both, and
    is put together again along the recording (``along``).

    Parameters
    ----------
    source : WindowSource
        Windows of the persons, which give channels and length.
    most : int, optional
        Windows at most, spread evenly; for training.
    """

    def __init__(self, source: WindowSource, *, most: int | None = None) -> None:
        self.cohort, self.size = source.cohort, source.size
        self.names = ("no event", *self.cohort.event_names)
        rows = []
        for number in np.unique(source.record).tolist():
            length = self.cohort.length(self.cohort.records[number])
            whole = np.arange(0, max(length, 1), self.size)
            first = whole.clip(max=max(length - self.size, 0))
            rows.append(np.stack([np.full(len(first), number), first, whole - first]))
        table = np.concatenate(rows, 1) if rows else np.zeros((3, 0), np.int64)
        if most is not None and table.shape[1] > most:
            table = table[:, np.linspace(0, table.shape[1] - 1, most).round().astype(int)]
        self.record: NDArray[np.int64] = table[0]
        self.first: NDArray[np.int64] = table[1]
        self._seen: NDArray[np.int64] = table[2]  # samples that the window before has too
        self.labels = np.zeros(len(self.record), np.int64)
        names = [self.cohort.persons[name] for name in self.cohort.records]
        self.units = [names[number] for number in self.record.tolist()]
        self._windows = PlacedWindows(source, self.record, self.first)
        tiles = hash_of(np.ascontiguousarray(table))
        self.key = f"{self.cohort.fingerprint} {self.size} {source.picked} tiles {tiles}"
        self.key += " by recording" if source.by_recording else ""

    def values(self, items: NDArray[np.int64]) -> Tensor:
        """Return stored windows (B, C, T)."""
        return self._windows.__getitems__(items).values

    def targets(self, items: NDArray[np.int64]) -> Tensor:
        """Return the class of every sample, int64 (B, T)."""
        found = self.classes_at(self.record[items], self.first[items])
        for row, item in enumerate(items.tolist()):
            found[row, : self._seen[item]] = UNKNOWN
        return found

    def classes_at(self, record: NDArray[np.int64], first: NDArray[np.int64]) -> Tensor:
        """Return the classes of windows by their record's number and first sample, (B, T)."""
        found = np.full((len(record), self.size), UNKNOWN, np.int64)
        for row, (number, start) in enumerate(zip(record.tolist(), first.tolist(), strict=True)):
            inside = self.codes[number][start : start + self.size]
            found[row, : len(inside)] = inside
        return torch.from_numpy(found)

    @cached_property
    def codes(self) -> dict[int, NDArray[np.int8]]:
        """Class of every sample of each record; where events overlap, of the later one."""
        found = {}
        for number in np.unique(self.record).tolist():
            codes = np.zeros(self.cohort.length(self.cohort.records[number]), np.int8)
            for start, stop, code in self.events(number).tolist():
                codes[start:stop] = 1 + code
            found[number] = codes
        return found

    def events(self, number: int) -> NDArray[np.int64]:
        """Return the events of a record by its number, (event, 3)."""
        found = self.cohort.events(self.cohort.records[number])
        assert found is not None
        return found

    def along(self, predicted: NDArray[np.integer]) -> dict[int, NDArray[np.int8]]:
        """Put classes of every sample of all windows (items, T) together along each record."""
        whole = {number: np.zeros_like(codes) for number, codes in self.codes.items()}
        places = zip(self.record.tolist(), self.first.tolist(), self._seen.tolist(), strict=True)
        for row, (number, first, seen) in enumerate(places):
            inside = whole[number][first + seen : first + self.size]
            inside[:] = predicted[row][seen : seen + len(inside)]
        return whole

    def marked(self, predicted: NDArray[np.integer]) -> list[PredictedRecording]:
        """Return the recordings with the classes that were predicted for all windows (items, T)."""
        records = self.cohort.records
        rule = self.cohort.attributes["card"].get("events") or {}
        return [
            PredictedRecording(
                self.cohort.persons[records[number]],
                self.events(number),
                codes,
                self.cohort.sfreq_hz,
                float(rule.get("gap_s", 0)),
                float(rule.get("least_s", 0)),
            )
            for number, codes in self.along(predicted).items()
        ]


def events_of_records(cohort: Store, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return record number, start, stop and code of the events of records, (events, 4)."""
    parts = [np.zeros((0, 4), np.int64)]
    for number in numbers.tolist():
        found = cohort.events(cohort.records[number])
        assert found is not None
        parts.append(np.concatenate([np.full((len(found), 1), number), found], 1))
    return np.concatenate(parts)


def drawn(labels: NDArray[np.int64], most: int | None, seed: int) -> NDArray[np.int64]:
    """Return at most so many items, sorted: of each class its share, one at least where it fits.

    Examples
    --------
    >>> drawn(np.array([0, 0, 0, 0, 1]), None, 0).tolist()
    [0, 1, 2, 3, 4]
    >>> kept = drawn(np.array([0, 0, 0, 0, 1]), 3, 0)
    >>> len(kept), 4 in kept
    (3, True)
    """
    if most is None or len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for code in np.unique(labels):
        own = order[labels[order] == code]
        rank[own] = np.arange(len(own))
    share = rank / np.bincount(labels, minlength=labels.max() + 1)[labels]
    return np.sort(np.lexsort((order, share))[:most])


def hash_of(values: NDArray[np.int64]) -> str:
    """Return a short hash of numbers."""
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
