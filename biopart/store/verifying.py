"""Verify that the arrays of a store are those that were written; each is hashed once."""

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from biopart.files import cache_folder, write_json
from biopart.store.records import Store


def check_arrays(store: Store, records: Collection[str] | None = None) -> None:
    """Refuse records whose arrays do not match the hash stored when they were written.

    Verified stores are remembered in ``$XDG_CACHE_HOME/biopart/verified`` (``~/.cache`` by default)
    with size and time of every file, so that a store is hashed once. Stores at an address are not
    hashed here.

    Raises
    ------
    ValueError
        Names the records.
    """
    if store.remote:
        return
    file = _memory(store.path)
    remembered = _remembered(file)
    now = {name: _stamp(store.path / name) for name in records or store.records}
    fresh = [name for name, stamp in now.items() if remembered.get(name) != stamp]
    wrong = [name for name in fresh if _differs(store, name)]
    if wrong:
        raise ValueError(
            f"the arrays of {', '.join(wrong[:5])}{' and others' if len(wrong) > 5 else ''} in "
            f"{store.path} do not match the hash (sha256) stored when they were written; remove "
            "their folders and prepare them again"
        )
    if fresh:
        with suppress(OSError):  # a home that cannot be written to costs a hash each time
            write_json(file, remembered | now)


def _differs(store: Store, record: str) -> bool:
    written = store.about(record).get("sha256")
    return written is not None and written != store.digest(record)


def _memory(path: Path) -> Path:
    """Return the file that remembers a store."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    return cache_folder() / "verified" / f"{name}.json"


def _remembered(file: Path) -> dict[str, str]:
    try:
        remembered = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _stamp(folder: Path) -> str:
    """Return a hash of names, sizes and modification times of the files of a record."""
    lines = [
        f"{file.relative_to(folder)} {found.st_size} {found.st_mtime_ns}"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (found := file.stat())
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
