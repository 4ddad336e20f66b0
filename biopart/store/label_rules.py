"""Label rules of a card: how recordings of a data set get their labels."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from biopart.codes import STAGES
from biopart.settings import Strict

UNSCORED = "?"
EVENT = "event"
CODES: dict[str, dict[int, str]] = {
    # AASM manual, with REM as 5 as in R&K's order; ISRUC-Sleep and most scoring software.
    "aasm": {0: "W", 1: "N1", 2: "N2", 3: "N3", 5: "R"},
    # Rechtschaffen & Kales; Profusion and the NSRR's cohorts (6 movement, 9 unscored).
    "rk": {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "N3", 5: "R", 6: "?", 7: "?", 9: "?"},
    # YASA's integers (-1 artefact, -2 unscored); U-Sleep's, whose 5 is unknown.
    "rem4": {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "R", 5: "?"},
    # St. Vincent's (ucddb), stage files of its page at PhysioNet: 6 artefact, 7 indeterminate.
    "ucddb": {0: "W", 1: "R", 2: "N1", 3: "N2", 4: "N3", 5: "N3", 6: "?", 7: "?", 8: "?"},
    # DREAMS database (University of Mons): -1 movement, -2 and -3 unknown.
    "dreams": {5: "W", 4: "R", 3: "N1", 2: "N2", 1: "N3", 0: "N3"},
}
"""Meaning of the numbers of a hypnogram by the name of a convention; negative = unscored."""


class StageColumns(Strict):
    """Columns of a table of stages, each by its name or its number from 1."""

    stage: int | str | None = Field(None, description="the stage")
    onset: int | str | None = Field(None, description="onset in seconds from the start")
    duration: int | str | None = Field(None, description="duration in seconds")
    end: int | str | None = Field(None, description="end in seconds from the start")
    epoch: int | str | None = Field(None, description="number of the epoch")
    clock: int | str | None = Field(None, description="clock time, hh:mm:ss or ISO")


class StageLabels(Strict):
    """Sleep stages, as annotations of the recording or in a separate file."""

    kind: Literal["stages"] = "stages"
    annotation: str | None = Field(None, description="extension of a WFDB annotation file")
    hypnogram: str | None = Field(
        None, description="glob of a hypnogram relative to the recording; {stem} is the file's stem"
    )
    codes: str | dict[int, str | None] | None = Field(
        None,
        description="meaning of numbers: " + ", ".join(CODES) + ", or {0: W, 1: R, ...} with null "
        "= unscored; null = refused if ambiguous",
    )
    words: dict[str, str | None] = Field(
        default_factory=dict,
        description="spelling of a stage -> W, N1, N2, N3 or R; null = unscored, event = a mark "
        "that may lie inside a stage",
    )
    columns: StageColumns = Field(
        default_factory=StageColumns, description="columns of a table of stages; null = by name"
    )
    epoch_s: float | None = Field(
        None,
        gt=0,
        description="length of a scored epoch in seconds, if the hypnogram gives no times; "
        "null = the length that fits the recording",
    )
    clock: Literal["compare", "ignore"] = Field(
        "compare",
        description="whether to compare the start of a hypnogram with that of its recording",
    )
    first_epoch: Literal[0, 1] | None = Field(
        None, description="number of the first epoch; null = the number that fits the recording"
    )
    wake_margin_min: float | None = Field(
        None, description="wake further than this from sleep is unlabelled, in minutes"
    )
    unlabelled: list[str] = Field(
        default_factory=list,
        description="regular expressions on the stems of recordings published without stages",
    )

    @field_validator("words", mode="before")
    @classmethod
    def _as_text(cls, words: object) -> object:
        """Convert numbers that YAML made from words back to their text in a file."""
        return {str(k): v for k, v in words.items()} if isinstance(words, dict) else words

    @model_validator(mode="after")
    def _check(self) -> "StageLabels":
        try:
            (self.hypnogram or "").format(stem="")
        except (LookupError, AttributeError, ValueError):
            raise ValueError(
                f"hypnogram is {self.hypnogram!r}; only {{stem}} may be in braces, for example "
                "'{stem:.7}?-Hypnogram.edf'"
            ) from None
        if self.hypnogram is not None:
            check_glob(self.hypnogram, "hypnogram")
        for pattern in self.unlabelled:
            compiled(pattern, "unlabelled")
        if isinstance(self.codes, str) and self.codes not in CODES:
            raise ValueError(
                f"codes is {self.codes!r}; give one of {', '.join(CODES)}, or each number's stage, "
                "for example {0: W, 1: R, 2: N1}"
            )
        meanings = {} if self.codes is None or isinstance(self.codes, str) else self.codes
        for key, allowed, given in (
            ("codes", (*STAGES, UNSCORED), meanings.values()),
            ("words", (*STAGES, UNSCORED, EVENT), self.words.values()),
        ):
            strange = [name for name in given if name is not None and name not in allowed]
            if strange:
                raise ValueError(
                    f"{key} has the stage {strange[0]!r}; give {', '.join(allowed)} or null"
                )
        return self

    @property
    def meanings(self) -> dict[int, str] | None:
        """Stage of each number, ``?`` = unscored; None = the card states none."""
        given = CODES[self.codes] if isinstance(self.codes, str) else self.codes
        if given is None:
            return None
        return {number: name or UNSCORED for number, name in given.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code."""
        return STAGES


class FileLabels(Strict):
    """One label for a whole file, by a regular expression on the recording's name."""

    kind: Literal["file"]
    patterns: dict[str, str] = Field(description="label name -> regular expression, by code")

    @model_validator(mode="after")
    def _check(self) -> "FileLabels":
        for name, pattern in self.patterns.items():
            compiled(pattern, f"the pattern of {name}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code."""
        return tuple(self.patterns)


class BeatLabels(Strict):
    """Beat annotations: an epoch gets the last class of the list that occurs in it."""

    kind: Literal["beats"]
    annotation: str = Field(description="extension of the WFDB annotation file")
    classes: dict[str, list[str]] = Field(description="label name -> beat symbols, by code")

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code."""
        return tuple(self.classes)


class TableLabels(Strict):
    """Codes at times, in a separate table on the clock of the recording."""

    kind: Literal["table"]
    file: str = Field(
        description="glob of the table relative to the recording; {stem} is the recording's stem, "
        "{person} the group of the card's rule for persons"
    )
    codes: dict[str, str | None] = Field(
        min_length=1, description="code in the table -> label name; null = unlabelled"
    )
    duration_s: float = Field(30.0, gt=0, description="duration of a row's code in seconds")
    time: int | str = Field(1, description="column of the onset in seconds: name, or number from 1")
    code: int | str = Field(2, description="column of the code: name, or number from 1")
    delimiter: str | None = Field(
        None, description="separator; null = the first of tab, ; and , in line 1, else spaces"
    )
    header: bool | None = Field(
        None, description="whether line 1 has names; null = yes if it has no number"
    )

    @field_validator("codes", mode="before")
    @classmethod
    def _as_text(cls, codes: object) -> object:
        """Convert numbers that YAML made from codes back to their text in a table."""
        return (
            {str(code): name for code, name in codes.items()} if isinstance(codes, dict) else codes
        )

    @model_validator(mode="after")
    def _check(self) -> "TableLabels":
        try:
            self.file.format(stem="", person="")
        except (LookupError, AttributeError, ValueError):
            raise ValueError(
                f"file is {self.file!r}; only {{stem}} and {{person}} may be in braces, for "
                "example '{person}_stages.txt'"
            ) from None
        check_glob(self.file, "file")
        if not self.names:
            raise ValueError("codes names no label; give one, for example {0: W}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code: all stages if each is one, else in the order of ``codes``."""
        given = tuple(dict.fromkeys(name for name in self.codes.values() if name is not None))
        return STAGES if given and set(given) <= set(STAGES) else given


class NoLabels(Strict):
    """Recordings without labels."""

    kind: Literal["none"] = "none"

    @property
    def names(self) -> tuple[str, ...]:
        """Label names by code: none."""
        return ()


Labels = Annotated[
    StageLabels | FileLabels | BeatLabels | TableLabels | NoLabels, Field(discriminator="kind")
]


def compiled(pattern: str, what: str) -> re.Pattern[str]:
    """Compile a regular expression; ValueError states what is wrong with it."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"{what} is {pattern!r}, which is not a regular expression: {error}"
        ) from None


def check_glob(glob: str, what: str) -> None:
    """Refuse a glob that is empty or leaves its folder."""
    path = PurePosixPath(glob)
    outside = path.is_absolute() or PureWindowsPath(glob).anchor or ".." in path.parts
    if outside or not path.parts:
        raise ValueError(
            f"{what} has the glob {glob!r}; give one below the folder, without a leading / and "
            "without '..', for example 'training/*/*.hea'"
        )
