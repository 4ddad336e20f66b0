"""Data set cards of images: where they are, their size, and their parts."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from biopart.settings import Strict, find, load, read_yaml
from biopart.store.contents import IMAGE_AXES

COLOURS = (["red", "green", "blue"], ["grey"])


class ImageCard(Strict):
    """One data set of images."""

    name: str
    title: str
    licence: str
    citation: str
    images: Literal["folders", "shards", "cifar10", "cifar100"] = Field(
        description="a folder per class in the folder of each part; tar files of WebDataset's "
        "convention in it; or CIFAR's own binary files",
    )
    parts: dict[str, str] = Field(
        {"train": "train", "test": "test"},
        min_length=1,
        description="part of the store -> its folder below the raw one; not for CIFAR's own files",
    )
    labels: dict[str, str] = Field(
        {},
        description="part -> text file below the raw folder with the class of each image, if the "
        "images are in one folder",
    )
    classes: list[str] | None = Field(
        None, min_length=1, description="folders of classes to take; null = all; only for folders"
    )
    size: tuple[int, int] = Field(description="height and width in pixels")
    channels: list[str] = Field(["red", "green", "blue"], description="or [grey]")
    fit: Literal["crop", "squash"] | None = Field(
        None,
        description="images of another size: resize the largest centred part with the right aspect "
        "ratio, or the whole image; null = they are bad",
    )
    max_bad: int = Field(0, ge=0, description="number of images that may be bad")

    @model_validator(mode="after")
    def _check(self) -> "ImageCard":
        if self.channels not in COLOURS:
            raise ValueError(f"channels is {self.channels}; give [red, green, blue] or [grey]")
        if min(self.size) < 1:
            raise ValueError(f"size is {list(self.size)}; give height and width in pixels")
        if self.images.startswith("cifar") and (self.size != (32, 32) or len(self.channels) != 3):
            raise ValueError(
                f"{self.images} has 32 x 32 images of three channels; remove these keys"
            )
        if self.classes is not None and (self.images != "folders" or self.labels):
            raise ValueError("classes is only for images in folders of classes; remove it")
        self._check_parts()
        return self

    def _check_parts(self) -> None:
        """Refuse parts that are not separate folders below the raw folder."""
        if self.labels and (self.images != "folders" or set(self.labels) - set(self.parts)):
            raise ValueError("labels is only for images in folders; remove it")
        if self.images.startswith("cifar") and "parts" in self.model_fields_set:
            raise ValueError(f"{self.images} has its own train and test; remove parts")
        for text in self.labels.values():
            if Path(text).is_absolute() or ".." in Path(text).parts:
                raise ValueError(f"labels has {text!r}; give a file below the raw folder")
        for part, folder in self.parts.items():
            if Path(folder).is_absolute() or ".." in Path(folder).parts:
                raise ValueError(f"parts has {folder!r}; give folders below the raw folder")
            if not part or Path(part).name != part or part.startswith("."):
                raise ValueError(f"parts has the name {part!r}; give a plain name such as train")
        folders = [Path(folder) for folder in self.parts.values()]
        for one, two in itertools.permutations(folders, 2):
            if one == two or one in two.parents:
                raise ValueError(
                    f"parts has {one} and {two}, which share images; use separate folders"
                )

    def store_attributes(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the attributes of a store prepared by this card."""
        return {
            "card": self.model_dump(mode="json"),
            "label_names": list(classes),
            "channels": list(self.channels),
            "axes": list(IMAGE_AXES),
            "shape": list(self.size),
        }


def is_image_card(name: str | Path) -> bool:
    """Distinguish a card of images from one of recordings; FileNotFoundError if it is missing."""
    return "images" in read_yaml(find(name, "datasets"))


def load_image_card(name: str | Path, changes: Sequence[str] = ()) -> ImageCard:
    """Load a card of images; arguments and errors as for ``load_card``."""
    return load(ImageCard, find(name, "datasets"), "card", changes)
