"""WFDB headers: what wfdb refuses is repaired in a copy, and every signal file is checked.

wfdb reads headers as ASCII and drops other characters, so a unit of ``µV`` would become ``V``; and
it refuses a date in ISO form before the time, as in the CinC Challenge 2017. Such a header is
repaired in memory and given to wfdb from a temporary folder; no file is written beside the data.

Source: WFDB Applications Guide, header(5) and signal(5).
"""

import re
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@contextmanager
def without_pandas_warnings() -> Iterator[None]:
    """Silence the warning of pandas 3.1 about wfdb 4.3.1, which sets indices in place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The inplace keyword")
        yield


# What wfdb, and soundfile below it, raise on damaged files.
_REFUSALS = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
    *(RuntimeError, EOFError, MemoryError, struct.error),
)


@contextmanager
def refusals(sentence: str) -> Iterator[None]:
    """Turn what wfdb raises on a damaged file into a ValueError that starts with a sentence."""
    try:
        yield
    except _REFUSALS as error:
        raise ValueError(f"{sentence}: {' '.join(str(error).split())}.") from None


with without_pandas_warnings():
    import wfdb as wfdb
    from wfdb.io import annotation as annotation

_ISO_DATE = re.compile(
    r"(?m)^([^#\n]\S*(?:[ \t]+\S+){3}[ \t]+)(\d{4})-(\d\d)-(\d\d)[ \t]+([\d:.]+)"
)
_LENGTH = re.compile(r"\A((?:#.*\n)*\S+[ \t]+\d+[ \t]+\S+[ \t]+)0(?!\S)")
_FLAC = ("508", "516", "524")
# The integer for a missing sample, by format; format 8 has none, so one that the sums of its 8-bit
# differences never reach.
MISSING = {
    **{"80": -(2**7), "508": -(2**7), "310": -(2**9), "311": -(2**9), "212": -(2**11)},
    **{"16": -(2**15), "61": -(2**15), "160": -(2**15), "516": -(2**15)},
    **{"24": -(2**23), "524": -(2**23), "32": -(2**31), "8": -(2**31)},
}


@dataclass(frozen=True)
class Header:
    """A WFDB header decoded by wfdb; ``mended`` is its repaired text if wfdb refused the file."""

    path: Path
    record: Any
    mended: str | None

    @contextmanager
    def readable(self) -> Iterator[str]:
        """Give the record name that wfdb can read, in a temporary folder if necessary."""
        if self.mended is None:
            yield str(self.path.with_suffix(""))
            return
        with tempfile.TemporaryDirectory(prefix="biopart-") as folder:
            Path(folder, self.path.name).write_text(self.mended, encoding="ascii")
            for name in set(getattr(self.record, "file_name", None) or ()):
                Path(folder, name).symlink_to(Path(self.path.parent, name).resolve())
            yield str(Path(folder, self.path.stem))


def read_header(path: Path) -> Header:
    """Read a WFDB header of one or several segments.

    Raises
    ------
    FileNotFoundError
        If the header does not exist.
    ValueError
        If wfdb cannot interpret it, repaired or not.
    """
    if not path.exists():
        raise FileNotFoundError(f"WFDB header {path.name} does not exist; check the path.")
    text = _decode(path.read_bytes())
    mended = _mend(text)
    header = Header(path, None, mended if mended != text else None)
    sentence = f"{path.name} is not a WFDB header that wfdb can read"
    with refusals(sentence), header.readable() as record:
        return Header(path, wfdb.rdheader(record), header.mended)


def with_length(header: Header, n_frames: int) -> Header:
    """Return a header with its length, if the file states 0 for unknown."""
    if header.record.sig_len or not n_frames:
        return header
    text = header.mended or _mend(_decode(header.path.read_bytes()))
    text = re.sub(
        r"(?m)\A((?:#.*\n)*\S+[ \t]+\d+[ \t]+\S+[ \t]+)0(?!\S)", rf"\g<1>{n_frames}", text
    )
    whole = Header(header.path, None, text)
    with refusals(f"the length of {header.path.name} is unknown"), whole.readable() as record:
        return Header(header.path, wfdb.rdheader(record), text)


def count_frames(header: Header) -> int:
    """Return the frames of a single segment, after checking the size of its signal files.

    Raises
    ------
    FileNotFoundError, ValueError
        If a signal file is missing or too short: names header, file, expected and actual size.
    """
    record = header.record
    for name, fmt in zip(record.sig_name or (), record.fmt or (), strict=True):
        if fmt not in MISSING:
            raise ValueError(
                f"{header.path.name}: signal {name} has format {fmt}; "
                f"biopart reads {', '.join(MISSING)}."
            )
    n_frames: int | None = record.sig_len or None  # header(5): 0 = unknown
    for file in dict.fromkeys(record.file_name or ()):
        places = [i for i, name in enumerate(record.file_name) if name == file]
        n_frames = _check_file(header, file, places, n_frames)
    return n_frames or 0


def _check_file(header: Header, file: str, places: list[int], n_frames: int | None) -> int:
    """Check one signal file against the number of wanted frames; None = all frames it has."""
    record, path = header.record, header.path.parent / file
    if not path.exists():
        raise FileNotFoundError(
            f"{header.path.name} names the signal file {file}, which is not in its folder "
            f"({n_frames or 'unknown'} frames expected, none found); copy it there."
        )
    fmt, offset = record.fmt[places[0]], record.byte_offset[places[0]] or 0
    per_frame = sum(record.samps_per_frame[i] or 1 for i in places)
    if fmt in _FLAC:
        return _check_flac(header, path, offset, n_frames, per_frame=per_frame // len(places))
    found = path.stat().st_size
    if n_frames is None:
        n_frames = _samples_in(fmt, max(found - offset, 0)) // per_frame
    wanted = offset + _bytes_of(fmt, n_frames * per_frame)
    if found < wanted:
        raise ValueError(
            f"{header.path.name} needs {wanted} bytes in its signal file {file} ({n_frames} "
            f"frames), which has {found}: copy it again."
        )
    return n_frames


def _check_flac(
    header: Header, path: Path, offset: int, n_frames: int | None, *, per_frame: int
) -> int:
    """Check a FLAC file, whose own header states its length in samples per channel."""
    import soundfile  # type: ignore[import-untyped]

    try:
        found = soundfile.info(str(path)).frames
    except soundfile.LibsndfileError:
        raise ValueError(
            f"{header.path.name} needs FLAC in its signal file {path.name}, which has "
            f"{path.stat().st_size} bytes but is not FLAC: copy it again."
        ) from None
    if n_frames is None:
        raise ValueError(f"{header.path.name} states no length, which FLAC files need: add it.")
    wanted = offset + n_frames * per_frame
    if found < wanted:
        raise ValueError(
            f"{header.path.name} needs {wanted} samples per signal in its signal file "
            f"{path.name}, which has {found}: copy it again."
        )
    return n_frames


def _bytes_of(fmt: str, n_samples: int) -> int:
    """Return how many bytes a number of samples takes; packed formats per signal(5).

    >>> _bytes_of("212", 3), _bytes_of("310", 4), _bytes_of("311", 5), _bytes_of("24", 2)
    (5, 6, 7, 6)
    """
    if fmt == "212":  # pairs in three bytes
        return n_samples + (n_samples + 1) // 2
    if fmt in ("310", "311"):  # triples in four bytes
        last = {"310": (0, 2, 4), "311": (0, 2, 3)}[fmt]
        return 4 * (n_samples // 3) + last[n_samples % 3]
    return n_samples * {"8": 1, "80": 1, "24": 3, "32": 4}.get(fmt, 2)


def _samples_in(fmt: str, n_bytes: int) -> int:
    """Return how many whole samples of a format a number of bytes holds."""
    if fmt == "212":
        return n_bytes * 2 // 3
    if fmt in ("310", "311"):
        return n_bytes * 3 // 4
    return n_bytes // _bytes_of(fmt, 1)


def _mend(text: str) -> str:
    """Write micro signs as ``u`` and an ISO date after the time, as WFDB specifies."""
    text = text.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    first = next((line for line in text.splitlines() if line.strip() and line[0] != "#"), "")
    return text.replace(first, _ISO_DATE.sub(r"\1\5 \4/\3/\2", first), 1)


def _decode(raw: bytes) -> str:
    """Decode a header; Latin-1, used by old writers, never fails."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
