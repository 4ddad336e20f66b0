"""Are the arrays of a store those that were written? Hashed once, while no file changes."""

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from biopart.files import cache_folder, write_json
from biopart.store.records import Store


def check_arrays(store: Store, records: Collection[str] | None = None) -> None:
    """Refuse records whose arrays do not have the hash that they were written with.

    What was found right is remembered in ``$XDG_CACHE_HOME/biopart/verified`` (``~/.cache`` by
    default) with size and time of every file, so that a store is hashed once. Stores at an address
    are not hashed here.

    Raises
    ------
    ValueError
        Naming the records.
    """
    if not isinstance(store.path, Path):
        return
    file = _memory(store.path)
    known = _remembered(file)
    now = {name: _stamp(store.path / name) for name in records or store.records}
    fresh = [name for name, stamp in now.items() if known.get(name) != stamp]
    wrong = [name for name in fresh if _differs(store, name)]
    if wrong:
        raise ValueError(
            f"the arrays of {', '.join(wrong[:5])}{' and others' if len(wrong) > 5 else ''} in "
            f"{store.path} differ from those that were written (sha256); remove their folders and "
            "prepare them again"
        )
    if fresh:
        with suppress(OSError):  # a home that cannot be written to costs a hash each time
            write_json(file, known | now)


def _differs(store: Store, record: str) -> bool:
    written = store.about(record).get("sha256")
    return written is not None and written != store.digest(record)


def _memory(path: Path) -> Path:
    """Return the file that remembers a store."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    return cache_folder() / "verified" / f"{name}.json"


def _remembered(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _stamp(folder: Path) -> str:
    """Return a hash of the names, sizes and times of change of the files of a record."""
    lines = [
        f"{file.relative_to(folder)} {found.st_size} {found.st_mtime_ns}"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (found := file.stat())
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
