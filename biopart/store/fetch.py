"""Fetch the files of a data set: resumable, checked, never outside their folder.

A file is downloaded as ``<name>.part``, checked against its published SHA-256 and only then
renamed; a valid local file is not fetched again. The free disk space is checked first.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from biopart.store.listing import (
    Remote,
    check_name,
    derive_records,
    pick_files,
    read_records,
    read_sha256sums,
    select_records,
)
from biopart.store.transfer import BROKEN, Source, open_source

__all__ = [
    "Remote",
    "check_space",
    "fetch_card",
    "fetch_files",
    "pick_files",
    "read_records",
    "read_sha256sums",
    "safe_path",
    "select_records",
]

ATTEMPTS = 5
_CHUNK = 1 << 20

T = TypeVar("T")


def _silent(message: str) -> None:
    """Report nothing."""


def fetch_card(
    remote: Remote,
    folder: Path,
    *,
    records: int | None = None,
    report: Callable[[str], None] = _silent,
    pause: Callable[[float], object] = time.sleep,
) -> list[Path]:
    """Fetch the first records of a data set with the lists and extra files they need.

    Parameters
    ----------
    remote
        Address of the data set and naming of its files.
    folder
        Root of the copy; paths below it are those of the data set.
    records
        Number of records, counted over the lists in order, None for all; a number larger than the
        data set fetches all and reports it.
    report
        Called with one line per step.
    pause
        Called with the seconds to wait before another attempt.

    Returns
    -------
    list of Path
        The requested local files, checked, in the order of the published list.

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As ``fetch_files``; also if a listed record has no file.
    """
    source = open_source(remote.url, remote.options)
    path = _fresh(source, remote.sums_file, folder, pause)
    sums = read_sha256sums(path.read_text(encoding="utf-8"))
    listed = [] if remote.lists else derive_records(list(sums), remote)
    for name in remote.lists:
        path = _fresh(source, name, folder, pause, checksum=sums.get(name))
        listed += read_records(path.read_text(encoding="utf-8"), name)
    if records is not None and records > len(listed):
        report(f"{records} records requested, {len(listed)} exist: fetching all")
    wanted = pick_files(list(sums), select_records(listed, records), remote)
    return fetch_files(
        remote.url,
        wanted,
        folder,
        checksums=sums,
        report=report,
        pause=pause,
        options=remote.options,
    )


def fetch_files(
    source: str,
    names: Sequence[str],
    folder: Path,
    *,
    checksums: Mapping[str, str] | None = None,
    report: Callable[[str], None] = _silent,
    pause: Callable[[float], object] = time.sleep,
    options: Mapping[str, object] | None = None,
) -> list[Path]:
    """Fetch files below an address into a folder; resume an interrupted call.

    Parameters
    ----------
    source
        Address of the remote folder.
    names
        Paths below it, with forward slashes.
    folder
        Target folder; the paths below it are the same.
    checksums
        SHA-256 in hexadecimal by name. A file without one is complete if its size is correct, and
        its ``.part`` of an earlier call is not reused.
    report, pause, options
        As in ``fetch_card`` and ``Remote``.

    Returns
    -------
    list of Path
        The local files in the order of ``names``.

    Raises
    ------
    ValueError
        If a name leaves the folder, the disk is too small, or a checksum differs.
    FileNotFoundError
        If the source has no such file.
    ConnectionError
        If the connection broke in each of five attempts at one file.
    """
    sums = checksums or {}
    remote = open_source(source, options or {})
    folder.mkdir(parents=True, exist_ok=True)
    targets = {name: safe_path(folder, name) for name in names}
    missing = [n for n in targets if not (n in sums and _agrees(targets[n], sums[n]))]
    sizes = _sizes(remote, missing, pause)
    missing = [n for n in missing if n in sums or not _has_size(targets[n], sizes[n])]
    needed = sum(_remaining(targets[n], sizes[n]) for n in missing)
    check_space(folder, needed)
    report(f"{len(missing)} of {len(targets)} files to fetch, {needed / 1e9:.2f} GB")
    for number, name in enumerate(missing, start=1):
        report(f"{number}/{len(missing)} {name}")
        _fetch(remote, name, targets[name], pause, checksum=sums.get(name))
    return list(targets.values())


def safe_path(folder: Path, name: str) -> Path:
    """Return the path of ``name`` in ``folder``.

    Raises
    ------
    ValueError
        If it would be elsewhere: through "..", an absolute path, a drive, or a symbolic link.
    """
    path = folder / check_name(name)
    for end in (path, _part(path)):
        if not end.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{name!r} leaves {folder} through a symbolic link; nothing is fetched"
            )
    return path


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start if the disk of ``folder`` has fewer than ``needed`` bytes free.

    Raises
    ------
    ValueError
        With both numbers.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{needed / 1e9:.2f} GB are needed, but only {free / 1e9:.2f} GB are free in {folder}; "
            "choose another disk or fewer records"
        )


def _fresh(
    source: Source,
    name: str,
    folder: Path,
    pause: Callable[[float], object],
    *,
    checksum: str | None = None,
) -> Path:
    """Fetch one list again, since a list of the same size may have changed."""
    folder.mkdir(parents=True, exist_ok=True)
    target = safe_path(folder, name)
    if checksum is None or not _agrees(target, checksum):
        _fetch(source, name, target, pause, checksum=checksum)
    return target


def _sizes(
    source: Source, names: Sequence[str], pause: Callable[[float], object]
) -> dict[str, int | None]:
    """Request the sizes of files, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda name: _insist(lambda: source.size(name), name, pause), names)
        return dict(zip(names, found, strict=True))


def _fetch(
    source: Source,
    name: str,
    target: Path,
    pause: Callable[[float], object],
    *,
    checksum: str | None,
) -> None:
    part = _part(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if checksum is None:
        part.unlink(missing_ok=True)  # a mixture of two versions could not be detected
    _insist(lambda: _receive(source, name, part), name, pause)
    if checksum is not None and not _agrees(part, checksum):
        found = _sha256(part)
        part.unlink()
        raise ValueError(
            f"{name} has SHA-256 {found}, but the published one is {checksum.lower()}; the partial "
            "file was deleted, fetch it again"
        )
    part.replace(target)


def _receive(source: Source, name: str, part: Path) -> None:
    """Append the missing bytes of a file, or write all of it if the source starts over."""
    start = part.stat().st_size if part.exists() else 0
    with source.open(name, start) as stream:
        with part.open("ab" if stream.start else "wb") as file:
            shutil.copyfileobj(stream.body, file, _CHUNK)
        size = part.stat().st_size
        if stream.total is not None and size < stream.total:
            raise ConnectionError(f"it ended after {size} of {stream.total} bytes")


def _insist(action: Callable[[], T], name: str, pause: Callable[[float], object]) -> T:
    """Try up to five times, waiting 1, 2, 4 and 8 seconds after a broken connection."""
    reason: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(2.0 ** (attempt - 1))
        try:
            return action()
        except BROKEN as error:
            reason = error
    raise ConnectionError(
        f"{name}: no connection, or a broken one, {ATTEMPTS} times ({reason}); "
        "run the same command later to continue from here"
    ) from reason


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _agrees(path: Path, checksum: str) -> bool:
    return path.is_file() and _sha256(path) == checksum.lower()


def _has_size(path: Path, size: int | None) -> bool:
    return size is not None and path.is_file() and path.stat().st_size == size


def _remaining(target: Path, size: int | None) -> int:
    part = _part(target)
    there = part.stat().st_size if part.is_file() else 0
    return max((size or 0) - there, 0)
