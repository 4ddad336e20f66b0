"""Files: texts in any usual encoding, written whole or not at all, and locks."""

import codecs
import math
import os
import re
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


def write_text(path: Path, text: str) -> None:
    """Write a file beside and rename it, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written ({error.strerror}): make room for it") from None


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
