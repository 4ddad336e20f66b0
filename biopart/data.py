"""From a prepared cohort to batches: windows, person-wise splits and the order of an epoch.

A cohort knows records, a source knows windows, a sampler knows only how many there are. Values
stay int16 until they are on the device.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.store import Store
from biopart.store.records import MISSING


@dataclass
class Batch:
    """Windows of a batch with what is known of them.

    Attributes
    ----------
    values : Tensor (B, C, *S)
        int16 or uint8 until they are normalised on the device; (B, L, C, *S) with context.
    label : Tensor (B,), int64
        -1 = unknown.
    person, key : list of str
        Whose window it is, and which: ``record:epoch``.
    """

    values: Tensor
    label: Tensor
    person: list[str]
    key: list[str]

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on a device."""
        return replace(self, values=self.values.to(device), label=self.label.to(device))


@dataclass
class StepOutput:
    """What an objective says of one batch: the loss to descend and figures to log (0-d)."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Windows(Protocol):
    """Whatever gives batches by item numbers."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return the items of these numbers as one batch."""

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw whatever is random about the items of an epoch."""


class Cohort(Store):
    """A prepared store that gives windows; iterates over record names."""

    def source(
        self,
        channels: Sequence[str] | None = None,
        window_s: float | None = None,
        labelled: bool = False,
        context: int = 1,
        *,
        keep_bad: bool = False,
        persons: Sequence[str] | None = None,
    ) -> "Source":
        """Return the windows of the cohort, one per epoch.

        Parameters
        ----------
        channels : sequence of str, optional
            Channels wanted, in order; all by default.
        window_s : float, optional
            Length of a window in seconds; the epoch by default. A shorter one is cut from the
            centre of the epoch (anywhere in it after ``start_epoch``), a longer one is centred
            on it.
        labelled : bool
            Only epochs with a label.
        context : int
            Neighbouring windows L around each epoch, as an axis of the values; what lies beyond
            the recording is missing.
        keep_bad : bool
            Keep windows that touch a NaN, flat or clipped stretch or reach beyond the recording.
        persons : sequence of str, optional
            Only windows of these persons.

        Raises
        ------
        ValueError
            If a channel or person is not there, the window is no whole number of samples, the
            context is below 1, or nothing is left.
        """
        wanted = self.channels if channels is None else tuple(channels)
        absent = [name for name in wanted if name not in self.channels]
        if absent or not wanted:
            raise ValueError(
                f"channels {', '.join(absent) or '(none)'} are not in {self.path}, which has "
                f"{', '.join(self.channels)}"
            )
        exact = self.epoch_samples if window_s is None else window_s * self.sfreq_hz
        size = round(exact)
        if not math.isclose(exact, size, abs_tol=1e-6) or size < 1:
            raise ValueError(
                f"window_s {window_s} at {self.sfreq_hz:g} Hz is no whole number of samples"
            )
        if context < 1:
            raise ValueError(f"context is {context}; give 1 or the number of windows around each")
        table = self._items(size, labelled, keep_bad, persons)
        picked = tuple(self.channels.index(name) for name in wanted)
        source = Source(self, picked, size, context=context, table=table)
        if not len(source):
            kind = "labelled windows" if labelled else "windows"
            raise ValueError(f"no {kind} are left of {self.path} for the persons asked for")
        return source

    def _items(
        self, size: int, labelled: bool, keep_bad: bool, persons: Sequence[str] | None
    ) -> NDArray[np.int64]:
        """Return record number, epoch and label of every item, (3, items)."""
        parts = [np.zeros((3, 0), dtype=np.int64)]
        allowed = None if persons is None else set(persons)
        strangers = sorted((allowed or set()) - set(self.persons.values()))
        if strangers:
            raise ValueError(f"no records of {', '.join(strangers)} are in {self.path}")
        for number, record in enumerate(self.records):
            if allowed is not None and self.persons[record] not in allowed:
                continue
            label = self.label(record).astype(np.int64)
            keep = label >= 0 if labelled else np.ones(len(label), dtype=bool)
            if not keep_bad:
                keep &= ~self.touches_bad(record, len(label), size)
            epochs = np.flatnonzero(keep)
            parts.append(np.stack([np.full(len(epochs), number), epochs, label[epochs]]))
        return np.concatenate(parts, axis=1)

    def touches_bad(self, record: str, epochs: int, size: int) -> NDArray[np.bool_]:
        """Tell which epochs have a window that may touch a bad stretch or leave the recording."""
        epoch = self.epoch_samples
        first = np.arange(epochs) * epoch + min(0, (epoch - size) // 2)
        touches = np.zeros(epochs, dtype=bool)
        for start, stop in self.bad(record):
            touches |= (first < stop) & (first + max(epoch, size) > start)
        return touches | (first < 0) | (first + size > self.length(record))

    def mapped(self, record: str) -> NDArray[np.int16]:
        """Return Store.signal without an open file: np.memmap keeps one, of 1,024 as a rule."""
        signal = self.signal(record)
        if not isinstance(signal, np.memmap):
            return signal
        file = torch.from_file(str(signal.filename), size=signal.size, dtype=torch.int16)
        values: NDArray[np.int16] = file.numpy().reshape(signal.shape)
        return values


def open_cohort(path: Path | str) -> Cohort:
    """Open a prepared store; FileNotFoundError or ValueError where there is none."""
    return Cohort(path)


class Source:
    """Windows of a cohort by item number; see Cohort.source."""

    def __init__(
        self,
        cohort: Cohort,
        picked: tuple[int, ...],
        size: int,
        *,
        context: int,
        table: NDArray[np.int64],
    ) -> None:
        self.cohort, self.picked, self.size, self.context = cohort, picked, size, context
        self.record, self.epoch, self.labels = table
        self._offset = np.full(len(self), (cohort.epoch_samples - size) // 2)
        self._signals: dict[int, NDArray[np.int16]] = {}

    def __len__(self) -> int:
        return len(self.record)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents S of a window."""
        return (self.size,)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.cohort.channels[index] for index in self.picked)

    @cached_property
    def persons(self) -> list[str]:
        """Person of each item."""
        names = [self.cohort.persons[record] for record in self.cohort.records]
        return [names[number] for number in self.record.tolist()]

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Whether an item's window touches a bad stretch or leaves the recording."""
        bad = np.zeros(len(self), dtype=bool)
        for number in np.unique(self.record).tolist():
            mine = self.record == number
            record = self.cohort.records[number]
            touches = self.cohort.touches_bad(record, int(self.epoch[mine].max()) + 1, self.size)
            bad[mine] = touches[self.epoch[mine]]
        return bad

    def head(self, count: int) -> "Source":
        """Return a source of the first items only."""
        table = np.stack([self.record, self.epoch, self.labels])[:, :count]
        return Source(self.cohort, self.picked, self.size, context=self.context, table=table)

    def keys(self, indices: Sequence[int]) -> list[str]:
        """Return ``record:epoch`` of items."""
        records = self.cohort.records
        return [f"{records[self.record[i]]}:{self.epoch[i]}" for i in indices]

    def scales(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return physical value per stored unit of items, (B, C)."""
        numbers = self.record[indices].tolist()
        table = {
            n: self.cohort.scale(self.cohort.records[n])[list(self.picked)] for n in set(numbers)
        }
        return np.stack([table[number] for number in numbers]).astype(np.float32)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw where windows shorter than the epoch lie; depends on (seed, epoch, item) alone."""
        room = self.cohort.epoch_samples - self.size
        if room > 0:
            generator = np.random.default_rng([seed, epoch, 1])
            self._offset = generator.integers(0, room + 1, size=len(self))

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Read items as one batch, windows as they are stored."""
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
        grids = values if self.context > 1 else values[:, 0]
        return self.batch_of(torch.from_numpy(grids), items)

    def starts(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first sample of each window of items, (B, L)."""
        around = np.arange(self.context) - (self.context - 1) // 2
        first = (self.epoch[items][:, None] + around) * self.cohort.epoch_samples
        starts: NDArray[np.int64] = first + self._offset[items][:, None]
        return starts

    def batch_of(self, values: Tensor, items: NDArray[np.int64]) -> Batch:
        """Put labels, persons and keys beside values."""
        label = torch.from_numpy(self.labels[items])
        persons = [self.persons[item] for item in items.tolist()]
        return Batch(values, label, persons, self.keys(items.tolist()))

    def signal(self, number: int) -> NDArray[np.int16]:
        """Return the stored integers (channel, time) of a record by its number, opened once."""
        if number not in self._signals:
            self._signals[number] = self.cohort.mapped(self.cohort.records[number])
        return self._signals[number]


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


@dataclass(frozen=True)
class Split:
    """Persons by their part in an experiment, and what was asked for but not there."""

    test: tuple[str, ...]
    validation: tuple[str, ...]
    pretrain: tuple[str, ...]
    finetune: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def subset(self, count: int, seed: int) -> tuple[str, ...]:
        """Draw persons for a finetuning, nested by count; ValueError above what is labelled."""
        if not 1 <= count <= len(self.finetune):
            raise ValueError(
                f"{count} subjects were asked for; {len(self.finetune)} labelled persons are "
                "left beside test and validation"
            )
        order = np.random.default_rng([seed, 2]).permutation(len(self.finetune))
        return tuple(self.finetune[index] for index in order[:count])


def split_persons(
    everyone: Sequence[str],
    labelled: Sequence[str],
    *,
    test: int,
    validation: int,
    pretrain: int | None = None,
    finetune: int | None = None,
    seed: int = 0,
) -> Split:
    """Divide persons; test and validation persons are labelled and outside everything else.

    Parameters
    ----------
    everyone, labelled : sequence of str
        All persons, and those with labels.
    test, validation, pretrain, finetune : int
        Persons wanted; None = all that are left. A count larger than what exists takes what is
        there, with a note.
    seed : int
        The test persons depend on it alone.

    Raises
    ------
    ValueError
        If test and validation leave no labelled person.
    """
    known = sorted(set(labelled))
    order = [known[i] for i in np.random.default_rng(seed).permutation(len(known))]
    if test < 1 or test + validation >= len(order):
        raise ValueError(
            f"{test} test and {validation} validation persons leave none of {len(order)} labelled "
            "persons to train on; lower split.test_persons or split.validation_persons"
        )
    held = set(order[: test + validation])
    pool = order[test + validation :]
    rest = sorted(set(everyone) - held)
    rest = [rest[i] for i in np.random.default_rng([seed, 1]).permutation(len(rest))]
    notes = [
        f"{wanted} {name} persons were asked for, {len(found)} are there"
        for name, wanted, found in (("pretrain", pretrain, rest), ("finetune", finetune, pool))
        if wanted is not None and wanted > len(found)
    ]
    return Split(
        tuple(order[:test]),
        tuple(order[test : test + validation]),
        tuple(rest[:pretrain]),
        tuple(pool[:finetune]),
        tuple(notes),
    )
