"""Arrays of stores at an address, kept on this machine and memory-mapped, up to a size."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from biopart.files import cache_folder

FOLDER, GIGABYTES = "BIOPART_CACHE", "BIOPART_CACHE_GB"
"""Environment variables: the folder, ``$XDG_CACHE_HOME/biopart/stores`` by default; its limit."""
DEFAULT_GB = 50.0


class NoRoom(ValueError):  # noqa: N818  # as the disk, not the record, is at fault
    """The folder of the cache cannot be written."""


class Cache:
    """A folder of raw arrays, of which the longest unused are removed beyond a limit.

    Parameters
    ----------
    root : Path
        The folder; several processes may use it.
    limit : int
        Bytes.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self._added, self._lock = math.inf, Lock()  # the first that is added counts what is there

    def __reduce__(self) -> tuple[Any, ...]:
        return _cache, (self.root, self.limit)  # locks do not go to other processes

    def array(
        self,
        key: str,
        name: str,
        *,
        dtype: str,
        shape: tuple[int, ...],
        fetch: Callable[[], NDArray[Any]],
    ) -> NDArray[Any]:
        """Return an array, read-only and mapped, fetched where it is not there.

        Parameters
        ----------
        key, name : str
            What it is: the hash of a record's arrays, and the name of one of them.
        dtype, shape
            Of it.
        fetch : callable
            Reads it from its address.
        """
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        file = self.root / key[:2] / key / f"{name}.raw"
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with suppress(FileNotFoundError):  # never fetched, or removed by another process
            if file.stat().st_size == size:
                mapped = np.memmap(file, dtype, "r", shape=shape)
                os.utime(file)
                return mapped
        kept = self._kept(np.ascontiguousarray(fetch(), dtype), file)
        with self._lock:
            self._added += size
            if self._added > self.limit / 100:  # other processes add too
                self._trim(file)
        return kept

    def _kept(self, values: NDArray[Any], file: Path) -> NDArray[Any]:
        """Write an array beside a file, map it and rename it; it stays valid if it is removed."""
        beside = file.with_name(f".{file.name}.{uuid4().hex}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            values.tofile(beside)
            mapped = np.memmap(beside, values.dtype, "r", shape=values.shape)
            beside.replace(file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise NoRoom(
                f"the cache {self.root} cannot be written ({error.strerror or error}); free some "
                "disk space, or give another folder with --cache"
            ) from error
        mapped.filename = str(file)
        return mapped

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return size, time of last use and path of every array."""
        found = []
        for path in self.root.glob("*/*/*.raw"):
            with suppress(FileNotFoundError):
                about = path.stat()
                found.append((about.st_size, about.st_mtime_ns, path))
        return found

    def _trim(self, newest: Path) -> None:
        """Beyond the limit, remove what was not used for longest until a tenth of it is free."""
        self._added = 0
        files = self._files()
        held = sum(size for size, _, _ in files)
        if held <= self.limit:
            return
        for size, _, path in sorted(files, key=lambda file: file[1]):
            if held <= 0.9 * self.limit:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                held -= size


def opened_cache() -> Cache:
    """Return the cache of this process, in the folder and of the size that its environment says.

    Raises ValueError where the size is not a positive number.
    """
    folder = os.environ.get(FOLDER)
    text = os.environ.get(GIGABYTES, str(DEFAULT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < math.inf:
        raise ValueError(f"{GIGABYTES} is {text!r}; give a number of gigabytes above 0")
    root = Path(folder).expanduser() if folder else cache_folder() / "stores"
    return _cache(root, round(gigabytes * 1e9))


@lru_cache(maxsize=4)
def _cache(root: Path, limit: int) -> Cache:
    return Cache(root, limit)
