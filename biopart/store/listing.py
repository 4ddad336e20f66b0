"""Read the published lists of a data set and choose the files of its first records.

PhysioNet's layouts differ: a list of folders (2018), of records (mitdb), of files whose labels
have other names (sleep-edfx), or no list. ``Remote`` describes the layout, one per data set card.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Remote:
    """Address of a data set and the files that make up a record.

    Attributes
    ----------
    url
        Folder of the data set: ``https://...`` or any address for fsspec (``s3://bucket/x``).
    records_file
        List of records, one per line, relative to its own folder ("training/RECORDS"); a line
        names a folder ("tr03-0005/"), a record ("100") or a file ("SC4001E0-PSG.edf"). Several
        lists count in order. None: every file that fits ``files`` belongs to a
        record.
    files
        Glob of the records' files if there is no list.
    extra
        Globs of files to fetch for any choice of records ("age-sex.csv").
    match
        Number of leading characters of a file name that all files of a record share; None: the
        whole name without its extension.
    sums_file
        The published list of SHA-256 sums, which also lists all files.
    options
        Settings for fsspec, such as ``{"anon": True}`` for a public bucket.
    """

    url: str
    records_file: str | Sequence[str] | None = None
    files: str = "*.edf"
    extra: tuple[str, ...] = ()
    match: int | None = None
    sums_file: str = "SHA256SUMS.txt"
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def lists(self) -> tuple[str, ...]:
        """The lists of records, in their order."""
        named = self.records_file or ()
        return (named,) if isinstance(named, str) else tuple(named)


def read_sha256sums(text: str) -> dict[str, str]:
    r"""Read a list of SHA-256 sums, ``<sum> <path>`` per line, as {path: sum}.

    Raises
    ------
    ValueError
        If a line has another form, or its path leaves the folder.

    Examples
    --------
    >>> sums = read_sha256sums("ab" * 32 + "  training/RECORDS\n")
    >>> list(sums)
    ['training/RECORDS']
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(.+?)\s*", line)
        if not found:
            raise ValueError(f"line {number} of the list of sums is not '<SHA-256> <path>'")
        sums[check_name(found[2])] = found[1].lower()
    return sums


def read_records(text: str, records_file: str) -> list[str]:
    r"""Read a list of records as paths below the root of the data set.

    Examples
    --------
    >>> read_records("tr03-0005/\n", "training/RECORDS")
    ['training/tr03-0005/']
    """
    parent = PurePosixPath(records_file).parent
    prefix = "" if str(parent) == "." else f"{parent}/"
    lines = [line.strip().removeprefix("./") for line in text.splitlines()]
    return [prefix + check_name(line) for line in lines if line]


def select_records(records: Sequence[str], count: int | None) -> list[str]:
    """Select the first ``count`` records; all for None or if there are fewer.

    Examples
    --------
    >>> select_records(["100", "101", "103"], 2)
    ['100', '101']
    """
    if count is not None and count < 1:
        raise ValueError(f"records is {count}; fetch at least 1, or omit it for all")
    return list(records[:count])


def pick_files(names: Sequence[str], records: Sequence[str], remote: Remote) -> list[str]:
    """Choose the files of ``records`` and the extra ones out of ``names``, in that order.

    Raises
    ------
    ValueError
        If a record has no file.

    Examples
    --------
    >>> pick_files(["100.dat", "100.hea", "101.hea"], ["100"], Remote("https://x"))
    ['100.dat', '100.hea']
    """
    globs = [*remote.extra, remote.sums_file, *remote.lists]
    chosen = {name for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in globs)}
    for record in records:
        own = [name for name in names if _belongs(name, record, remote.match)]
        if not own:
            raise ValueError(f"record {record} has no file in {remote.sums_file} of {remote.url}")
        chosen.update(own)
    return [name for name in names if name in chosen]


def derive_records(names: Sequence[str], remote: Remote) -> list[str]:
    """Derive the records of a data set without a list from its file names.

    Raises
    ------
    ValueError
        If no file fits the card.

    Examples
    --------
    >>> derive_records(["S00_1.edf", "S00_2.edf", "info.csv"], Remote("https://x", match=3))
    ['S00']
    """
    files = [PurePosixPath(n) for n in names if fnmatch.fnmatchcase(n, remote.files)]
    if not files:
        raise ValueError(f"no file of {remote.url} fits {remote.files!r}; correct the card")
    keys = [
        str(file.parent / (file.name[: remote.match] if remote.match else file.stem))
        for file in files
    ]
    return list(dict.fromkeys(keys))


def check_name(name: str) -> str:
    """Return a path of a list if it is inside its folder.

    Raises
    ------
    ValueError
        If it is absolute, empty, or has "..", a backslash or a drive letter.
    """
    parts = name.split("/")
    bad = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    if bad or re.match(r"[A-Za-z]:", name) or name in ("", "."):
        raise ValueError(f"{name!r} is not a path inside the data set's folder; nothing is fetched")
    return name


def _belongs(name: str, record: str, match: int | None) -> bool:
    if record.endswith("/"):
        return name.startswith(record)
    file, wanted = PurePosixPath(name), PurePosixPath(record)
    if file.parent != wanted.parent:
        return False
    if match is not None:
        return file.name[:match] == wanted.name[:match]
    return file.name == wanted.name or file.name.startswith(wanted.stem + ".")
