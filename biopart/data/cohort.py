"""A prepared store as a source of windows or images."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.data.images import ImageSource
from biopart.data.source import Source
from biopart.data.windows import WindowSource, touches_bad
from biopart.store import Store


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
        source: Source
        if self.holds_images:
            if window_s is not None or context != 1:
                raise ValueError(
                    f"{self.path} has images, for which window_s and context do not apply; leave "
                    "them out"
                )
            source = ImageSource(self, picked, self._items(labelled, persons=persons))
        else:
            size = self._samples(window_s, context)
            table = self._items(labelled, size=None if keep_bad else size, persons=persons)
            source = WindowSource(self, picked, size, context=context, table=table)
        if not len(source):
            kind = "images" if self.holds_images else "windows"
            kind = f"labelled {kind}" if labelled else kind
            raise ValueError(f"{self.path} has no usable {kind} for the requested persons")
        return source

    @cached_property
    def people(self) -> dict[str, tuple[str, ...]]:
        """Persons of each record: one for a recording, every image for a pack of images."""
        if self.holds_images:
            return {record: self.names(record) for record in self.records}
        return {record: (person,) for record, person in self.persons.items()}

    @cached_property
    def labelled(self) -> tuple[str, ...]:
        """Persons with a label, sorted."""
        found: set[str] = set()
        for record, people in self.people.items():
            known = self.label(record) >= 0
            if self.holds_images:
                found.update(people[place] for place in np.flatnonzero(known).tolist())
            elif known.any():
                found.update(people)
        return tuple(sorted(found))

    def part(self, name: str) -> tuple[str, ...]:
        """Return the images of one part of an image store.

        Raises ValueError if the store has no such part, or has recordings.
        """
        parts = {record: self.about(record).get("part") for record in self.records}
        found = [person for r in self.records if parts[r] == name for person in self.people[r]]
        if not found:
            there = ", ".join(sorted({str(part) for part in parts.values() if part})) or "none"
            raise ValueError(f"{self.path} has no part {name!r}; its parts: {there}")
        return tuple(found)

    def _samples(self, window_s: float | None, context: int) -> int:
        """Return the samples of a window; ValueError if the window or context is impossible."""
        exact = self.epoch_samples if window_s is None else window_s * self.sfreq_hz
        size = round(exact)
        if not math.isclose(exact, size, abs_tol=1e-6) or size < 1:
            raise ValueError(
                f"window_s {window_s} at {self.sfreq_hz:g} Hz is not a whole number of samples; "
                "choose another length"
            )
        if context < 1:
            raise ValueError(f"context is {context}; give 1 or the number of windows around each")
        return size

    def _items(
        self, labelled: bool, *, size: int | None = None, persons: Sequence[str] | None
    ) -> NDArray[np.int64]:
        """Return record number, position in it and label of every item, (3, items).

        With a size, windows of this many samples that touch a bad segment are excluded.
        """
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
            if size is not None:
                keep &= ~touches_bad(self, record, len(label), size)
            places = np.flatnonzero(keep)
            parts.append(np.stack([np.full(len(places), number), places, label[places]]))
        return np.concatenate(parts, axis=1)


def open_cohort(path: Path | str) -> Cohort:
    """Open a prepared store; FileNotFoundError or ValueError if there is none."""
    return Cohort(path)
