"""Data set cards of annotated images: objects, their parts, masks."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, model_validator

from biopart.settings import Strict, find, load, read_yaml


class PartFiles(Strict):
    """Where the training or test images of a data set are, below its raw folder."""

    images: str = Field(description="folder of the images")
    objects: str | None = Field(None, description="coco: JSON with boxes and outlines of objects")
    keypoints: str | None = Field(None, description="coco: JSON with keypoints of persons")
    masks: str | None = Field(
        None, description="masks, pascal: folder of the images of classes, or of the MATLAB files"
    )
    listed: str | None = Field(
        None, description="masks, pascal: text file with the names of the images; null = all"
    )

    @model_validator(mode="after")
    def _check(self) -> "PartFiles":
        for key in ("images", "objects", "keypoints", "masks", "listed"):
            value = getattr(self, key)
            inside = value and not PurePosixPath(value).is_absolute() and ".." not in value
            if value is not None and not inside:
                raise ValueError(f"{key} has {value!r}; give a place below the raw folder")
        return self


class PartsCard(Strict):
    """One data set of images with annotated parts."""

    name: str
    title: str
    licence: str
    citation: str
    parts: Literal["coco", "cub", "masks", "pascal", "davis"] = Field(
        description="COCO's JSON; CUB-200-2011's text files; an image of classes for each image; "
        "Pascal-Part's MATLAB files; or DAVIS's videos"
    )
    train: PartFiles | None = Field(None, description="files to fit probes on; not cub, davis")
    test: PartFiles | None = Field(None, description="files to score on; not cub, davis")
    points: list[str] = Field([], description="keypoints that part retrieval compares; [] = all")
    classes: list[str] = Field([], description="masks: names of the classes by their value")
    classes_file: str | None = Field(
        None, description="masks: table with the names of the classes in its last column, in order"
    )
    first: int = Field(0, ge=0, description="masks: value of the first class")
    unknown: list[int] = Field([], description="masks: values that are not scored")

    @model_validator(mode="after")
    def _check(self) -> "PartsCard":
        if self.parts in ("cub", "davis"):
            given = [key for key in ("train", "test") if key in self.model_fields_set]
            if given:
                raise ValueError(f"{self.parts} has its own {given[0]} images; remove the key")
        elif self.train is None or self.test is None:
            raise ValueError(f"{self.parts} needs train and test; give their files")
        needed = {"coco": "objects", "masks": "masks", "pascal": "masks"}.get(self.parts)
        for key in ("train", "test"):
            files = getattr(self, key)
            if needed and files is not None and getattr(files, needed) is None:
                raise ValueError(f"{key} lacks {needed}, which {self.parts} needs")
        outside = self.classes_file and ".." in Path(self.classes_file).parts
        if outside or (self.classes_file and Path(self.classes_file).is_absolute()):
            raise ValueError(
                f"classes_file is {self.classes_file!r}; give a file below the raw folder"
            )
        if (self.parts == "masks") != bool(self.classes or self.classes_file):
            raise ValueError("classes or classes_file names the classes of masks, and only them")
        return self


def is_parts_card(name: str | Path) -> bool:
    """Distinguish a card of annotated images from others; FileNotFoundError if it is missing."""
    values = read_yaml(find(name, "datasets"))
    return "parts" in values and "images" not in values


def load_parts_card(name: str | Path, changes: Sequence[str] = ()) -> PartsCard:
    """Load a card of annotated images; arguments and errors as for ``load_card``."""
    return load(PartsCard, find(name, "datasets"), "card", changes)
