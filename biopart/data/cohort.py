"""A prepared store as a source of windows or images."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.data.images import ImageSource
from biopart.data.source import Source
from biopart.data.windows import WindowSource
from biopart.store import Store

SOURCES: dict[str, type[Source]] = {"recordings": WindowSource, "images": ImageSource}


class Cohort(Store):
    """A prepared store as a source of windows or images; iterates over record names."""

    def source(
        self,
        channels: Sequence[str] | None = None,
        window_s: float | None = None,
        labelled: bool = False,
        context: int = 1,
        *,
        keep_bad: bool = False,
        persons: Sequence[str] | None = None,
        by_recording: bool = False,
    ) -> Source:
        """Return the windows of the cohort, one per epoch, or its images.

        Parameters
        ----------
        channels : sequence of str, optional
            Wanted channels, in order; default: all.
        window_s : float, optional
            Length of a window in seconds; default: the epoch. A shorter one is cut from the
            centre of the epoch (anywhere in it after ``start_epoch``), a longer one is centred
            on it.
        labelled : bool
            Only epochs with a label.
        context : int
            Neighbouring windows L around each epoch, as an axis of the values; windows outside
            the recording are missing.
        keep_bad : bool
            Keep windows that touch a missing, flat or clipped segment or extend beyond the
            recording.
        persons : sequence of str, optional
            Only windows of these persons, or images with these names.
        by_recording : bool
            Values in thousandths of a deviation of their recording (``standardised``).

        Raises
        ------
        ValueError
            If a channel or person does not exist, the window is not a whole number of samples, the
            context is below 1, windows are requested of images, or no item remains.
        """
        wanted = self.channels if channels is None else tuple(channels)
        absent = [name for name in wanted if name not in self.channels]
        if absent or not wanted:
            raise ValueError(
                f"channels {', '.join(absent) or '(none)'} are not in {self.path}, which has "
                f"{', '.join(self.channels)}"
            )
        picked = tuple(self.channels.index(name) for name in wanted)
        table = self._items(labelled, persons)
        source: Source = SOURCES[self.kind.name].of_items(
            self,
            picked,
            table,
            window_s=window_s,
            context=context,
            keep_bad=keep_bad,
            by_recording=by_recording,
        )
        if not len(source):
            items = f"{'labelled ' if labelled else ''}{self.kind.items}"
            raise ValueError(f"{self.path} has no usable {items} for the requested persons")
        return source

    @cached_property
    def labelled(self) -> tuple[str, ...]:
        """Persons with a label, sorted."""
        found: set[str] = set()
        for record, people in self.people.items():
            known = np.flatnonzero(self.label(record) >= 0).tolist()
            found.update(people[min(place, len(people) - 1)] for place in known)
        return tuple(sorted(found))

    def extents(self, window_s: float | None) -> tuple[int, ...]:
        """Return the extents S of windows of a length in seconds; of images always their own."""
        if window_s is None or len(self.shape) != 1:
            return self.shape
        return (round(window_s * self.sfreq_hz),)

    def classes_of_units(self) -> dict[str, int] | None:
        """Return the class of every labelled image; None of recordings, which have many labels."""
        if not self.kind.one_label:
            return None
        source = self.source(labelled=True)
        return dict(zip(source.persons, source.labels.tolist(), strict=True))

    def part(self, name: str) -> tuple[str, ...]:
        """Return the images of one part of an image store.

        Raises ValueError if the store has no such part, or has recordings.
        """
        parts = {record: self.kind.part(self, record) for record in self.records}
        found = [person for r in self.records if parts[r] == name for person in self.people[r]]
        if not found:
            there = ", ".join(sorted({part for part in parts.values() if part})) or "none"
            raise ValueError(f"{self.path} has no part {name!r}; its parts: {there}")
        return tuple(found)

    def _items(self, labelled: bool, persons: Sequence[str] | None) -> NDArray[np.int64]:
        """Return record number, position in it and label of every item, (3, items)."""
        parts = [np.zeros((3, 0), dtype=np.int64)]
        allowed = None if persons is None else set(persons)
        strangers = sorted((allowed or set()).difference(*self.people.values()))
        if strangers:
            raise ValueError(
                f"{self.path} has no records of {', '.join(strangers)}; check the names"
            )
        for number, record in enumerate(self.records):
            people = self.people[record]
            wanted = np.array([allowed is None or person in allowed for person in people])
            if not wanted.any():
                continue
            label = self.label(record).astype(np.int64)
            keep = np.broadcast_to(wanted, label.shape) & ((label >= 0) | (not labelled))
            places = np.flatnonzero(keep)
            parts.append(np.stack([np.full(len(places), number), places, label[places]]))
        return np.concatenate(parts, axis=1)


def open_cohort(path: Path | str) -> Cohort:
    """Open a prepared store; FileNotFoundError or ValueError if there is none."""
    return Cohort(path)
