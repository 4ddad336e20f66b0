"""Objects, parts and masks of annotated images, cut and resized for a frozen encoder."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from biopart.data.items import Items, drawn, hash_of
from biopart.data.scenes import mask_of
from biopart.evaluation.dense import UNKNOWN
from biopart.images.annotated import Annotated, crop, keypoint_box, opened, resized
from biopart.images.coco import Scene

BACKGROUND = "background"
ALONE = "keypoints without a second one at least one pixel away"
MARGIN = 1.25  # side of a person's square to that of the box


class Crops(Items):
    """Boxes of images, each resized to one size; black outside the image.

    Parameters
    ----------
    found : Annotated
        The images.
    table : int64 (items, 6)
        Image, left, top, right, bottom, class.
    names : sequence of str
        Names of the classes.
    size : (int, int)
        Height and width.
    """

    def __init__(
        self,
        found: Annotated,
        table: NDArray[np.int64],
        names: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        self.found, self.table, self.size = found, table, size
        self.names, self.labels = tuple(names), table[:, 5].copy()
        self.units = [found.scenes[number].name for number in table[:, 0].tolist()]
        files = " ".join(
            f"{s.name}:{s.path.stat().st_size}:{s.path.stat().st_mtime_ns}" for s in found.scenes
        )
        content = np.frombuffer(files.encode(), np.uint8).astype(np.int64)
        self.key = f"{hash_of(np.ascontiguousarray(table))} {hash_of(content)} {size}"
        self._image = lru_cache(maxsize=2)(lambda number: opened(found.scenes[number]))

    def image(self, number: int) -> Image.Image:
        """Decode an image by its number; the last ones are kept."""
        return self._image(number)

    def values(self, items: NDArray[np.int64]) -> Tensor:
        """Return the crops, uint8 (B, 3, y, x)."""
        rows = self.table[items].tolist()
        return torch.from_numpy(
            np.stack([crop(self.image(row[0]), row[1:5], self.size) for row in rows])
        )


class PersonCrops(Crops):
    """Squares around objects with keypoints, with the places of these in the square.

    Parameters
    ----------
    objects : int64 (items, 2)
        Image and number of the object in it.
    """

    def __init__(
        self,
        found: Annotated,
        table: NDArray[np.int64],
        objects: NDArray[np.int64],
        size: tuple[int, int],
    ) -> None:
        super().__init__(found, table, ("object",), size)
        self.objects = objects

    def places(self, items: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return keypoints in pixels of the crop (B, P, 2) as y and x, and which are shown."""
        rows = []
        for image, number in self.objects[items].tolist():
            rows.append(self.found.scenes[image].keypoints[number])
        points = np.stack(rows)
        scale, corner = self._scale(items)
        places = (points[..., :2] - corner[:, None]) * scale[:, None]
        shown = torch.from_numpy(points[..., 2] > 0)
        return torch.from_numpy(places[..., ::-1].astype(np.float32).copy()), shown

    def in_image(
        self, items: NDArray[np.int64], places: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return places (B, P, 2), y and x in pixels of the crop, as x and y of the image."""
        scale, corner = self._scale(items)
        inside: NDArray[np.float64] = places[..., ::-1] / scale[:, None] + corner[:, None]
        return inside

    def _scale(self, items: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pixels of the crop per pixel of the image, and its corner, as x and y (B, 2)."""
        box = self.table[items, 1:5].astype(np.float64)
        sides = box[:, 2:] - box[:, :2]
        return np.array(self.size[::-1]) / sides, box[:, :2]


class MaskedImages(Crops):
    """Whole images, resized, with the class of every pixel."""

    def targets(self, items: NDArray[np.int64]) -> Tensor:
        """Return classes of the resized images, int64 (B, y, x); -1 = unknown."""
        numbers = self.table[items, 0].tolist()
        targets = [target_of(self.found, number, self.size) for number in numbers]
        return torch.from_numpy(np.stack(targets))

    def whole(self, item: int) -> NDArray[np.int64]:
        """Return the class of every pixel of an image in its own size, (y, x)."""
        number = int(self.table[item, 0])
        scene = self.found.scenes[number]
        return target_of(self.found, number, (scene.height, scene.width))


def object_crops(found: Annotated, size: tuple[int, int], *, most: int | None = None) -> Crops:
    """Return the objects of images, cut at their boxes; crowds are none."""
    rows = [
        (image, *box.round().astype(int).tolist(), int(scene.classes[number]))
        for image, scene in enumerate(found.scenes)
        for number, box in enumerate(scene.boxes)
        if not scene.crowd[number] and (box[2:].round() > box[:2].round()).all()
    ]
    return Crops(found, _few(_table(rows), most), found.classes, size)


def part_crops(
    found: Annotated, points: Sequence[str], size: tuple[int, int], *, most: int | None = None
) -> tuple[Crops, dict[str, int]]:
    """Return squares around keypoints, and how many were left out by reason.

    Parameters
    ----------
    found : Annotated
        Images with keypoints.
    points : sequence of str
        Keypoints that are items; the others only decide the sides of the squares.
    size : (int, int)
        Height and width of a crop.
    most : int, optional
        Items at most.
    """
    which = [found.points.index(name) for name in points]
    left_out = {"keypoints outside their image": 0, ALONE: 0}
    rows = []
    for image, scene in enumerate(found.scenes):
        for keypoints in scene.keypoints:
            inside = _inside(keypoints, scene)
            labelled = keypoints[:, 2] > 0
            left_out["keypoints outside their image"] += int((labelled & ~inside)[which].sum())
            for code, number in enumerate(which):
                if not inside[number]:
                    continue
                box = keypoint_box(keypoints[:, :2].astype(np.float64), number, inside)
                if box is None:
                    left_out[ALONE] += 1
                else:
                    rows.append((image, *box, code))
    counted = {why: count for why, count in left_out.items() if count}
    return Crops(found, _few(_table(rows), most), points, size), counted


def person_crops(
    found: Annotated, size: tuple[int, int], *, most: int | None = None
) -> PersonCrops:
    """Return squares around all objects that have a keypoint inside their image."""
    rows, objects = [], []
    for image, number, box in _with_keypoints(found):
        centre, half = (box[:2] + box[2:]) / 2, MARGIN * max(box[2:] - box[:2]) / 2
        left, top = np.floor(centre - half).astype(int).tolist()
        side = max(1, int(np.ceil(2 * half)))
        rows.append((image, left, top, left + side, top + side, 0))
        objects.append((image, number))
    table = _table(rows)
    kept = drawn(table[:, 5], most, 0)
    return PersonCrops(found, table[kept], np.array(objects, np.int64).reshape(-1, 2)[kept], size)


def masked_images(
    found: Annotated, size: tuple[int, int], *, most: int | None = None
) -> MaskedImages:
    """Return whole images with the class of every pixel, from masks or from outlines."""
    names = class_names(found)
    rows = [(k, 0, 0, scene.width, scene.height, 0) for k, scene in enumerate(found.scenes)]
    return MaskedImages(found, _few(_table(rows), most), names, size)


def class_names(found: Annotated) -> tuple[str, ...]:
    """Return the names of the classes of pixels: of masks, or of objects and the background."""
    return found.mask_classes if found.masks is not None else (BACKGROUND, *found.classes)


def target_of(found: Annotated, number: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the class of every pixel of an image, resized to (y, x); -1 = unknown."""
    if found.masks is not None:
        return found.mask(number, size)
    return painted(found.scenes[number], size)


def _table(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return image, left, top, right, bottom and class of crops, (items, 6)."""
    return np.array(rows, np.int64).reshape(-1, 6)


def _few(table: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    """Return at most so many rows, of each class its share."""
    return table[drawn(table[:, 5], most, 0)]


def _inside(keypoints: NDArray[np.floating], scene: Scene) -> NDArray[np.bool_]:
    """Tell which keypoints are labelled and lie inside their image."""
    x, y, visible = keypoints.T
    inside: NDArray[np.bool_] = (
        (visible > 0) & (x >= 0) & (y >= 0) & (x < scene.width) & (y < scene.height)
    )
    return inside


def _with_keypoints(found: Annotated) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Yield image, number and box of the objects with a keypoint inside their image."""
    for image, scene in enumerate(found.scenes):
        for number, keypoints in enumerate(scene.keypoints):
            if _inside(keypoints, scene).any() and not scene.crowd[number]:
                yield image, number, scene.boxes[number].astype(np.float64)


def painted(scene: Scene, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the class of every pixel of a resized image: 0 = background, 1 + class of an object.

    Smaller objects are drawn over larger ones; crowds without an object on them are unknown (-1).
    """
    pixels = np.zeros((scene.height, scene.width), np.int64)
    order = sorted(range(len(scene.classes)), key=lambda k: (not scene.crowd[k], -scene.areas[k]))
    for number in order:
        code = UNKNOWN if scene.crowd[number] else 1 + int(scene.classes[number])
        pixels[mask_of(scene, number).astype(bool)] = code
    return resized(pixels, size)
