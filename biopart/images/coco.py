"""COCO's own JSON: images with boxes, outlines and keypoints (Lin et al. 2014)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.images.outlines import run_lengths

KEYPOINTS = 17  # of a person


@dataclass(frozen=True)
class Scene:
    """An image with the objects in it.

    Attributes
    ----------
    number : int
        COCO's id of the image.
    path : Path
        Its file.
    height, width : int
        In pixels.
    boxes : float32 (objects, 4)
        Left, top, right, bottom in pixels, inside the image.
    classes : int64 (objects,)
        Numbers of ``Coco.classes``.
    outlines : tuple
        COCO's segmentation of each object: polygons, or run lengths.
    crowd : bool (objects,)
        Regions of many objects, which are no single one.
    keypoints : float32 (objects, 17, 3)
        x, y and visibility (0 = not labelled); all 0 where there are none.
    annotations : int64 (objects,)
        COCO's ids of the objects.
    """

    number: int
    path: Path
    height: int
    width: int
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    outlines: tuple[Any, ...]
    crowd: NDArray[np.bool_]
    keypoints: NDArray[np.float32]
    annotations: NDArray[np.int64]


@dataclass(frozen=True)
class Coco:
    """A collection of scenes.

    Attributes
    ----------
    scenes : tuple of Scene
        In the order of the file.
    classes : dict
        Name of each class by COCO's id, in the order of the file; a class's number is its place.
    left_out : dict
        What is not in ``scenes`` and why, with counts.
    """

    scenes: tuple[Scene, ...]
    classes: dict[int, str]
    left_out: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the collection as COCO writes it, for its own evaluation."""
        ids = list(self.classes)
        objects = [
            {
                "id": int(scene.annotations[k]),
                "image_id": scene.number,
                "category_id": ids[scene.classes[k]],
                "bbox": [left, top, right - left, bottom - top],
                "area": area(scene.outlines[k], (right - left) * (bottom - top)),
                "segmentation": scene.outlines[k],
                "iscrowd": int(scene.crowd[k]),
            }
            for scene in self.scenes
            for k, (left, top, right, bottom) in enumerate(scene.boxes.astype(float).tolist())
        ]
        images = [
            {"id": s.number, "height": s.height, "width": s.width, "file_name": s.path.name}
            for s in self.scenes
        ]
        categories = [{"id": number, "name": name} for number, name in self.classes.items()]
        return {"info": {}, "images": images, "annotations": objects, "categories": categories}

    def to_detections(self) -> list[dict[str, Any]]:
        """Return the objects as if they had been detected; scored against themselves they give 1.

        Regions of crowds are left out, as they are none.
        """
        truth = self.to_json()
        sizes = {scene.number: (scene.height, scene.width) for scene in self.scenes}
        return [
            {
                "image_id": one["image_id"],
                "category_id": one["category_id"],
                "bbox": one["bbox"],
                "score": 1.0,
                "segmentation": run_lengths(one["segmentation"], *sizes[one["image_id"]]),
            }
            for one in truth["annotations"]
            if not one["iscrowd"]
        ]


def read_coco(annotations: Path, folder: Path, keypoints: Path | None = None) -> Coco:
    """Read a collection.

    Parameters
    ----------
    annotations : Path
        ``instances_train2017.json`` or another file of its form.
    folder : Path
        Where its images lie.
    keypoints : Path, optional
        ``person_keypoints_train2017.json``; its keypoints are added to the objects of their ids.

    Raises
    ------
    FileNotFoundError
        If a file is missing, or none of the images is in the folder.
    ValueError
        If a file is no JSON, or not COCO's.
    """
    given = _load(annotations)
    points = {} if keypoints is None else {a["id"]: a for a in _load(keypoints)["annotations"]}
    classes = {int(c["id"]): str(c["name"]) for c in given["categories"]}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for one in given["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one)
    left_out: Counter[str] = Counter()
    scenes = []
    for image in given["images"]:
        objects = by_image.pop(image["id"], [])
        path = folder / Path(image["file_name"]).name
        if not path.is_file():
            left_out["images whose file is missing"] += 1
            left_out["objects of images whose file is missing"] += len(objects)
            continue
        kept = list(_sound(objects, image, classes, left_out))
        scenes.append(_scene(image, path, kept, list(classes), points=points))
    left_out["objects of images that are not listed"] += sum(map(len, by_image.values()))
    if not scenes:
        raise FileNotFoundError(f"{folder} holds none of the images of {annotations}")
    return Coco(tuple(scenes), classes, {why: n for why, n in left_out.items() if n})


def _load(path: Path) -> dict[str, Any]:
    """Read a file of COCO's; ValueError says what it lacks."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; COCO's annotations are unpacked there")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    wanted = {
        "images": {"id", "file_name", "height", "width"},
        "annotations": {"id", "image_id", "category_id", "bbox"},
        "categories": {"id", "name"},
    }
    for key, parts in wanted.items():
        rows = given.get(key) if isinstance(given, dict) else None
        if not isinstance(rows, list) or not all(
            isinstance(r, dict) and parts <= set(r) for r in rows
        ):
            raise ValueError(f"{path} is not COCO's: its {key} have no {', '.join(sorted(parts))}")
    found: dict[str, Any] = given
    return found


def _sound(
    objects: Sequence[Mapping[str, Any]],
    image: Mapping[str, Any],
    classes: Mapping[int, str],
    left_out: Counter[str],
) -> Iterator[tuple[Mapping[str, Any], list[float]]]:
    """Yield objects with their box inside the image; count those that have none."""
    for one in objects:
        box = one["bbox"]
        numbers = isinstance(box, list) and len(box) == 4 and bool(np.isfinite(box).all())
        if not numbers or one["category_id"] not in classes:
            left_out["objects without four numbers for a box, or of no class"] += 1
            continue
        left, top, width, height = map(float, box)
        right, bottom = min(left + width, image["width"]), min(top + height, image["height"])
        left, top = max(left, 0.0), max(top, 0.0)
        if right <= left or bottom <= top:
            left_out["degenerate boxes"] += 1
            continue
        yield one, [left, top, right, bottom]


def _scene(
    image: Mapping[str, Any],
    path: Path,
    objects: Sequence[tuple[Mapping[str, Any], list[float]]],
    ids: Sequence[int],
    *,
    points: Mapping[int, Mapping[str, Any]],
) -> Scene:
    keypoints = np.zeros((len(objects), KEYPOINTS, 3), np.float32)
    for row, (one, _) in enumerate(objects):
        given = points.get(one["id"], one).get("keypoints")
        if given is not None and len(given) == 3 * KEYPOINTS:
            keypoints[row] = np.reshape(given, (KEYPOINTS, 3))
    return Scene(
        int(image["id"]),
        path,
        int(image["height"]),
        int(image["width"]),
        np.array([box for _, box in objects], np.float32).reshape(-1, 4),
        np.array([ids.index(one["category_id"]) for one, _ in objects], np.int64),
        tuple(one.get("segmentation", []) for one, _ in objects),
        np.array([bool(one.get("iscrowd", 0)) for one, _ in objects], bool),
        keypoints,
        np.array([one["id"] for one, _ in objects], np.int64),
    )


def area(outline: Any, box: float) -> float:
    """Return the area of polygons in square pixels (shoelace), of anything else that of its box.

    Examples
    --------
    >>> area([[0, 0, 4, 0, 4, 2, 0, 2]], 99.0)
    8.0
    """
    if not isinstance(outline, list) or not outline:
        return box
    total = 0.0
    for polygon in outline:
        x, y = np.reshape(polygon, (-1, 2)).T
        total += abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    return total
