"""Data set cards of images: where they lie, how large they are, which part they belong to."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from biopart.settings import Strict, find, load, read_yaml
from biopart.store.records import IMAGE_AXES

COLOURS = (["red", "green", "blue"], ["grey"])


class ImageCard(Strict):
    """One data set of images."""

    name: str
    title: str
    licence: str
    citation: str
    images: Literal["folders", "shards", "cifar10", "cifar100"] = Field(
        description="a folder per class below each part's; tar files of WebDataset's convention in "
        "each part's; or CIFAR's own files, binary or python"
    )
    parts: dict[str, str] = Field(
        {"train": "train", "test": "test"},
        min_length=1,
        description="part of the store -> its folder below the raw one; CIFAR's files name theirs",
    )
    labels: dict[str, str] = Field(
        {},
        description="part -> text below the raw folder that says the class of each image, where "
        "they lie in one folder",
    )
    size: tuple[int, int] = Field(description="height and width in pixels")
    channels: list[str] = Field(["red", "green", "blue"], description="or [grey]")
    fit: Literal["crop", "squash"] | None = Field(
        None,
        description="images of another size: the largest centred part of the right proportions, "
        "or the whole, resized; null = they are bad",
    )
    max_bad: int = Field(0, ge=0, description="images that may be bad; one more stops")

    @model_validator(mode="after")
    def _check(self) -> "ImageCard":
        if self.channels not in COLOURS:
            raise ValueError(f"channels is {self.channels}; give [red, green, blue] or [grey]")
        if min(self.size) < 1:
            raise ValueError(f"size is {list(self.size)}; give height and width in pixels")
        if self.images.startswith("cifar") and (self.size != (32, 32) or len(self.channels) != 3):
            raise ValueError(f"{self.images} has 32 x 32 images of three channels; leave these out")
        self._check_parts()
        return self

    def _check_parts(self) -> None:
        """Refuse parts that are no folders of their own below the raw one."""
        if self.labels and (self.images != "folders" or set(self.labels) - set(self.parts)):
            raise ValueError("labels names texts of parts in folders; leave others out")
        if self.images.startswith("cifar") and "parts" in self.model_fields_set:
            raise ValueError(f"{self.images} has its own train and test; leave parts out")
        for text in self.labels.values():
            if Path(text).is_absolute() or ".." in Path(text).parts:
                raise ValueError(f"labels has {text!r}; give a file below the raw folder")
        for part, folder in self.parts.items():
            if Path(folder).is_absolute() or ".." in Path(folder).parts:
                raise ValueError(f"parts has {folder!r}; give folders below the raw one")
            if not part or Path(part).name != part or part.startswith("."):
                raise ValueError(f"parts has the name {part!r}; give a plain name such as train")
        folders = [Path(folder) for folder in self.parts.values()]
        for one, two in itertools.permutations(folders, 2):
            if one == two or one in two.parents:
                raise ValueError(f"parts has {one} and {two}, which share images; keep them apart")

    def store_attributes(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the attributes of a store that this card makes."""
        return {
            "card": self.model_dump(mode="json"),
            "label_names": list(classes),
            "channels": list(self.channels),
            "axes": list(IMAGE_AXES),
            "shape": list(self.size),
        }


def is_image_card(name: str | Path) -> bool:
    """Tell a card of images from one of recordings; FileNotFoundError where there is none."""
    return "images" in read_yaml(find(name, "datasets"))


def load_image_card(name: str | Path, changes: Sequence[str] = ()) -> ImageCard:
    """Load a card of images, with arguments and errors as of ``load_card``."""
    return load(ImageCard, find(name, "datasets"), "card", changes)
