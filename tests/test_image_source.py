"""Images of a store by item number, mapped and on a device."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_contents import ABOUT, make_pack

from biopart.data import ImageSource, open_cohort
from biopart.data.images import ResidentImages
from biopart.store import create_store, write_record


@pytest.fixture(scope="module")
def image_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packs of 3 and 4 images of 4 x 5 pixels; labels -1, 0, 1, -1, 0, 1, -1."""
    path = tmp_path_factory.mktemp("images") / "s.zarr"
    create_store(path, ABOUT)
    write_record(path, "one", make_pack(3))
    write_record(path, "two", make_pack(4, first=3))
    return path


def test_batches_hold_the_stored_pixels_and_names_in_any_order(image_store: Path) -> None:
    source = open_cohort(image_store).source()
    assert isinstance(source, ImageSource)
    assert (len(source), source.shape, source.bad.any()) == (7, (4, 5), False)
    batch = source.__getitems__([6, 0, 3])
    assert batch.values.dtype == torch.uint8
    assert batch.values[:, 2, 3, 4].tolist() == [6 + 154, 154, 3 + 154]
    assert batch.label.tolist() == [-1, -1, -1]
    assert batch.person == batch.key == ["zwölf/6.png", "zwölf/0.png", "zwölf/3.png"]
    assert source.persons[5] == "zwölf/5.png"
    assert source.nbytes == 7 * 3 * 4 * 5


def test_labelled_images_and_those_of_given_names_are_found(image_store: Path) -> None:
    cohort = open_cohort(image_store)
    labelled = cohort.source(labelled=True)
    assert labelled.labels.tolist() == [0, 1, 0, 1]
    assert cohort.labelled == tuple(sorted(labelled.persons))
    two = cohort.source(persons=["zwölf/4.png", "zwölf/1.png"])
    assert two.persons == ["zwölf/1.png", "zwölf/4.png"]
    assert two.head(1).persons == ["zwölf/1.png"]
    with pytest.raises(ValueError, match="has no records of nobody"):
        cohort.source(persons=["zwölf/1.png", "nobody"])
    with pytest.raises(ValueError, match="no usable labelled images"):
        cohort.source(labelled=True, persons=["zwölf/0.png"])


def test_channels_come_in_the_order_asked_for(image_store: Path) -> None:
    source = open_cohort(image_store).source(["blue", "red"])
    assert source.channels == ("blue", "red")
    assert source.__getitems__([1]).values[0, :, 0, 0].tolist() == [121, 1]


@pytest.mark.parametrize("wrong", [{"window_s": 1.0}, {"context": 3}])
def test_images_have_no_windows(image_store: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="has images, for which window_s and context do not apply"):
        open_cohort(image_store).source(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("persons", [None, ["zwölf/4.png", "zwölf/1.png", "zwölf/6.png"]])
def test_images_on_a_device_are_those_of_the_store(
    image_store: Path, persons: list[str] | None
) -> None:
    source = open_cohort(image_store).source(["blue", "red"], persons=persons)
    assert isinstance(source, ImageSource)
    items = np.random.default_rng(0).permutation(len(source))
    mine, theirs = (s.__getitems__(items) for s in (ResidentImages(source, "cpu"), source))
    assert torch.equal(mine.values, theirs.values)
    assert (mine.person, mine.label.tolist()) == (theirs.person, theirs.label.tolist())
