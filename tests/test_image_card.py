"""Cards of images: the shipped ones load, and their rules are checked when they are read."""

from pathlib import Path
from typing import Any

import pytest

from biopart.settings import checked
from biopart.store.image_card import ImageCard, is_image_card, load_image_card

SHIPPED = sorted(Path(__file__).parents[1].glob("datasets/*.yaml"))
MINIMAL: dict[str, Any] = {
    "name": "n",
    "title": "t",
    "licence": "l",
    "citation": "c",
    "images": "folders",
    "size": [4, 5],
}


@pytest.mark.parametrize("path", [p for p in SHIPPED if is_image_card(p)], ids=lambda p: p.stem)
def test_a_shipped_card_of_images_is_named_as_its_file_and_cites_its_source(path: Path) -> None:
    loaded = load_image_card(path.stem)
    size, source = (
        ((224, 224), "2015") if path.stem.startswith("imagenet") else ((32, 32), "Krizhevsky")
    )
    assert (loaded.name, loaded.size) == (path.stem, size)
    assert source in loaded.citation


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": ["red"]}, r"channels is \['red'\]; give \[red, green, blue\] or \[grey\]"),
        ({"size": [0, 5]}, r"size is \[0, 5\]; give height and width in pixels"),
        ({"images": "cifar10"}, "cifar10 has 32 x 32 images of three channels"),
        ({"parts": {"train": "../x"}}, r"parts has '\.\./x'; give folders below the raw folder"),
        ({"parts": {"train": "x", "test": "x"}}, "parts has x and x, which share images"),
        ({"parts": {"train": "x", "test": "x/y"}}, "parts has x and x/y, which share images"),
        ({"parts": {"a/b": "x"}}, "parts has the name 'a/b'; give a plain name such as train"),
        ({"sice": [4, 5]}, "unknown key 'sice'.* did you mean size"),
    ],
)
def test_a_wrong_card_of_images_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(ImageCard, {**MINIMAL, **values}, "card")


def test_changes_replace_values_of_a_card_of_images() -> None:
    assert load_image_card("cifar10_folders", ["max_bad=3"]).max_bad == 3
