"""Data set cards: what a data set is, where its files are, and how it becomes a store.

A card owns rate, filter, montage, epoch length, trimming and label rules; a recipe owns the
window, the normalisation and everything after.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from biopart.settings import Strict, find, load
from biopart.store.event_rules import EventRule
from biopart.store.label_rules import Labels, NoLabels, check_glob, compiled
from biopart.store.parts_card import is_parts_card


class Origin(Strict):
    """Where the files are published."""

    url: str = Field(description="base address, https:// or s3://")
    records_file: str | list[str] | None = Field(
        None, description="list of records below url, or several of them"
    )
    files: str = Field("*.edf", description="glob of the records' files if there is no list")
    extra: list[str] = Field(default_factory=list, description="globs of files to always fetch")
    match: int | None = Field(
        None, description="number of leading characters of a file name that files of a record share"
    )


class PersonTable(Strict):
    """A CSV file with age and sex of each person."""

    file: str
    person: str = Field(description="column with the person or the record")
    age: str | None = Field(None, description="column of the age in years")
    sex: str | None = Field(None, description="column of the sex")


class Table(Strict):
    """How to read a table with a time column as a recording at a regular rate."""

    time: int | str = Field(1, description="column of the time in seconds: name, or number from 1")
    columns: dict[str, int | str] = Field(
        default_factory=dict,
        description="channel -> its column, by name or number from 1; empty = every other column",
    )
    units: dict[str, str] = Field(default_factory=dict, description="channel -> unit")
    delimiter: str | None = Field(
        None, description="separator; null = the first of tab, ; and , in line 1, else spaces"
    )
    header: bool | None = Field(
        None, description="whether line 1 has names; null = yes if it has no number"
    )
    sfreq_hz: float | None = Field(
        None, gt=0, description="regular rate to interpolate to; null = 1 / median step"
    )
    max_gap_s: float | None = Field(
        None, gt=0, description="longer steps count as missing; null = 5 median steps"
    )
    start_s: float | None = Field(
        None, description="time of sample 0; earlier rows are dropped; null = the first row's"
    )
    stop_s: float | None = Field(None, description="rows after this time are dropped")
    repeated: Literal["mean", "last"] = Field(
        "mean", description="what to do with rows at the same time"
    )

    @model_validator(mode="after")
    def _check(self) -> "Table":
        if None not in (self.start_s, self.stop_s) and not self.start_s < self.stop_s:  # type: ignore[operator]
            raise ValueError(
                f"start_s {self.start_s:g} is not before stop_s {self.stop_s:g}: give the wanted "
                "part of the clock"
            )
        numbers = [n for n in (self.time, *self.columns.values()) if isinstance(n, int)]
        if any(number < 1 for number in numbers):
            raise ValueError(f"a column has the number {min(numbers)}; columns count from 1")
        return self


class Cepstrum(Strict):
    """How to read sound as mel-frequency cepstral coefficients, channels mfcc0, mfcc1, ...

    The defaults are of TC-ResNet's preparation of Speech Commands (Choi et al., Interspeech 2019),
    which MP3 takes (arXiv 2207.07611).
    """

    coefficients: int = Field(40, ge=1, description="number of coefficients")
    frame_s: float = Field(0.03, gt=0, description="length of a frame in seconds")
    step_s: float = Field(0.01, gt=0, description="distance of frames: 1 / sfreq_hz")
    bands: int = Field(40, ge=1, description="number of mel bands")
    low_hz: float = Field(20.0, ge=0, description="lower end of the lowest band")
    high_hz: float | None = Field(
        4000.0, gt=0, description="upper end of the highest band; null = half of the sound's rate"
    )
    pad_s: float | None = Field(
        None, gt=0, description="shorter sounds are filled with silence at their end"
    )

    @model_validator(mode="after")
    def _check(self) -> "Cepstrum":
        if self.step_s > self.frame_s:
            raise ValueError(
                f"step_s {self.step_s:g} is longer than frame_s {self.frame_s:g}: the sound "
                "between the frames would be lost"
            )
        if self.coefficients > self.bands:
            raise ValueError(
                f"{self.bands} bands have at most {self.bands} coefficients, not "
                f"{self.coefficients}"
            )
        if self.high_hz is not None and self.high_hz <= self.low_hz:
            raise ValueError(f"high_hz {self.high_hz:g} is not above low_hz {self.low_hz:g}")
        return self


class ForcedUnit(Strict):
    """A unit that overrides what the files state."""

    force: str = Field(description="unit of the values, for example uV")


class Baseline(Strict):
    """Features of the baseline without a network: band powers, and the level of a window."""

    bands_hz: dict[str, tuple[float, float]] | None = Field(
        None, description="name -> low and high end of a band; null = those of sleep EEG"
    )
    level: bool = Field(False, description="whether the mean of a window is a feature too")
    floor: float = Field(
        1e-6, gt=0, description="lower limit of the powers, in squared units of the store"
    )

    @model_validator(mode="after")
    def _check(self) -> "Baseline":
        for name, (low, high) in (self.bands_hz or {}).items():
            if not 0 <= low < high:
                raise ValueError(
                    f"the band {name} is [{low:g}, {high:g}]; its ends must rise from 0 or above"
                )
        return self


class Card(Strict):
    """One data set."""

    name: str
    title: str
    licence: str
    citation: str
    origin: Origin | None = None
    recordings: list[str] = Field(
        min_length=1, description="globs of recordings below the raw folder"
    )
    named: Literal["file", "folder"] = Field(
        "file", description="name of a recording: the file's stem, or FOLDER_STEM"
    )
    person: str = Field(
        "(.+)", description="regular expression on the recording's name; group 1 is the person"
    )
    same_person: dict[str, str] = Field(
        default_factory=dict, description="person -> the person that it really is"
    )
    persons: PersonTable | None = None
    table: Table | None = Field(None, description="how to read recordings that are tables")
    cepstrum: Cepstrum | None = Field(
        None, description="read sound as cepstral coefficients; {} = with the defaults"
    )
    labels: Labels = Field(default_factory=NoLabels)
    events: EventRule | None = Field(None, description="marks inside a recording; null = none")
    channels: list[str] = Field(min_length=1, description="wanted channels, in order")
    aliases: dict[str, list[str]] = Field(
        default_factory=dict, description="wanted channel -> names that a file may use for it"
    )
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="wanted channel -> its only source; refused if the file does not have it",
    )
    sfreq_hz: float = Field(100.0, gt=0, description="sampling rate of the store")
    band_hz: tuple[float | None, float | None] = Field(
        (0.1, 30.0), description="band-pass; null leaves an end open"
    )
    filter_order: int = Field(4, ge=1, le=8, description="order of the Butterworth filter")
    filter_scope: Literal["recording", "epoch"] = Field(
        "recording", description="filter the whole recording, or each epoch separately (leaks)"
    )
    epoch_s: float = Field(30.0, gt=0, description="length of an epoch in seconds")
    trim_s: float = Field(0.0, ge=0, description="seconds cut from both ends of every epoch")
    pad_to_epoch: bool = Field(
        False, description="fill a recording shorter than one epoch with zeros, after filtering"
    )
    flat_s: float | None = Field(
        1.0,
        gt=0,
        description="a constant value is marked bad after this many seconds; null = never",
    )
    unit: str | ForcedUnit | None = Field(
        None,
        description="unit of the values where files do not state it; {force: uV} = whatever they "
        "state",
    )
    low_rate: Literal["refuse", "keep"] = Field(
        "refuse",
        description="what to do with a channel whose rate is below twice the upper end of band_hz",
    )
    baseline: Baseline = Field(default_factory=Baseline)

    @model_validator(mode="after")
    def _check(self) -> "Card":
        for glob in self.recordings:
            check_glob(glob, "recordings")
        half = self.sfreq_hz / 2
        edges = [edge for edge in self.band_hz if edge is not None]
        if edges != sorted(set(edges)) or not all(0 < edge < half for edge in edges):
            raise ValueError(
                f"band_hz is {list(self.band_hz)}; its ends must rise and lie above 0 and below "
                f"half of sfreq_hz, {half:g} Hz; null leaves an end open"
            )
        if not is_whole(self.epoch_s * self.sfreq_hz) or self.epoch_s * self.sfreq_hz < 0.5:
            raise ValueError(
                f"epoch_s {self.epoch_s:g} at {self.sfreq_hz:g} Hz is not a whole number of "
                "samples; change one of them"
            )
        if not is_whole(self.trim_s * self.sfreq_hz) or 2 * self.trim_s >= self.epoch_s:
            raise ValueError(
                f"trim_s is {self.trim_s:g}; it must be a whole number of samples and leave "
                f"part of an epoch of {self.epoch_s:g} s"
            )
        if self.events is not None and self.trim_s:
            raise ValueError("trim_s cuts epochs apart, so events have no place; set it to 0")
        if compiled(self.person, "person").groups < 1:
            raise ValueError(f"person is {self.person!r}; give a group, e.g. '(tr\\d+)'")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels is {self.channels}; name each channel once")
        if self.table is not None and self.cepstrum is not None:
            raise ValueError("a recording is a table or sound; leave out table or cepstrum")
        if self.cepstrum is not None and not math.isclose(
            self.sfreq_hz * self.cepstrum.step_s, 1, rel_tol=1e-6
        ):
            raise ValueError(
                f"a cepstrum with steps of {self.cepstrum.step_s:g} s has "
                f"{1 / self.cepstrum.step_s:g} frames per second; set sfreq_hz to that"
            )
        return self

    @property
    def reading(self) -> Table | Cepstrum | None:
        """How to read files that do not say it themselves."""
        return self.table or self.cepstrum

    def name_of(self, path: Path) -> str:
        """Return the name of a recording."""
        return path.stem if self.named == "file" else f"{path.parent.name}_{path.stem}"

    def person_in(self, path: Path) -> str:
        """Return the person in the name of a file; ValueError if the rule does not fit."""
        name = self.name_of(path)
        found = re.search(self.person, name)
        if found is None or not found.group(1):
            raise ValueError(f"{name} does not fit the card's rule for persons, {self.person!r}")
        return found.group(1)

    def person_of(self, path: Path) -> str:
        """Return the person in the name of a file, or the person it really is."""
        person = self.person_in(path)
        return self.same_person.get(person, person)

    @property
    def stored_epoch_s(self) -> float:
        """Length of an epoch in the store, after trimming, in seconds."""
        return self.epoch_s - 2 * self.trim_s

    def store_attributes(self, *, simulated: bool) -> dict[str, Any]:
        """Return the attributes of a store prepared by this card."""
        return {
            "card": self.model_dump(mode="json"),
            "epoch_s": self.stored_epoch_s,
            "sfreq_hz": self.sfreq_hz,
            "label_names": list(self.labels.names),
            "channels": list(self.channels),
            "simulated": simulated,
            **({"event_names": list(self.events.names)} if self.events is not None else {}),
        }


def is_whole(samples: float) -> bool:
    """Tell whether a product of seconds and hertz is a whole number of samples.

    Examples
    --------
    >>> (2.3 * 100).is_integer(), is_whole(2.3 * 100), is_whole(0.301 * 100)
    (False, True, False)
    """
    return math.isclose(samples, round(samples), abs_tol=1e-6)


def load_card(name: str | Path, changes: Sequence[str] = ()) -> Card:
    """Load a card by its path or by the name of a shipped card.

    Parameters
    ----------
    name : str or Path
        ``datasets/physionet2018.yaml`` or ``physionet2018``.
    changes : sequence of str
        ``key=value`` settings that replace the card's, e.g. ``trim_s=0``.

    Raises
    ------
    FileNotFoundError
        If the card does not exist.
    ValueError
        If a key is unknown or a value has the wrong type.
    """
    if is_parts_card(name):
        raise ValueError(
            f"{name} is a card of annotated images, which are used as they are: biopart probe "
            f"--suite part-aware --data {name} --raw DIR"
        )
    return load(Card, find(name, "datasets"), "card", changes)
