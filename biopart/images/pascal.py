"""Pascal-Part: objects and their parts as masks in MATLAB files (Chen et al., CVPR 2014)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKGROUND = "background"


def part_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the classes of pixels of all files: background, objects, and their parts, sorted."""
    found = {name for path in paths for name, _ in regions(path)}
    return (BACKGROUND, *sorted(found))


def part_codes(path: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the class of every pixel of a file, (y, x): of the part, else of the object.

    Raises ValueError where the file has a class that is not among ``names``.
    """
    code_of = {name: code for code, name in enumerate(names)}
    codes: NDArray[np.int64] | None = None
    for name, mask in regions(path):
        codes = np.zeros(mask.shape, np.int64) if codes is None else codes
        if name not in code_of:
            raise ValueError(f"{path} has the part {name!r}, which no training image has")
        codes[mask] = code_of[name]
    if codes is None:
        raise ValueError(f"{path} has no object")
    return codes


def regions(path: Path) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield names and masks: "horse", then "horse head" and so on, of each object in turn."""
    for one in _listed(_annotation(path).objects):
        name = str(getattr(one, "class"))
        yield name, np.asarray(one.mask) > 0
        for part in _listed(one.parts):
            yield f"{name} {part.part_name}", np.asarray(part.mask) > 0


def _annotation(path: Path) -> Any:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path, squeeze_me=True, struct_as_record=False)["anno"]
        _ = found.objects
    except (MatReadError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a file of Pascal-Part: {error}") from None
    return found


def _listed(given: Any) -> list[Any]:
    """Return the elements of a struct array, of which MATLAB keeps a single one bare."""
    return list(given) if isinstance(given, np.ndarray) else [given]
