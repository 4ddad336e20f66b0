"""CUB-200-2011's text files: birds with 15 parts (Wah et al., 2011)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biopart.files import read_text
from biopart.images.coco import Scene

Part = tuple[tuple[Scene, ...], tuple[str, ...], tuple[str, ...]]


def read_cub(raw: Path) -> tuple[Part, Part]:
    """Read the training and the test images: scenes, classes, names of the parts.

    Parameters
    ----------
    raw : Path
        The folder ``CUB_200_2011`` as unpacked, with ``images.txt`` in it.

    Raises
    ------
    FileNotFoundError
        If one of its files is missing.
    ValueError
        If a line has another form, or images.txt and another file do not belong together.
    """
    names = _names(raw / "images.txt")
    classes = _names(raw / "classes.txt")
    points = _names(raw / "parts" / "parts.txt")
    label = _numbers(raw / "image_class_labels.txt", 2)
    training = _numbers(raw / "train_test_split.txt", 2)
    boxes = _numbers(raw / "bounding_boxes.txt", 5)
    locations = _numbers(raw / "parts" / "part_locs.txt", 5)
    keypoints = {image: np.zeros((len(points), 3), np.float32) for image in names}
    _among(raw / "parts" / "part_locs.txt", locations[:, 0], names, "images.txt")
    _among(raw / "parts" / "part_locs.txt", locations[:, 1], points, "parts.txt")
    _among(raw / "image_class_labels.txt", label[:, 1], classes, "classes.txt")
    _among(raw / "train_test_split.txt", training[:, 1], {0: "", 1: ""}, "0 and 1")
    row_of = {part: row for row, part in enumerate(points)}
    for image, part, x, y, visible in locations:
        keypoints[int(image)][row_of[int(part)]] = (x, y, 2 * visible)
    class_of = dict(label.astype(int).tolist())
    in_training = dict(training.astype(int).tolist())
    box_of = {int(image): row for image, *row in boxes.tolist()}
    for what, given in (
        ("image_class_labels.txt", class_of),
        ("train_test_split.txt", in_training),
        ("bounding_boxes.txt", box_of),
    ):
        if set(given) != set(names):
            raise ValueError(f"{raw / what} and images.txt are of different images; unpack again")
    places = {number: place for place, number in enumerate(classes)}
    parts: dict[int, list[Scene]] = {0: [], 1: []}
    for image, name in names.items():
        path = raw / "images" / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; unpack the images of CUB there")
        label_of = places[class_of[image]]
        scene = _scene(image, path, name, box_of[image], bird=(label_of, keypoints[image]))
        parts[in_training[image]].append(scene)
    about = tuple(classes.values()), tuple(points.values())
    return (tuple(parts[1]), *about), (tuple(parts[0]), *about)


def _scene(
    number: int,
    path: Path,
    name: str,
    box: Sequence[float],
    *,
    bird: tuple[int, NDArray[np.float32]],
) -> Scene:
    """Return an image with its bird: class and keypoints (15, 3)."""
    with Image.open(path) as opened:
        width, height = opened.size
    left, top, wide, high = box
    label, keypoints = bird
    return Scene(
        number,
        path,
        name,
        height,
        width,
        boxes=np.array([[left, top, left + wide, top + high]], np.float32),
        classes=np.array([label], np.int64),
        outlines=(None,),
        crowd=np.zeros(1, bool),
        keypoints=keypoints[None],
        areas=np.array([wide * high]),
    )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder CUB_200_2011 as unpacked")
    return [line for line in read_text(path).split("\n") if line.strip()]


def _names(path: Path) -> dict[int, str]:
    """Read lines of a number and a name."""
    found = {}
    for line in _lines(path):
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name:
            raise ValueError(f"{path} has the line {line!r}; it must have a number and a name")
        found[int(number)] = name.strip()
    return found


def _among(path: Path, given: NDArray[np.float64], known: Mapping[int, str], where: str) -> None:
    """Refuse numbers of a file that another one does not have; ValueError."""
    strange = sorted(set(given.tolist()) - set(known))
    if strange:
        raise ValueError(f"{path} has the number {strange[0]:g}, which is not among {where}")


def _numbers(path: Path, columns: int) -> NDArray[np.float64]:
    """Read lines of numbers."""
    rows = [line.split() for line in _lines(path)]
    try:
        table = np.array(rows, np.float64)
    except ValueError:
        table = np.zeros((0, 0))
    if table.shape != (len(rows), columns):
        raise ValueError(f"{path} does not have {columns} numbers in every line; unpack it again")
    return table
