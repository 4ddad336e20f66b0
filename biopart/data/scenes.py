"""Scenes with objects, as square canvases for detection.

torchvision, which takes a second to import, is imported where it is used.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from biopart.data.batch import SceneBatch
from biopart.images.coco import Coco, Scene, corners
from biopart.images.decoding import read_image
from biopart.images.outlines import raster

FILL = (124, 116, 104)  # ImageNet's mean colour, which becomes 0 when normalised
SMALLEST = 1.0  # minimum side in pixels of an object's box on the canvas


@dataclass(frozen=True)
class Jitter:
    """Position of a scene on its canvas: scaled, then shifted, then mirrored.

    Attributes
    ----------
    sides : tuple of int
        Width and height of the scaled scene.
    shift : tuple of int
        Pixels of the scaled scene left of and above the canvas.
    mirrored : bool
        Left to right.
    """

    sides: tuple[int, int]
    shift: tuple[int, int] = (0, 0)
    mirrored: bool = False

    def place(self, part: Tensor, canvas: int) -> Tensor:
        """Put an image, boxes or masks (tv_tensors) of a scene onto a square canvas."""
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional as F

        (width, height), (left, top) = self.sides, self.shift
        seen = min(height - top, canvas), min(width - left, canvas)
        fill = list(FILL) if isinstance(part, tv_tensors.Image) else 0
        part = F.resize(part, [height, width])
        part = F.crop(part, top, left, *seen)
        part = F.pad(part, [0, 0, canvas - seen[1], canvas - seen[0]], fill=fill)
        return F.horizontal_flip(part) if self.mirrored else part


class SceneSource:
    """Scenes by item number, on square canvases (Windows).

    Parameters
    ----------
    coco : Coco
        The scenes.
    canvas : int
        Side S in pixels.
    jitter : tuple of float
        Large-scale jitter (arXiv 2012.07177): the longer side becomes ``canvas`` times a factor
        from this range; larger scenes are cropped at random, smaller ones padded. (1, 1) = no
        jitter.
    flip : float
        Probability of a mirror image.
    threads : int
        Threads that decode the images of a batch.
    """

    def __init__(
        self,
        coco: Coco,
        canvas: int,
        *,
        jitter: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.0,
        threads: int = 4,
    ) -> None:
        self.coco, self.canvas = coco, canvas
        self.jitter, self.flip, self.threads = jitter, flip, threads
        self._turn = (0, 0)

    def __len__(self) -> int:
        return len(self.coco.scenes)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Set the randomness of an epoch; that of an item follows from (seed, epoch, item)."""
        self._turn = (seed, epoch)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> SceneBatch:
        """Read scenes onto canvases: uint8 (B, 3, S, S) with their objects."""
        items = np.asarray(indices, dtype=np.int64).tolist()
        with ThreadPoolExecutor(self.threads) as pool:
            drawn = list(pool.map(self._draw, items))
        names = [self.coco.scenes[item].name for item in items]
        label = torch.full((len(items),), -1)
        values = torch.stack([pixels for pixels, _ in drawn])
        return SceneBatch(values, label, names, names, targets=[one for _, one in drawn])

    def lie(self, item: int) -> Jitter:
        """Return the position of a scene on its canvas in this epoch."""
        scene = self.coco.scenes[item]
        rng = np.random.default_rng([*self._turn, item])
        factor = rng.uniform(*self.jitter) * self.canvas / max(scene.height, scene.width)
        sides = [max(1, round(side * factor)) for side in (scene.width, scene.height)]
        room = [max(side - self.canvas, 0) for side in sides]
        left, top = (int(rng.integers(0, most + 1)) for most in room)
        return Jitter((sides[0], sides[1]), (left, top), bool(rng.random() < self.flip))

    def _draw(self, item: int) -> tuple[Tensor, dict[str, Tensor]]:
        from torchvision import tv_tensors

        scene, jitter, side = self.coco.scenes[item], self.lie(item), self.canvas
        kept = np.flatnonzero(~scene.crowd)
        size = (scene.height, scene.width)
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(scene.boxes[kept]), format="XYXY", canvas_size=size
        )
        boxes = jitter.place(boxes, side).as_subclass(Tensor)
        seen = (boxes[:, 2:] - boxes[:, :2] > SMALLEST).all(1)
        kept = kept[seen.numpy()]
        outlines = [mask_of(scene, number) for number in kept.tolist()]
        masks = tv_tensors.Mask(np.stack(outlines) if outlines else np.zeros((0, *size), np.uint8))
        target = {
            "boxes": boxes[seen],
            "labels": torch.from_numpy(scene.classes[kept] + 1),
            "masks": jitter.place(masks, side).as_subclass(Tensor),
        }
        image = tv_tensors.Image(colours(scene))
        return jitter.place(image, side).as_subclass(Tensor), target


def colours(scene: Scene) -> Image.Image:
    """Decode a scene; OSError or ValueError where its file is not what the annotations say."""
    try:
        image = read_image(scene.path, "RGB")
    except ValueError as error:
        raise OSError(f"{scene.path} {error}; repair it, or remove it from the JSON") from None
    if image.size != (scene.width, scene.height):
        raise ValueError(
            f"{scene.path} is {image.height} x {image.width}, but its annotations say "
            f"{scene.height} x {scene.width}; correct one of them"
        )
    return image


def mask_of(scene: Scene, number: int) -> NDArray[np.uint8]:
    """Draw an object of a scene (y, x); an object without an outline is drawn as its box."""
    outline = scene.outlines[number]
    if outline is None:
        left, top, right, bottom = scene.boxes[number].astype(float).tolist()
        outline = corners([left, top, right - left, bottom - top])
    return raster(outline, scene.height, scene.width)
