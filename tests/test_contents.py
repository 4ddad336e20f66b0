"""Packs of images in a store: what is written, what is read, what is refused."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray

from biopart.store import Images, Store, create_store, finish_store, write_record
from biopart.store.contents import packed, unpacked
from biopart.store.kinds import IMAGES

ABOUT: dict[str, Any] = {
    "card": {"name": "squares"},
    "label_names": ["a", "b"],
    "channels": ["red", "green", "blue"],
    "axes": ["channel", "y", "x"],
    "shape": [4, 5],
}


def make_pack(count: int = 3, first: int = 0) -> Images:
    """Make images whose pixel (c, y, x) is 60 c + 10 y + x + the image's number."""
    axes = np.ix_(range(first, first + count), range(3), range(4), range(5))
    image = (axes[0] + 60 * axes[1] + 10 * axes[2] + axes[3]).astype(np.uint8)
    label = (np.arange(first, first + count) % 3 - 1).astype(np.int16)
    names = tuple(f"zwölf/{number}.png" for number in range(first, first + count))
    return Images(image, label, names, {"part": "train"})


def make_store(folder: Path) -> Path:
    create_store(folder / "s.zarr", ABOUT)
    return folder / "s.zarr"


def test_names_of_any_length_and_script_come_back() -> None:
    names = ("", "a", "Größe/猫.jpeg")
    assert unpacked(packed(names)) == names


@pytest.mark.parametrize("layout", ["training", "archive"])
def test_a_pack_comes_back_and_is_one_raw_chunk_in_the_training_layout(
    tmp_path: Path, layout: Literal["training", "archive"]
) -> None:
    path, pack = make_store(tmp_path), make_pack()
    write_record(path, "train-0", pack, layout=layout)
    store = Store(path)
    images = store.images("train-0")
    assert isinstance(images, np.memmap) == (layout == "training")
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, pack.image)
    assert store.label("train-0").tolist() == [-1, 0, 1]
    assert store.names("train-0") == pack.names
    assert (store.kind is IMAGES, store.shape, store.persons) == (True, (4, 5), {})
    assert store.digest("train-0") == store.about("train-0")["sha256"]


def test_xarray_opens_a_pack_and_a_store_names_its_images(tmp_path: Path) -> None:
    path, pack = make_store(tmp_path), make_pack()
    write_record(path, "train-0", pack)
    finish_store(path)
    assert xarray.open_zarr(path, group="train-0").image.dims == ("image", "channel", "y", "x")
    data = Store(path)["train-0"]
    assert data.name.values.tolist() == list(pack.names)
    assert data.channel.values.tolist() == ["red", "green", "blue"]
    assert int(data.image.sel(channel="green")[2, 3, 4]) == 2 + 60 + 30 + 4


def test_another_size_of_images_is_another_store(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    write_record(path, "train-0", make_pack())
    with pytest.raises(ValueError, match="prepared with another shape; give another --out"):
        create_store(path, ABOUT | {"shape": [8, 8]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((3, 2, 4, 5), np.uint8)}, r"uint8 \(3, 2, 4, 5\); the store takes"),
        ({"image": np.zeros((3, 3, 4, 5), np.int16)}, "images int16"),
        ({"image": np.zeros((0, 3, 4, 5), np.uint8)}, "at least one"),
        ({"label": np.zeros(2, np.int16)}, "3 images, 2 labels and 3 different names"),
        ({"names": ("a", "a", "b")}, "3 images, 3 labels and 2 different names"),
    ],
)
def test_a_pack_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    pack = Images(**({k: getattr(make_pack(), k) for k in ("image", "label", "names")} | change))
    with pytest.raises(ValueError, match=message):
        write_record(make_store(tmp_path), "train-0", pack)
