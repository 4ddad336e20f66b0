"""Windows of recordings."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.codes import DEVIATION, MISSING
from biopart.data.batch import Batch, Context, moved
from biopart.data.source import Opened, Resident, Source, by_record
from biopart.data.standard import standardised, statistics_of
from biopart.evaluation.metrics import score
from biopart.store import Store


class WindowSource(Source):
    """Windows of recordings by item number; see Cohort.source.

    Parameters
    ----------
    size : int
        Samples of a window.
    context : int
        Windows around each epoch.
    by_recording : bool
        Give values in thousandths of a deviation of their recording (``standardised``).
    """

    def __init__(
        self,
        cohort: Store,
        picked: tuple[int, ...],
        size: int,
        *,
        context: int,
        table: NDArray[np.int64],
        by_recording: bool = False,
    ) -> None:
        super().__init__(cohort, picked, table)
        self.size, self.context, self.by_recording = size, context, by_recording
        self._offset = np.full(len(self), (cohort.epoch_samples - size) // 2)
        self.opened: Opened[np.int16] = Opened(
            lambda record: cohort.signal(record), cohort, torch.int16
        )
        self._touched: dict[int, NDArray[np.bool_]] = {}
        self._statistics: dict[int, NDArray[np.float32]] = {}

    @classmethod
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
    ) -> "WindowSource":
        """Make a source of windows; those that touch a bad segment are left out by default.

        Raises ValueError if a window is not a whole number of samples or longer than every
        recording, or the context is below 1.
        """
        exact = cohort.epoch_samples if window_s is None else window_s * cohort.sfreq_hz
        size = round(exact)
        if not math.isclose(exact, size, abs_tol=1e-6) or size < 1:
            raise ValueError(
                f"window_s {window_s} at {cohort.sfreq_hz:g} Hz is not a whole number of samples; "
                "choose another length"
            )
        if context < 1:
            raise ValueError(f"context is {context}; give 1 or the number of windows around each")
        source = cls(cohort, picked, size, context=context, table=table, by_recording=by_recording)
        if keep_bad:
            return source
        usable = source.of_table(table[:, ~source.bad])
        if len(source) and not len(usable):
            lengths = [source.signal(number).shape[1] for number in np.unique(table[0]).tolist()]
            if size > max(lengths):
                raise ValueError(
                    f"a window of {size / cohort.sfreq_hz:g} s is longer than every recording that "
                    f"it is taken from, at most {max(lengths) / cohort.sfreq_hz:g} s; shorten "
                    "window_s"
                )
        return usable

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
        for number, items in by_record(self.record):
            bad[items] = self.touched(number)[self.place[items]]
        return bad

    def touched(self, number: int) -> NDArray[np.bool_]:
        """Tell which epochs of a record touch a bad segment, as ``touches_bad``; found once."""
        if number not in self._touched:
            cohort, record = self.cohort, self.cohort.records[number]
            length = cohort.length(record)
            self._touched[number] = touches_bad(
                cohort.bad(record),
                length // cohort.epoch_samples,
                epoch=cohort.epoch_samples,
                size=self.size,
                length=length,
            )
        return self._touched[number]

    @property
    def nbytes(self) -> int:
        """Size of the windows' records in memory, in bytes."""
        numbers, channels = np.unique(self.record).tolist(), len(self.cohort.channels)
        return sum(2 * channels * self.cohort.length(self.cohort.records[n]) for n in numbers)

    def score(self, predicted: NDArray[np.int64]) -> dict[str, Any]:
        """Score with intervals over persons, and count the windows that touch bad segments."""
        names = self.cohort.label_names
        result = score(self.labels, predicted, self.persons, names)
        return result | {
            "n_windows_bad": int(self.bad.sum()),
            "test_set_lacks": sorted(set(names) - set(result["classes"])),
        }

    def resident(self, device: torch.device | str) -> "ResidentWindows":
        """Return the windows with their records on a device; ValueError with context."""
        return ResidentWindows(self, device)

    def of_table(self, table: NDArray[np.int64]) -> "WindowSource":
        """Return an equal source with the items of another table."""
        return WindowSource(
            self.cohort,
            self.picked,
            self.size,
            context=self.context,
            table=table,
            by_recording=self.by_recording,
        )

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
        if self.by_recording:
            table = {n: s * self.statistics(n)[:, 1] / DEVIATION for n, s in table.items()}
        return np.stack([table[number] for number in numbers]).astype(np.float32)

    def statistics(self, number: int) -> NDArray[np.float32]:
        """Return median and deviation of the channels of a record (C, 2), found once."""
        if number not in self._statistics:
            self._statistics[number] = statistics_of(self.signal(number)[list(self.picked)])
        return self._statistics[number]

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
        self.opened.fetch(numbers)
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
        if self.by_recording:
            table = {number: self.statistics(number) for number in set(numbers)}
            values = standardised(values, np.stack([table[n] for n in numbers])[:, None])
        if self.context == 1:
            return self.batch_of(torch.from_numpy(values[:, 0]), items)
        context = self.around(items)
        values[~context.present.numpy()] = MISSING  # as what lies beyond the recording
        return replace(self.batch_of(torch.from_numpy(values), items), context=context)

    def around(self, items: NDArray[np.int64]) -> Context:
        """Return which neighbours of items may be used, and their labels, (B, L)."""
        place = self.place[items][:, None] + offsets(self.context)
        own = offsets(self.context) == 0
        label = np.full(place.shape, -1, dtype=np.int64)
        present = np.zeros(place.shape, dtype=bool)
        for number, in_record in by_record(self.record[items]):
            known = self.cohort.label(self.cohort.records[number]).astype(np.int64)
            here = place[in_record]
            usable = attended(here, self.touched(number)) | own
            present[in_record] = usable
            label[in_record] = np.where(usable, known[here.clip(0, len(known) - 1)], -1)
        return Context(torch.from_numpy(present), torch.from_numpy(label))

    def starts(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first sample of each window of items, (B, L)."""
        first = (self.place[items][:, None] + offsets(self.context)) * self.cohort.epoch_samples
        starts: NDArray[np.int64] = first + self._offset[items][:, None]
        return starts

    def signal(self, number: int) -> NDArray[np.int16]:
        """Return the stored integers (channel, time) of a record by its number, opened once."""
        return self.opened[number]


class ResidentWindows(Resident):
    """Windows whose records are on a device as one int16 tensor."""

    source: WindowSource

    def __init__(self, source: WindowSource, device: torch.device | str) -> None:
        super().__init__(source, device)
        if source.context > 1:
            raise ValueError("a resident source gives single windows; give context=1")
        numbers = np.unique(source.record).tolist()
        lengths = [source.signal(number).shape[1] + source.size for number in numbers]
        shape = (len(source.picked), source.size + sum(lengths))
        self._flat = torch.full(shape, MISSING, dtype=torch.int16, device=self.device)
        starts = source.size + np.cumsum([0, *lengths[:-1]])
        self._offset = np.zeros(max(numbers, default=-1) + 1, np.int64)
        self._offset[numbers] = starts
        for number, start in zip(numbers, starts.tolist(), strict=True):
            # One at a time: a cohort fills the memory.
            rows = source.signal(number)[list(source.picked)]
            if source.by_recording:
                rows = standardised(rows, source.statistics(number))
            self._flat[:, start : start + rows.shape[1]] = torch.from_numpy(rows)

    def gather(self, items: NDArray[np.int64]) -> Tensor:
        """Return int16 windows (B, C, T); samples outside a recording are missing."""
        offset = self._offset[self.source.record[items]][:, None]
        first = moved(torch.from_numpy(self.source.starts(items) + offset), self.device)
        index = first + torch.arange(self.source.size, device=self.device)
        return self._flat[:, index].transpose(0, 1).contiguous()


def offsets(context: int) -> NDArray[np.int64]:
    """Return the offsets of a context, in windows from the classified one.

    Examples
    --------
    >>> offsets(3).tolist(), offsets(4).tolist()
    ([-1, 0, 1], [-1, 0, 1, 2])
    """
    return np.arange(context) - (context - 1) // 2


def attended(place: NDArray[np.int64], bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which epochs of a recording exist and are not bad, by their numbers (..., L).

    Examples
    --------
    >>> attended(np.array([-1, 0, 1, 2]), np.array([False, True])).tolist()
    [False, True, False, False]
    """
    inside = (place >= 0) & (place < len(bad))
    usable: NDArray[np.bool_] = inside & ~bad[place.clip(0, len(bad) - 1)]
    return usable


def touches_bad(
    bad: NDArray[np.int64], epochs: int, *, epoch: int, size: int, length: int
) -> NDArray[np.bool_]:
    """Tell which epochs have a window that may touch a bad segment or leave the recording.

    Parameters
    ----------
    bad : int64 (segment, 2)
        Start and stop of bad segments in samples.
    epochs, epoch, size, length : int
        Number of epochs; samples of an epoch, of a window and of the recording.

    Examples
    --------
    >>> touches_bad(np.array([[5, 6]]), 3, epoch=4, size=4, length=12).tolist()
    [False, True, False]
    """
    first = np.arange(epochs) * epoch + min(0, (epoch - size) // 2)
    touches = np.zeros(epochs, dtype=bool)
    for start, stop in bad.tolist():
        touches |= (first < stop) & (first + max(epoch, size) > start)
    return touches | (first < 0) | (first + size > length)
