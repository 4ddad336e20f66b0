"""COCO's own JSON: images with boxes, outlines and keypoints (Lin et al. 2014)."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.files import read_text
from biopart.images.annotations import Found, Objects, key_of, objects_of, sides_of
from biopart.images.outlines import run_lengths

POINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
KEYPOINTS = len(POINTS)  # of a person
_NAMED = 5  # ids that are listed for each reason


@dataclass(frozen=True)
class Scene:
    """An image with the objects in it.

    Attributes
    ----------
    number : int
        COCO's id of the image, or its position if the id is not a number.
    path : Path
        Its file.
    name : str
        The file name in COCO, with its folders.
    height, width : int
        In pixels.
    boxes : float32 (objects, 4)
        Left, top, right, bottom in pixels, inside the image.
    classes : int64 (objects,)
        Numbers of ``Coco.classes``.
    outlines : tuple
        COCO's segmentation of each object: polygons, or run lengths; None = no outline.
    crowd : bool (objects,)
        Regions of many objects, not a single one.
    keypoints : float32 (objects, 17, 3)
        x, y and visibility (0 = not labelled); all 0 if there are none.
    areas : float64 (objects,)
        COCO's own area of each object in square pixels.
    """

    number: int
    path: Path
    name: str
    height: int
    width: int
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    outlines: tuple[Any, ...]
    crowd: NDArray[np.bool_]
    keypoints: NDArray[np.float32]
    areas: NDArray[np.float64]


@dataclass(frozen=True)
class Coco:
    """A collection of scenes.

    Attributes
    ----------
    scenes : tuple of Scene
        In the order of the file.
    classes : dict
        Name of each class by COCO's id, in the order of the file; its position is its number.
    left_out : dict
        What is not in ``scenes`` and why, with counts.
    remarks : dict
        What is in ``scenes`` but incomplete, with counts.
    named : dict
        The first ids of each reason in both.
    points : tuple of str
        Names of the keypoints, by the file of keypoints.
    """

    scenes: tuple[Scene, ...]
    classes: dict[int, str]
    left_out: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    points: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the collection in COCO's format, for its own evaluation; the ids are ours."""
        ids = list(self.classes)
        objects: list[dict[str, Any]] = []
        for scene in self.scenes:
            for k, (left, top, right, bottom) in enumerate(scene.boxes.astype(float).tolist()):
                one = {
                    "id": len(objects) + 1,  # COCO's evaluation interprets 0 as "none"
                    "image_id": scene.number,
                    "category_id": ids[scene.classes[k]],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(scene.areas[k]),
                    "iscrowd": int(scene.crowd[k]),
                }
                if scene.outlines[k] is not None:
                    one["segmentation"] = scene.outlines[k]
                objects.append(one)
        images = [
            {"id": s.number, "height": s.height, "width": s.width, "file_name": s.name}
            for s in self.scenes
        ]
        categories = [{"id": number, "name": name} for number, name in self.classes.items()]
        return {"info": {}, "images": images, "annotations": objects, "categories": categories}

    def to_detections(self) -> list[dict[str, Any]]:
        """Return the objects as detections; scored against themselves they give 1.

        Regions of crowds are omitted, as they are not objects.
        """
        truth = self.to_json()
        sizes = {scene.number: (scene.height, scene.width) for scene in self.scenes}
        return [
            {
                "image_id": one["image_id"],
                "category_id": one["category_id"],
                "bbox": one["bbox"],
                "score": 1.0,
                "segmentation": run_lengths(
                    one.get("segmentation") or corners(one["bbox"]), *sizes[one["image_id"]]
                ),
            }
            for one in truth["annotations"]
            if not one["iscrowd"]
        ]


def corners(box: Sequence[float]) -> list[list[float]]:
    """Return a box [left, top, width, height] as a polygon."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


def read_coco(annotations: Path, folder: Path, keypoints: Path | None = None) -> Coco:
    """Read a collection.

    Parameters
    ----------
    annotations : Path
        ``instances_train2017.json`` or another file in this format.
    folder : Path
        Folder of its images.
    keypoints : Path, optional
        ``person_keypoints_train2017.json``; its keypoints are added to the objects with their ids.

    Raises
    ------
    FileNotFoundError
        If a file is missing, or none of the images is in the folder.
    ValueError
        If a file is not JSON, or not COCO's, or two images or classes share an id.
    """
    given = _load(annotations)
    with_points = None if keypoints is None else _load(keypoints)
    points = {} if with_points is None else _points(with_points["annotations"])
    classes, by_class = _classes(annotations, given["categories"])
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for one in given["annotations"]:
        by_image.setdefault(key_of(one["image_id"]), []).append(one)
    found = Found()
    images = _by_key(annotations, given["images"])
    files = _files(folder, images.values())
    scenes = []
    for place, (key, image) in enumerate(images.items(), start=1):
        objects = by_image.pop(key, [])
        path = files[key]
        sides = None if path is None else sides_of(image, path)
        if path is None or sides is None:
            why = "file is missing" if path is None else "file is not an image"
            found.leave_out(f"images whose {why}", [key])
            found.leave_out(f"objects of images whose {why}", [o.get("id") for o in objects])
            continue
        number = key if isinstance(key, int) else place
        kept = objects_of(objects, sides, by_class, points=points, found=found)
        scenes.append(_scene(number, path, str(image["file_name"]), sides, objects=kept))
    lost = [one.get("id") for some in by_image.values() for one in some]
    found.leave_out("objects of images that are not listed", lost)
    if not scenes:
        raise FileNotFoundError(
            f"{folder} has none of the images of {annotations}; give the folder of its images"
        )
    if len({scene.number for scene in scenes}) < len(scenes):
        raise ValueError(
            f"{annotations} mixes image ids that are numbers with ids that are texts; use one kind"
        )
    return Coco(
        tuple(scenes),
        classes,
        found.left_out,
        found.remarks,
        found.named(_NAMED),
        () if with_points is None else _point_names(with_points["categories"]),
    )


def _load(path: Path) -> dict[str, Any]:
    """Read a COCO file; ValueError states what is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; unpack COCO's annotations there")
    try:
        given = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    wanted = {
        "images": {"id", "file_name"},
        "annotations": {"image_id", "category_id", "bbox"},
        "categories": {"id", "name"},
    }
    for key, parts in wanted.items():
        rows = given.get(key) if isinstance(given, dict) else None
        if not isinstance(rows, list) or not all(
            isinstance(r, dict) and parts <= set(r) for r in rows
        ):
            raise ValueError(
                f"{path} is not a COCO file: its {key} have no {', '.join(sorted(parts))}"
            )
    found: dict[str, Any] = given
    return found


def _by_key(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
    """Return the images by their ids; ValueError if an id occurs twice."""
    counts = Counter(key_of(row["id"]) for row in rows)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{path} has several images with the id {twice[0]!r}; give each its own")
    return {key_of(row["id"]): row for row in rows}


def _classes(
    path: Path, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, str], dict[Any, int]]:
    """Return the name of each class by its id, and its position by the id as in the file."""
    keys = [key_of(row["id"]) for row in rows]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{path} has several classes with the same id; give each its own")
    numbers = keys if all(isinstance(key, int) for key in keys) else range(1, len(keys) + 1)
    classes = {int(n): str(row["name"]) for n, row in zip(numbers, rows, strict=True)}
    return classes, {key: place for place, key in enumerate(keys)}


def _point_names(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of the keypoints, COCO's own where the categories do not name all."""
    given = next((row["keypoints"] for row in rows if "keypoints" in row), None)
    if isinstance(given, list) and len(given) == KEYPOINTS:
        return tuple(map(str, given))
    return POINTS


def _points(rows: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
    """Return objects with keypoints by their ids."""
    return {key_of(row.get("id")): row for row in rows}


def _files(folder: Path, images: Any) -> dict[Any, Path | None]:
    """Return the file of each image below the folder, by its full or else its last name.

    None = it does not exist, or the image has no name.
    """
    names = {key_of(image["id"]): image["file_name"] for image in images}
    last = Counter(Path(str(name)).name for name in names.values())
    files: dict[Any, Path | None] = {}
    for key, name in names.items():
        relative = Path(str(name))
        inside = not relative.is_absolute() and ".." not in relative.parts
        tried = [folder / relative] if inside else []
        tried += [folder / relative.name] if last[relative.name] == 1 else []
        files[key] = next((p for p in tried if isinstance(name, str) and p.is_file()), None)
    return files


def _scene(
    number: int, path: Path, name: str, sides: tuple[int, int], *, objects: Objects
) -> Scene:
    rows = objects.rows
    keypoints = np.zeros((len(rows), KEYPOINTS, 3), np.float32)
    for row, one in enumerate(rows):
        if one.keypoints is not None:
            keypoints[row] = one.keypoints
    return Scene(
        number,
        path,
        name,
        *sides,
        boxes=np.array([one.box for one in rows], np.float32).reshape(-1, 4),
        classes=np.array([one.place for one in rows], np.int64),
        outlines=tuple(one.outline for one in rows),
        crowd=np.array([one.crowd for one in rows], bool),
        keypoints=keypoints,
        areas=np.array([one.area for one in rows], np.float64),
    )
