"""Scenes with objects, as square canvases for detection."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from biopart.data.batch import Batch
from biopart.images.coco import Coco, Scene, corners
from biopart.images.decoding import read_image
from biopart.images.outlines import raster

FILL = (124, 116, 104)  # ImageNet's mean colour, which becomes 0 when normalised
SMALLEST = 1.0  # minimum side in pixels of an object's box on the canvas


@dataclass
class SceneBatch(Batch):
    """Canvases of a batch with their objects.

    Attributes
    ----------
    targets : list of dict
        For each canvas ``boxes`` (objects, 4) as left, top, right, bottom, ``labels`` (objects,)
        from 1 on and ``masks`` (objects, S, S) uint8.
    """

    targets: list[dict[str, Tensor]] = field(default_factory=list)

    def to(self, device: torch.device | str) -> "SceneBatch":
        """Return the batch with its tensors on a device."""
        moved = [{name: v.to(device) for name, v in one.items()} for one in self.targets]
        return replace(
            self, values=self.values.to(device), label=self.label.to(device), targets=moved
        )


@dataclass(frozen=True)
class Jitter:
    """Position of a scene on its canvas: scaled, then shifted, then mirrored.

    Attributes
    ----------
    scale : tuple of float
        Factors of x and y.
    shift : tuple of int
        Pixels of the scaled scene left of and above the canvas.
    mirrored : bool
        Left to right.
    """

    scale: tuple[float, float]
    shift: tuple[int, int] = (0, 0)
    mirrored: bool = False

    def points(self, xy: NDArray[Any], canvas: int) -> NDArray[np.float64]:
        """Map points (..., 2), x before y, from a scene to its canvas."""
        moved: NDArray[np.float64] = np.asarray(xy, np.float64) * self.scale - self.shift
        if self.mirrored:
            moved[..., 0] = canvas - moved[..., 0]
        return moved


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
        scale = (sides[0] / scene.width, sides[1] / scene.height)
        return Jitter(scale, (left, top), bool(rng.random() < self.flip))

    def _draw(self, item: int) -> tuple[Tensor, dict[str, Tensor]]:
        scene, jitter, side = self.coco.scenes[item], self.lie(item), self.canvas
        pixels = draw(scene, jitter, side)
        kept = np.flatnonzero(~scene.crowd)
        boxes = boxes_on_canvas(scene.boxes[kept], jitter, side)
        seen = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] > SMALLEST).all(1))
        masks = [mask_of(scene, k, jitter, side) for k in kept[seen].tolist()]
        target = {
            "boxes": torch.from_numpy(boxes[seen]).float(),
            "labels": torch.from_numpy(scene.classes[kept[seen]] + 1),
            "masks": torch.from_numpy(np.stack(masks))
            if masks
            else torch.zeros(0, side, side, dtype=torch.uint8),
        }
        return torch.from_numpy(pixels).permute(2, 0, 1), target


def draw(scene: Scene, jitter: Jitter, canvas: int) -> NDArray[np.uint8]:
    """Decode a scene and draw it onto a canvas (S, S, 3)."""
    try:
        colours = read_image(scene.path, "RGB")
    except ValueError as error:
        raise OSError(f"{scene.path} {error}; repair it, or remove it from the JSON") from None
    if colours.size != (scene.width, scene.height):
        raise ValueError(
            f"{scene.path} is {colours.height} x {colours.width}, but its annotations say "
            f"{scene.height} x {scene.width}; correct one of them"
        )
    sides = (round(scene.width * jitter.scale[0]), round(scene.height * jitter.scale[1]))
    scaled = np.asarray(colours.resize(sides, Image.Resampling.BILINEAR))
    left, top = jitter.shift
    part = scaled[top : top + canvas, left : left + canvas]
    pixels = np.empty((canvas, canvas, 3), np.uint8)
    pixels[:] = FILL
    pixels[: part.shape[0], : part.shape[1]] = part
    return np.ascontiguousarray(pixels[:, ::-1]) if jitter.mirrored else pixels


def boxes_on_canvas(boxes: NDArray[np.float32], jitter: Jitter, canvas: int) -> NDArray[np.float64]:
    """Map boxes (objects, 4) to a canvas and clip them to it."""
    corners = jitter.points(boxes.reshape(-1, 2, 2), canvas)
    low, high = corners.min(1), corners.max(1)
    return np.concatenate([low, high], 1).clip(0, canvas)


def mask_of(scene: Scene, number: int, jitter: Jitter, canvas: int) -> NDArray[np.uint8]:
    """Draw an object on a canvas (S, S); an object without an outline is drawn as its box."""
    outline = scene.outlines[number]
    if outline is None:
        left, top, right, bottom = scene.boxes[number].astype(float).tolist()
        outline = corners([left, top, right - left, bottom - top])
    return outlined(scene, outline, jitter, canvas)


def outlined(scene: Scene, outline: Any, jitter: Jitter, canvas: int) -> NDArray[np.uint8]:
    """Draw the outline of an object on a canvas, (S, S) of 0 and 1."""
    if isinstance(outline, list):
        moved = [
            jitter.points(np.reshape(polygon, (-1, 2)), canvas).reshape(-1).tolist()
            for polygon in outline
        ]
        return raster(moved, canvas, canvas)
    whole = Image.fromarray(raster(outline, scene.height, scene.width))
    sides = (round(scene.width * jitter.scale[0]), round(scene.height * jitter.scale[1]))
    scaled = np.asarray(whole.resize(sides, Image.Resampling.NEAREST))
    left, top = jitter.shift
    part = scaled[top : top + canvas, left : left + canvas]
    drawn = np.zeros((canvas, canvas), np.uint8)
    drawn[: part.shape[0], : part.shape[1]] = part
    return np.ascontiguousarray(drawn[:, ::-1]) if jitter.mirrored else drawn
