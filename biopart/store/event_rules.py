"""Events of a card: marks with a time and a class inside a recording."""

import re

from pydantic import Field, field_validator, model_validator

from biopart.settings import Strict
from biopart.store.label_rules import check_glob


def plain(text: str) -> str:
    """Return a text with single spaces, and none at its ends."""
    return re.sub(r"\s+", " ", text.strip())


class EventRule(Strict):
    """Heart beats, spindles, arousals, apnoeas: where the marks are, and what their texts mean.

    Without ``annotation`` and ``file`` the annotations in the recording itself (EDF+) are taken.
    """

    annotation: str | None = Field(
        None, description="extension of a WFDB annotation file, whose symbols are the texts"
    )
    file: str | None = Field(
        None,
        description="glob of a table, or of a file with annotations (EDF+), relative to the "
        "recording; {stem} is the recording's stem",
    )
    onset: int | str = Field(
        1, description="column of the onset in seconds: name, or number from 1"
    )
    duration: int | str | None = Field(
        None,
        description="column of the duration in seconds; null = the one that is named duration, "
        "else marks have none",
    )
    text: int | str | None = Field(
        None,
        description="column of the text; null = the one that is named text, else every row is an "
        "event of the only class",
    )
    classes: dict[str, list[str]] = Field(
        min_length=1, description="class -> texts of its marks; other marks are no events"
    )
    before_s: float = Field(0.0, ge=0, description="seconds before a mark without a duration")
    after_s: float = Field(0.0, ge=0, description="seconds after a mark without a duration")
    gap_s: float = Field(
        0.0, ge=0, description="predicted events with a shorter gap between them count as one"
    )
    least_s: float = Field(0.0, ge=0, description="shorter predicted events count as none")

    @field_validator("classes")
    @classmethod
    def _plain(cls, classes: dict[str, list[str]]) -> dict[str, list[str]]:
        """Compare texts with single spaces, each once."""
        return {name: list(dict.fromkeys(map(plain, texts))) for name, texts in classes.items()}

    @model_validator(mode="after")
    def _check(self) -> "EventRule":
        if self.annotation is not None and self.file is not None:
            raise ValueError("annotation and file were both given; give only one of them")
        of_table = [key for key in ("onset", "duration", "text") if key in self.model_fields_set]
        if self.file is None and of_table:
            raise ValueError(f"{of_table[0]} is a column of file; give file, or remove it")
        if self.file is not None:
            try:
                check_glob(self.file.format(stem="stem"), "events.file")
            except (LookupError, AttributeError, ValueError):
                raise ValueError(
                    f"events.file is {self.file!r}; only {{stem}} may be in braces, for example "
                    "'{stem}_spindles.csv'"
                ) from None
        twice = [t for texts in self.classes.values() for t in texts]
        if len(set(twice)) < len(twice):
            again = next(text for text in twice if twice.count(text) > 1)
            raise ValueError(f"the text {again!r} belongs to two classes; give it to one")
        if self.annotation is not None and self.before_s + self.after_s == 0:
            raise ValueError(
                "marks of a WFDB file have no duration; give before_s and after_s in seconds"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes by code."""
        return tuple(self.classes)

    def code_of(self, text: str) -> int | None:
        """Return the code of a mark's text; None = no event."""
        for code, texts in enumerate(self.classes.values()):
            if plain(text) in texts:
                return code
        return None
