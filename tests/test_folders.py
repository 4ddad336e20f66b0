"""Images in folders of classes: order, colours, sizes, and what is wrong with a file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biopart.images.decoding import decode
from biopart.images.folders import find_folders
from biopart.store.image_card import ImageCard, load_image_card


def card(**values: Any) -> ImageCard:
    about = {"name": "n", "title": "t", "licence": "l", "citation": "c", "images": "folders"}
    return ImageCard.model_validate({**about, "size": (4, 5), **values})


def save(path: Path, colour: Any = (10, 20, 30), mode: str = "RGB", size: Any = (5, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """train: two cats and a dog, test: a cat and a dog; hidden files and texts among them."""
    for number, name in enumerate(["train/cat/b.png", "train/cat/deep/a.PNG", "train/dog/c.png"]):
        save(tmp_path / name, (number, 0, 0))
    save(tmp_path / "test/cat/d.png", (3, 0, 0))
    save(tmp_path / "test/dog/e.png", (4, 0, 0))
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/cat/._b.png").write_bytes(b"resource fork")
    (tmp_path / "train/.cache").mkdir()
    save(tmp_path / "train/cat/.checkpoints/b.png")
    return tmp_path


def test_images_stand_by_class_with_their_path_as_name(raw: Path) -> None:
    found = find_folders(card(), raw)
    assert found.classes == ("cat", "dog")
    train = found.parts["train"]
    assert train.names == ("train/cat/b.png", "train/cat/deep/a.PNG", "train/dog/c.png")
    assert train.labels.tolist() == [0, 0, 1]
    read = train.read(1, 3, jobs=1)
    assert (read.pixels.shape, read.kept.tolist(), read.bad) == ((2, 3, 4, 5), [1, 2], {})
    assert read.pixels[:, 0, 0, 0].tolist() == [1, 2]


def test_a_bad_image_is_named_and_the_others_are_read(raw: Path) -> None:
    whole = (raw / "train/cat/b.png").read_bytes()
    (raw / "train/cat/b.png").write_bytes(whole[: len(whole) // 2])
    read = find_folders(card(), raw).parts["train"].read(0, 3, jobs=2)
    assert list(read.bad) == ["train/cat/b.png"]
    assert read.kept.tolist() == [1, 2]


def test_a_pixel_stands_where_it_is_in_the_image(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    decoded = decode(tmp_path / "a.png", card())
    assert isinstance(decoded, np.ndarray)
    assert decoded[2, 3, 4] == values[3, 4, 2]


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), "tif", (255, 0, 0)),  # no cyan, all magenta and yellow: red
        ("L", 7, "png", (7, 7, 7)),
        ("RGBA", (1, 2, 3, 0), "png", (1, 2, 3)),
        ("P", 0, "gif", (0, 0, 0)),
    ],
)
def test_other_colours_become_red_green_and_blue(
    tmp_path: Path, mode: str, colour: Any, suffix: str, expected: tuple[int, ...]
) -> None:
    decoded = decode(save(tmp_path / f"a.{suffix}", colour, mode), card())
    assert isinstance(decoded, np.ndarray)
    assert tuple(decoded[:, 0, 0].tolist()) == expected


def test_grey_is_the_luma_of_a_colour(tmp_path: Path) -> None:
    decoded = decode(save(tmp_path / "a.png", (255, 0, 0)), card(channels=["grey"]))
    assert isinstance(decoded, np.ndarray)
    assert decoded.shape == (1, 4, 5)
    assert decoded[0, 0, 0] == round(255 * 0.299)  # ITU-R 601-2


@pytest.mark.filterwarnings("error")
def test_corrupt_exif_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), (9, 9, 9)).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff")
    assert isinstance(decode(tmp_path / "a.jpg", card()), np.ndarray)


@pytest.mark.parametrize(
    ("mode", "colour", "message"),
    [("I;16", 700, "more than 8 bits per channel"), ("RGB", (1, 1, 1), "is 8 x 9, not 4 x 5")],
)
def test_what_cannot_be_taken_says_why(
    tmp_path: Path, mode: str, colour: Any, message: str
) -> None:
    assert message in str(decode(save(tmp_path / "a.png", colour, mode, (9, 8)), card()))
    (tmp_path / "b.png").write_text("no image")
    assert "cannot identify image file" in str(decode(tmp_path / "b.png", card()))


def test_another_size_is_cropped_or_squashed_where_the_card_says_so(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 8), (0, 0, 0))
    image.paste((200, 200, 200), (10, 0, 20, 8))  # the middle 10 x 8 of 30 x 8
    image.save(tmp_path / "a.png")
    cropped, squashed = (decode(tmp_path / "a.png", card(fit=fit)) for fit in ("crop", "squash"))
    assert isinstance(cropped, np.ndarray)
    assert isinstance(squashed, np.ndarray)
    assert (cropped == 200).all()  # 4 x 5 of 8 x 10
    assert squashed[0, 2, 0] == 0
    assert int(squashed[0, 2, 2]) == pytest.approx(200, abs=20)  # bicubic overshoots


def test_parts_of_different_classes_are_refused_with_what_is_missing(raw: Path) -> None:
    save(raw / "train/owl/f.png")
    with pytest.raises(ValueError, match="part test has no image of owl, which train has a folder"):
        find_folders(card(), raw)


def test_a_class_without_an_image_is_refused(raw: Path) -> None:
    (raw / "test/dog/e.png").unlink()
    with pytest.raises(ValueError, match="part test has no image of dog"):
        find_folders(card(), raw)


def test_a_part_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train has no class folder; n needs one"):
        find_folders(card(), tmp_path)


FLAT = {"parts": {"train": "train", "test": "flat"}, "labels": {"test": "classes.csv"}}


def flat(raw: Path, text: str) -> Path:
    for number, name in enumerate(("v1.JPEG", "v2.JPEG")):
        save(raw / "flat" / name, (number, 0, 0))
    (raw / "classes.csv").write_text(text)
    return raw


@pytest.mark.parametrize(
    "text",
    [
        "ImageId,PredictionString\nv2,dog 85 1 499 272\nv1,cat 1 2 3 4 cat 5 6 7 8\n",  # Kaggle's
        "v1.JPEG cat\n\nv2.JPEG dog\n",
    ],
)
def test_a_text_says_the_classes_of_images_in_one_folder(raw: Path, text: str) -> None:
    found = find_folders(card(**FLAT), flat(raw, text))
    test = found.parts["test"]
    assert (test.names, test.labels.tolist()) == (("flat/v1.JPEG", "flat/v2.JPEG"), [0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v1 cat\nv3 dog\n", r"has 'v3 dog' in line 2; give a file of .*flat and its class"),
        ("v1\nv2 dog\n", "has 'v1' in line 1"),
        ("v1 cat\n", r"gives no class for 1 images of .*flat"),
        ("v1 cat\nv2 cat\n", "part test has no image of dog"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(raw: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_folders(card(**FLAT), flat(raw, text))


def test_the_text_of_classes_must_be_there_and_below_the_raw_folder(raw: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"classes\.csv does not exist; it must give"):
        find_folders(card(**FLAT), raw)
    with pytest.raises(ValueError, match="give a file below the raw folder"):
        card(**{**FLAT, "labels": {"test": "../classes.csv"}})
    with pytest.raises(ValueError, match="labels is only for images in folders"):
        card(labels={"other": "a.csv"})


def test_imagenets_layout_with_a_cmyk_file_and_damaged_exif(tmp_path: Path) -> None:
    for part, name in (("train", "n1_1"), ("train", "n1_2"), ("val", "ILSVRC2012_val_1")):
        for wnid in ("n01440764", "n02012849"):
            save(tmp_path / part / wnid / f"{name}.JPEG", (9, 9, 9), size=(40, 30))
    Image.new("CMYK", (30, 40), (0, 255, 255, 0)).save(tmp_path / "val/n01440764/c.JPEG")
    exif = b"\xff\xd8\xff\xe1\x00\x0aExif\x00\x00MM"
    plain = (tmp_path / "train/n01440764/n1_1.JPEG").read_bytes()
    (tmp_path / "train/n01440764/n1_1.JPEG").write_bytes(exif + plain[2:])
    shipped = load_image_card("imagenet", ["size=[8, 8]"])
    found = find_folders(shipped, tmp_path)
    assert found.classes == ("n01440764", "n02012849")
    read = found.parts["val"].read(0, 3, jobs=1)
    assert read.pixels.shape == (3, 3, 8, 8)
    assert read.pixels[1, :, 0, 0].tolist()[0] > 200  # cyan-free CMYK is red
    assert found.parts["train"].read(0, 4, jobs=1).bad == {}


def test_links_are_followed_and_what_is_no_image_is_counted(raw: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/1.png", (9, 0, 0))
    (raw / "train/cat/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(raw / "train/cat")  # a circle
    save(raw / "train/dog/x.jpg").rename(raw / "train/dog/x.jfif")
    (raw / "train/dog/a.json").write_text("{}")
    found = find_folders(card(), raw)
    assert found.parts["train"].names == (
        *("train/cat/b.png", "train/cat/deep/a.PNG", "train/cat/more/1.png"),
        *("train/dog/c.png", "train/dog/x.jfif"),
    )
    assert found.left_out == {"train": ["skipped files that are not images: .json (1), .txt (1)"]}


def test_a_name_that_is_not_utf_8_and_a_link_to_nothing_are_bad_images(raw: Path) -> None:
    (raw / "train/cat/b.png").rename(raw / os.fsdecode(b"train/cat/\xe9.png"))
    (raw / "train/cat/l.png").symlink_to("/gone.png")
    read = find_folders(card(), raw).parts["train"].read(0, 4, jobs=1)
    assert dict(read.bad) == {
        "train/cat/l.png": "cannot be read, or is a broken link",
        "train/cat/\\udce9.png": "has a name that is not UTF-8: rename it",
    }


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_names_and_classes_with_blanks_are_read(tmp_path: Path, encoding: str) -> None:
    save(tmp_path / "train/fire truck/0.png")
    save(tmp_path / "train/café/0.png")
    for name in ("my dog.png", "b.png"):
        save(tmp_path / "test" / name)
    text = "my dog.png fire truck\nb café\n"
    (tmp_path / "val.txt").write_bytes(text.encode(encoding))
    found = find_folders(card(labels={"test": "val.txt"}), tmp_path)
    assert found.classes == ("café", "fire truck")
    assert found.parts["test"].names == ("test/b.png", "test/my dog.png")


def test_files_of_one_stem_are_told_apart(tmp_path: Path) -> None:
    for name in ("train/cat/0.png", "train/dog/0.png", "test/a.png", "test/a.bmp", "test/b.png"):
        save(tmp_path / name)
    text = tmp_path / "val.txt"
    listed = card(labels={"test": "val.txt"})
    text.write_text("a.bmp cat\nb.png dog\n")
    with pytest.raises(ValueError, match=r"gives no class for 1 images of .*test \(a\.png\)"):
        find_folders(listed, tmp_path)
    text.write_text("a cat\nb.png dog\n")
    with pytest.raises(ValueError, match=r"'a cat' in line 1; .*; a may be a\.bmp or a\.png"):
        find_folders(listed, tmp_path)
    text.write_text("a.png cat\na.bmp dog\nb.png dog\n")
    found = find_folders(listed, tmp_path).parts["test"]
    assert (found.names, found.labels.tolist()) == (
        ("test/a.png", "test/a.bmp", "test/b.png"),
        [0, 1, 1],
    )


def test_a_card_takes_some_classes_and_names_a_missing_one(raw: Path) -> None:
    save(raw / "train/emu/x.png")  # not a class of the test, but not asked for
    found = find_folders(card(classes=["dog", "cat"]), raw)
    assert found.classes == ("cat", "dog")
    assert find_folders(card(classes=["dog"]), raw).parts["train"].names == ("train/dog/c.png",)
    with pytest.raises(FileNotFoundError, match="no folder fox, which are among the classes of n"):
        find_folders(card(classes=["dog", "fox"]), raw)
    with pytest.raises(ValueError, match="classes is only for images in folders of classes"):
        card(classes=["dog"], labels={"test": "labels.txt"})


def test_imagenet100_has_a_hundred_of_imagenets_names() -> None:
    classes = load_image_card("imagenet100").classes or []
    assert len(set(classes)) == len(classes) == 100
    assert all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in classes)
