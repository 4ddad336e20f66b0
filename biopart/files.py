"""Files: written whole or not at all, read in any usual encoding, locked."""

import codecs
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_MARKED = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place beside a file or folder to write to, renamed when the block ends well.

    So a reader finds it whole or not at all; what a failed block wrote is removed. A file that
    exists is replaced, a folder only where it is empty.

    Raises
    ------
    OSError
        If it cannot be written; names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "a.txt") as beside:
    ...         _ = beside.write_text("text")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(beside)
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written ({reason}): free some disk space") from error
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON readably, whole or not at all; NaN becomes null."""
    write_text(path, json.dumps(plain(values), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; FileNotFoundError where there is no file."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def plain(value: Any) -> Any:
    """Return JSON-ready values, with NaN and infinities as None.

    Examples
    --------
    >>> plain({"kappa": float("nan"), "persons": ("a", "b")})
    {'kappa': None, 'persons': ['a', 'b']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested mappings as one, by dotted keys; an empty mapping stays a value.

    Examples
    --------
    >>> flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}})
    {'a.b': 1, 'a.c.d': [2], 'e': {}}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def cache_folder() -> Path:
    """Return the folder of what is measured once per machine: ``$XDG_CACHE_HOME/biopart``.

    ``~/.cache/biopart`` by default.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biopart"


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while something is done; it is gone afterwards, and with its process.

    Raises ValueError with the sentence ``busy`` where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(busy) from None
    try:
        yield
    finally:
        with suppress(OSError):  # some systems keep files that are open
            path.unlink()
        lock.release()


def read_text(path: Path) -> str:
    """Read a text file of any usual encoding; line ends become new lines.

    UTF-8, UTF-16 and UTF-32 by their byte-order marks; without a mark UTF-8, UTF-16 where every
    other byte is zero, else Latin-1 in Windows' form (CP-1252).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not text; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        text = decode(path.read_bytes())
    except UnicodeError as error:
        raise ValueError(f"{path.name} is not a text file ({error}): save it as UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{path.name} is not a text file: it holds zero bytes")
    return re.sub(r"\r\n?", "\n", text)


def decode(raw: bytes) -> str:
    """Decode text by its byte-order mark, else as UTF-8, UTF-16 or CP-1252, the first that fits.

    Examples
    --------
    >>> decode("é".encode("utf-16")), decode("é".encode("cp1252")), decode("W".encode("utf-16-le"))
    ('é', 'é', 'W')
    """
    for mark, encoding in _MARKED:
        if raw.startswith(mark):
            return raw.decode(encoding)
    if len(raw) >= 2 and len(raw) % 2 == 0:
        for half, encoding in ((raw[1::2], "utf-16-le"), (raw[::2], "utf-16-be")):
            if not any(half):
                return raw.decode(encoding)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")
