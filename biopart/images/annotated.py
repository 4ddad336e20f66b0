"""Images with annotated objects, parts and masks, from the layout that a card names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biopart.files import read_text
from biopart.images.coco import Scene, read_coco
from biopart.images.cub import read_cub
from biopart.images.decoding import read_codes, read_image, suffixes
from biopart.images.pascal import part_codes, part_names
from biopart.store.parts_card import PartFiles, PartsCard


@dataclass(frozen=True)
class Annotated:
    """Images with annotations.

    Attributes
    ----------
    scenes : tuple of Scene
        With boxes, outlines and keypoints of objects, where the data set has them.
    classes : tuple of str
        Names of the objects' classes.
    points : tuple of str
        Names of the keypoints.
    masks : dict
        Of data sets with masks: file of the mask by image name.
    mask_classes : tuple of str
        Names of the classes of masks.
    values : tuple
        First value of a class in masks, and values that are unknown.
    left_out : dict
        What is not in here and why, with counts.
    """

    scenes: tuple[Scene, ...]
    classes: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    masks: dict[str, Path] | None = None
    mask_classes: tuple[str, ...] = ()
    values: tuple[int, tuple[int, ...]] = (0, ())
    left_out: dict[str, int] | None = None

    def mask(self, number: int, size: tuple[int, int]) -> NDArray[np.int64]:
        """Return the class of every pixel of an image, resized (y, x); -1 = unknown.

        Raises ValueError where a mask has a value that is neither a class nor unknown.
        """
        assert self.masks is not None
        path = self.masks[self.scenes[number].name]
        if path.suffix == ".mat":
            return resized(part_codes(path, self.mask_classes), size)
        values = read_codes(path).astype(np.int64)
        first, unknown = self.values
        codes = np.where(np.isin(values, unknown), -1, values - first)
        strange = (codes >= len(self.mask_classes)) | ((codes < 0) & ~np.isin(values, unknown))
        if strange.any():
            raise ValueError(
                f"{path} has the value {int(values[strange][0])}, which is neither one of the "
                f"{len(self.mask_classes)} classes nor unknown; state it in the card's unknown"
            )
        return resized(codes, size)


def read_annotated(card: PartsCard, raw: Path) -> tuple[Annotated, Annotated]:
    """Read the training and the test images of a card.

    Raises
    ------
    FileNotFoundError
        If a file or folder is missing, or no image has a mask.
    ValueError
        If a file is damaged, or a keypoint of the card does not exist.
    """
    if card.parts == "davis":
        raise ValueError(f"{card.name} has videos; they are read by read_davis")
    if card.parts == "cub":
        train, test = (Annotated(*part) for part in read_cub(raw))
    else:
        assert card.train is not None
        assert card.test is not None
        read = _coco if card.parts == "coco" else _masks
        train, test = read(card, raw, card.train), read(card, raw, card.test)
    if card.parts == "pascal":
        names = part_names([*(train.masks or {}).values(), *(test.masks or {}).values()])
        train, test = (replace(one, mask_classes=names) for one in (train, test))
    for what in ("classes", "points", "mask_classes"):
        one, two = getattr(train, what), getattr(test, what)
        if one != two:
            raise ValueError(
                f"the training and the test images of {card.name} have other "
                f"{what.replace('_', ' ')}, or in another order; give files of one data set"
            )
    strange = [name for name in card.points if name not in train.points]
    if strange:
        raise ValueError(
            f"card {card.name} compares {strange[0]!r}, but the keypoints are "
            f"{', '.join(train.points) or 'none'}"
        )
    return train, test


def _coco(card: PartsCard, raw: Path, files: PartFiles) -> Annotated:
    """Read COCO's JSON."""
    keypoints = None if files.keypoints is None else raw / files.keypoints
    found = read_coco(raw / str(files.objects), raw / files.images, keypoints)
    points = found.points if keypoints is not None else ()
    return Annotated(found.scenes, tuple(found.classes.values()), points, left_out=found.left_out)


def _masks(card: PartsCard, raw: Path, files: PartFiles) -> Annotated:
    """Find images and their masks, PNG files of the same name in the same place."""
    folder, masks = raw / files.images, raw / str(files.masks)
    for place in (folder, masks):
        if not place.is_dir():
            raise FileNotFoundError(f"{place} does not exist; unpack {card.title} there")
    ending = "*.mat" if card.parts == "pascal" else "*.png"
    drawn = {keyed(path, masks): path for path in sorted(masks.rglob(ending))}
    wanted = _wanted(raw, files)
    scenes: list[Scene] = []
    found: dict[str, Path] = {}
    without = 0
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes()):
        if wanted is not None and keyed(path, folder) not in wanted:
            continue
        if keyed(path, folder) not in drawn:
            without += 1
            continue
        name = path.relative_to(folder).as_posix()
        with Image.open(path) as opened:
            scenes.append(_bare(len(scenes) + 1, path, name, (opened.height, opened.width)))
        found[name] = drawn[keyed(path, folder)]
    if not scenes:
        raise FileNotFoundError(f"no image of {folder} has a mask in {masks}")
    return Annotated(
        tuple(scenes),
        masks=found,
        mask_classes=() if card.parts == "pascal" else _class_names(card, raw),
        values=(card.first, tuple(card.unknown)),
        left_out={"images without a mask": without} if without else {},
    )


def _wanted(raw: Path, files: PartFiles) -> set[str] | None:
    """Return the names of the images that a list has; None = all."""
    if files.listed is None:
        return None
    path = raw / files.listed
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it must list the images")
    return {line.split()[0] for line in read_text(path).split("\n") if line.strip()}


def resized(codes: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return classes of pixels in another size (y, x), each of the nearest pixel.

    Examples
    --------
    >>> resized(np.array([[1, 2], [3, 4]]), (1, 4)).tolist()
    [[3, 3, 4, 4]]
    """
    height, width = codes.shape
    rows = (np.arange(size[0]) * height + height // 2) // size[0]
    columns = (np.arange(size[1]) * width + width // 2) // size[1]
    found: NDArray[np.int64] = codes[rows][:, columns]
    return found


def keyed(path: Path, folder: Path) -> str:
    """Return the place of a file below a folder, without its suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def _class_names(card: PartsCard, raw: Path) -> tuple[str, ...]:
    """Return the names of the classes of masks, from the card or its table."""
    if card.classes_file is None:
        return tuple(card.classes)
    path = raw / card.classes_file
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it must name the classes of masks")
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    if len(lines) < 2:
        raise ValueError(f"{path} names fewer than two classes; unpack it again")
    if not any(character.isdigit() for character in lines[0]):
        lines = lines[1:]  # the heads of its columns
    return tuple(line.split("\t")[-1].split(",")[0].strip() for line in lines)


def _bare(number: int, path: Path, name: str, sides: tuple[int, int]) -> Scene:
    """Return an image without objects."""
    return Scene(
        number,
        path,
        name,
        *sides,
        boxes=np.zeros((0, 4), np.float32),
        classes=np.zeros(0, np.int64),
        outlines=(),
        crowd=np.zeros(0, bool),
        keypoints=np.zeros((0, 0, 3), np.float32),
        areas=np.zeros(0),
    )


def crop(image: Image.Image, box: Sequence[int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut a box [left, top, right, bottom] and resize it to (y, x), uint8 (channel, y, x).

    Outside the image it is black, as PIL pads; nothing outside the box is mixed in.
    """
    left, top, right, bottom = box
    part = image.crop((left, top, right, bottom)).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(part, np.uint8).transpose(2, 0, 1)


def keypoint_box(
    points: NDArray[np.floating], which: int, shown: NDArray[np.bool_]
) -> tuple[int, int, int, int] | None:
    """Return the square around a keypoint whose side is the distance to the nearest other one.

    The parts of the part-aware evaluation (Zhu et al., TMLR 2024). None where no other keypoint
    of the object is shown, or the nearest one is less than a pixel away.

    Parameters
    ----------
    points : float (P, 2)
        x and y of the keypoints of an object.
    which : int
        The one in the centre.
    shown : bool (P,)
        Which keypoints are labelled.

    Examples
    --------
    >>> three = np.array([[10.0, 10.0], [13.0, 14.0], [90.0, 90.0]])
    >>> keypoint_box(three, 0, np.array([True, True, True]))
    (8, 8, 13, 13)
    """
    others = shown.copy()
    others[which] = False
    if not others.any():
        return None
    distance = np.hypot(*(points[others] - points[which]).T).min()
    side = round(float(distance))
    if side < 1:
        return None
    left, top = (round(float(centre - side / 2)) for centre in points[which])
    return left, top, left + side, top + side


def opened(scene: Scene) -> Image.Image:
    """Decode a scene as RGB; OSError names the file and the reason."""
    try:
        return read_image(scene.path, "RGB")
    except ValueError as error:
        raise OSError(f"{scene.path} {error}; repair or remove it") from None
