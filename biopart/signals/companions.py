"""Files in the folder of a recording that belong to it."""

import glob
from collections.abc import Sequence
from pathlib import Path


def only_one(found: Sequence[Path], path: Path, what: str) -> Path | None:
    """Return the only file of a list, None if it is empty; ValueError lists several."""
    if len(found) > 1:
        raise ValueError(
            f"{path.name} has several {what}: {', '.join(f.name for f in found)}; keep one"
        )
    return found[0] if found else None


class Stem(str):
    """The stem of a file, escaped for use in a glob after formatting."""

    def __format__(self, spec: str) -> str:
        return glob.escape(format(str(self), spec))
