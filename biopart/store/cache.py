"""Arrays of stores at an address, kept on this machine and memory-mapped, up to a size."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.files import cache_folder, whole

FOLDER, GIGABYTES = "BIOPART_CACHE", "BIOPART_CACHE_GB"
"""Environment variables: the folder, ``$XDG_CACHE_HOME/biopart/stores`` by default; its limit."""
DEFAULT_GB = 50.0


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
        self._bytes = sum(size for size, _, _ in self._files())
        self._lock = Lock()

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
        values = np.ascontiguousarray(fetch(), dtype)
        with whole(file) as beside:
            values.tofile(beside)
        mapped = np.memmap(file, dtype, "r", shape=shape)  # valid even if it is removed now
        with self._lock:
            self._bytes += size
            if self._bytes > self.limit:
                self._trim(file)
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
        """Remove what was not used for longest, until a tenth of the limit is free."""
        files = self._files()
        self._bytes = sum(size for size, _, _ in files)
        for size, _, path in sorted(files, key=lambda file: file[1]):
            if self._bytes <= 0.9 * self.limit:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                self._bytes -= size


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
