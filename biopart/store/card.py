"""Data set cards: what a data set is, where its files lie, and how it becomes a store.

A card owns rate, filter, montage, epoch length, trimming and label rules; a recipe owns the
window, the normalisation and everything after.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from biopart.store.settings import Strict, apply_change, checked, find, read_yaml

STAGES = ("W", "N1", "N2", "N3", "R")


class StageLabels(Strict):
    """Sleep stages, as annotations of the recording or in a file beside it."""

    kind: Literal["stages"] = "stages"
    annotation: str | None = Field(None, description="extension of a WFDB annotation file")
    hypnogram: str | None = Field(
        None, description="glob of a hypnogram beside the recording; {stem} is the file's stem"
    )
    wake_margin_min: float | None = Field(
        None, description="wake further than this from sleep is left unlabelled, in minutes"
    )
    unlabelled: list[str] = Field(
        default_factory=list,
        description="regular expressions on the stems of recordings published without stages",
    )

    @model_validator(mode="after")
    def _check(self) -> "StageLabels":
        try:
            (self.hypnogram or "").format(stem="")
        except (LookupError, AttributeError, ValueError):
            raise ValueError(
                f"hypnogram is {self.hypnogram!r}; only {{stem}} may stand in braces, for "
                "instance '{stem:.7}?-Hypnogram.edf'"
            ) from None
        if self.hypnogram is not None:
            _check_glob(self.hypnogram, "hypnogram")
        for pattern in self.unlabelled:
            _compiled(pattern, "unlabelled")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code."""
        return STAGES


class FileLabels(Strict):
    """One label for a whole file, by a regular expression on its stem."""

    kind: Literal["file"]
    patterns: dict[str, str] = Field(description="label name -> regular expression, by code")

    @model_validator(mode="after")
    def _check(self) -> "FileLabels":
        for name, pattern in self.patterns.items():
            _compiled(pattern, f"the pattern of {name}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code."""
        return tuple(self.patterns)


class BeatLabels(Strict):
    """Beat annotations: an epoch takes the last class of the list that occurs in it."""

    kind: Literal["beats"]
    annotation: str = Field(description="extension of the WFDB annotation file")
    classes: dict[str, list[str]] = Field(description="label name -> beat symbols, by code")

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code."""
        return tuple(self.classes)


class NoLabels(Strict):
    """Recordings without labels."""

    kind: Literal["none"] = "none"

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code: none."""
        return ()


Labels = Annotated[StageLabels | FileLabels | BeatLabels | NoLabels, Field(discriminator="kind")]


class Origin(Strict):
    """Where the files are published."""

    url: str = Field(description="base address, https:// or s3://")
    records_file: str | list[str] | None = Field(
        None, description="list of records below url, or several of them"
    )
    files: str = Field("*.edf", description="glob of the records' files where there is no list")
    extra: list[str] = Field(default_factory=list, description="globs of files always wanted")
    match: int | None = Field(
        None, description="leading characters of a record's file name that its files share"
    )


class PersonTable(Strict):
    """A CSV file with age and sex of each person."""

    file: str
    person: str = Field(description="column that holds the person or the record")
    age: str | None = Field(None, description="column of the age in years")
    sex: str | None = Field(None, description="column of the sex")


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
    person: str = Field(
        "(.+)", description="regular expression on the file's stem; group 1 is the person"
    )
    same_person: dict[str, str] = Field(
        default_factory=dict, description="person -> the person that it really is"
    )
    persons: PersonTable | None = None
    labels: Labels = Field(default_factory=NoLabels)
    channels: list[str] = Field(min_length=1, description="channels wanted, in order")
    aliases: dict[str, list[str]] = Field(
        default_factory=dict, description="wanted channel -> names that a file may use for it"
    )
    sfreq_hz: float = Field(100.0, gt=0, description="sampling rate of the store")
    band_hz: tuple[float | None, float | None] = Field(
        (0.1, 30.0), description="band-pass; null leaves an end open"
    )
    filter_order: int = Field(4, ge=1, le=8, description="order of the Butterworth filter")
    filter_scope: Literal["recording", "epoch"] = Field(
        "recording", description="filter the whole recording, or each epoch by itself (leaks)"
    )
    epoch_s: float = Field(30.0, gt=0, description="length of an epoch in seconds")
    trim_s: float = Field(0.0, ge=0, description="seconds cut from both ends of every epoch")
    unit: str | None = Field(None, description="unit of the values where files do not state it")

    @model_validator(mode="after")
    def _check(self) -> "Card":
        for glob in self.recordings:
            _check_glob(glob, "recordings")
        half = self.sfreq_hz / 2
        edges = [edge for edge in self.band_hz if edge is not None]
        if edges != sorted(set(edges)) or not all(0 < edge < half for edge in edges):
            raise ValueError(
                f"band_hz is {list(self.band_hz)}; its ends must rise and lie above 0 and below "
                f"half of sfreq_hz, {half:g} Hz; null leaves an end open"
            )
        if not is_whole(self.epoch_s * self.sfreq_hz) or self.epoch_s * self.sfreq_hz < 0.5:
            raise ValueError(
                f"epoch_s {self.epoch_s:g} at {self.sfreq_hz:g} Hz is no whole number of samples"
            )
        if not is_whole(self.trim_s * self.sfreq_hz) or 2 * self.trim_s >= self.epoch_s:
            raise ValueError(
                f"trim_s is {self.trim_s:g}; it must be a whole number of samples and leave "
                f"something of an epoch of {self.epoch_s:g} s"
            )
        if _compiled(self.person, "person").groups < 1:
            raise ValueError(f"person is {self.person!r}; give a group, e.g. '(tr\\d+)'")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels is {self.channels}; name each channel once")
        return self

    @property
    def stored_epoch_s(self) -> float:
        """Length of an epoch in the store, after trimming, in seconds."""
        return self.epoch_s - 2 * self.trim_s

    def store_attributes(self, *, simulated: bool) -> dict[str, Any]:
        """Return the attributes of a store that this card makes."""
        return {
            "card": self.model_dump(mode="json"),
            "epoch_s": self.stored_epoch_s,
            "sfreq_hz": self.sfreq_hz,
            "label_names": list(self.labels.names),
            "channels": list(self.channels),
            "simulated": simulated,
        }


def is_whole(samples: float) -> bool:
    """Tell whether a product of seconds and hertz means a whole number of samples.

    Examples
    --------
    >>> (2.3 * 100).is_integer(), is_whole(2.3 * 100), is_whole(0.301 * 100)
    (False, True, False)
    """
    return math.isclose(samples, round(samples), abs_tol=1e-6)


def _compiled(pattern: str, what: str) -> re.Pattern[str]:
    """Compile a regular expression; ValueError says what is wrong with it."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what} is {pattern!r}, no regular expression: {error}") from None


def _check_glob(glob: str, what: str) -> None:
    """Refuse a glob that is empty or leads out of the folder that it is for."""
    path = PurePosixPath(glob)
    outside = path.is_absolute() or PureWindowsPath(glob).anchor or ".." in path.parts
    if outside or not path.parts:
        raise ValueError(
            f"{what} holds the glob {glob!r}; give one below the folder, without a leading / and "
            "without '..', for instance 'training/*/*.hea'"
        )


def load_card(name: str | Path, changes: Sequence[str] = ()) -> Card:
    """Load a card by its path or by the name of a shipped one.

    Parameters
    ----------
    name : str or Path
        ``datasets/physionet2018.yaml`` or ``physionet2018``.
    changes : sequence of str
        ``key=value`` settings that replace the card's, e.g. ``trim_s=0``.

    Raises
    ------
    FileNotFoundError
        If there is no such card.
    ValueError
        If a key is unknown or a value has the wrong type.
    """
    path = find(name, "datasets")
    values = read_yaml(path)
    for change in changes:
        apply_change(values, change)
    return checked(Card, values, f"card {path.name}")
