"""Objects of COCO's JSON one by one, with tolerance for numbers as text, bad outlines, nulls."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KEYPOINTS = 17


@dataclass
class Found:
    """What is skipped in a collection, or incomplete, with the affected ids."""

    left_out: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, why: str, ids: Sequence[Any]) -> None:
        """Count what is skipped."""
        self._count(self.left_out, why, ids)

    def remark(self, why: str, ids: Sequence[Any]) -> None:
        """Count what is used but incomplete."""
        self._count(self.remarks, why, ids)

    def _count(self, counts: dict[str, int], why: str, ids: Sequence[Any]) -> None:
        if ids:
            counts[why] = counts.get(why, 0) + len(ids)
            self.ids.setdefault(why, []).extend(map(str, ids))

    def named(self, most: int) -> dict[str, list[str]]:
        """Return the first ids of each reason."""
        return {why: ids[:most] for why, ids in self.ids.items()}


@dataclass(frozen=True)
class Object:
    """One object: its box, the index of its class, its outline or None, its area."""

    box: list[float]
    place: int
    outline: Any
    crowd: bool
    area: float
    keypoints: NDArray[np.float32] | None


@dataclass(frozen=True)
class Objects:
    """The objects of one image."""

    rows: list[Object]


def key_of(given: Any) -> Any:
    """Return an id as an integer if it is one, also if it is written as text.

    Examples
    --------
    >>> key_of("12"), key_of(12.0), key_of("a7")
    (12, 12, 'a7')
    """
    if isinstance(given, bool) or given is None:
        return str(given)
    if isinstance(given, int | float):
        return int(given) if float(given).is_integer() else given
    text = str(given).strip()
    return int(text) if text.lstrip("-").isdecimal() else text


def number_of(given: Any) -> float | None:
    """Return a finite number, also if it is written as text; None if it is not a number."""
    try:
        value = float(given)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) and not isinstance(given, bool) else None


def sides_of(image: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    """Return height and width of an image, from its file if the JSON does not have them.

    None = the file is not an image.
    """
    sides = [number_of(image.get(key)) for key in ("height", "width")]
    if all(side is not None and side >= 1 for side in sides):
        return int(sides[0] or 0), int(sides[1] or 0)
    try:
        with Image.open(path) as opened:
            return opened.height, opened.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def objects_of(
    rows: Iterable[Mapping[str, Any]],
    sides: tuple[int, int],
    places: Mapping[Any, int],
    *,
    points: Mapping[Any, Mapping[str, Any]],
    found: Found,
) -> Objects:
    """Return the objects of an image that have a box inside it; count the others."""
    height, width = sides
    kept = []
    for one in rows:
        box = _box(one["bbox"])
        place = places.get(key_of(one["category_id"]))
        if box is None or place is None:
            why = "objects without four numbers for a box, or of no class"
            found.leave_out(why, [one.get("id")])
            continue
        left, top, right, bottom = box
        left, top = max(left, 0.0), max(top, 0.0)
        right, bottom = min(right, width), min(bottom, height)
        if right <= left or bottom <= top:
            found.leave_out("degenerate boxes", [one.get("id")])
            continue
        outline = outline_of(one.get("segmentation"), sides)
        if outline is None:
            found.remark("objects without an outline, or with a damaged one", [one.get("id")])
        own = number_of(one.get("area"))
        kept.append(
            Object(
                [left, top, right, bottom],
                place,
                outline,
                bool(number_of(one.get("iscrowd")) or 0),
                own if own else area(outline, (right - left) * (bottom - top)),
                _keypoints(points.get(key_of(one.get("id")), one).get("keypoints")),
            )
        )
    return Objects(kept)


def _box(given: Any) -> list[float] | None:
    """Return left, top, right, bottom of COCO's left, top, width, height; None if not a box."""
    values = [number_of(v) for v in given] if isinstance(given, list | tuple) else []
    if len(values) != 4 or None in values:
        return None
    left, top, width, height = (value or 0.0 for value in values)
    return [left, top, left + width, top + height]


def _keypoints(given: Any) -> NDArray[np.float32] | None:
    """Return keypoints (17, 3); None if the number of values differs."""
    values = [number_of(v) for v in given] if isinstance(given, list) else []
    if len(values) != 3 * KEYPOINTS or None in values:
        return None
    return np.array(values, np.float32).reshape(KEYPOINTS, 3)


def outline_of(given: Any, sides: tuple[int, int]) -> Any:
    """Return polygons of at least three points each, or run lengths of the image's size, or None.

    Examples
    --------
    >>> outline_of([[0, 0, "4", 0, 4, 2], [1, 1, 2, 2]], (5, 5))
    [[0.0, 0.0, 4.0, 0.0, 4.0, 2.0]]
    >>> outline_of({"size": [2, 5], "counts": [10]}, (5, 5)) is None
    True
    """
    if isinstance(given, dict):
        size = given.get("size")
        if not isinstance(size, list) or [number_of(v) for v in size] != list(sides):
            return None
        counts = given.get("counts")
        if isinstance(counts, list):
            runs = [number_of(v) for v in counts]
            whole = None not in runs and sum(v or 0 for v in runs) == sides[0] * sides[1]
            return {"size": list(sides), "counts": [int(v or 0) for v in runs]} if whole else None
        if not isinstance(counts, str | bytes) or _covered(counts) != sides[0] * sides[1]:
            return None
        return {"size": list(sides), "counts": counts}
    polygons = [_polygon(one) for one in given] if isinstance(given, list) else []
    return [one for one in polygons if one is not None] or None


def _covered(counts: str | bytes) -> int:
    """Return how many pixels compressed run lengths cover; -1 if they are invalid.

    Source: the string of pycocotools' rleToString: six bits per character, five for a number and
    the sixth if it continues; from the third on, numbers are differences to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode("latin-1", "replace") if isinstance(counts, str) else counts:
        bits = code - 48
        if not 0 <= bits < 64:
            return -1
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    covered = list(accumulate(runs)) or [0]
    return covered[-1] if min(runs, default=0) >= 0 and not shift else -1


def _polygon(given: Any) -> list[float] | None:
    values = [number_of(v) for v in given] if isinstance(given, list) else []
    if len(values) < 6 or len(values) % 2 or None in values:
        return None
    return [value or 0.0 for value in values]


def area(outline: Any, box: float) -> float:
    """Return the area of polygons in square pixels (shoelace), else the area of the box.

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


def reasons(left_out: Mapping[str, int], named: Mapping[str, Sequence[str]]) -> str:
    """Describe what was skipped, with the first ids of each reason."""
    return "; ".join(
        f"{count} {why} (ids {', '.join(named.get(why, ()))})" for why, count in left_out.items()
    )


def total(left_out: Mapping[str, int]) -> int:
    """Return how many images and objects were skipped."""
    return sum(Counter(left_out).values())
