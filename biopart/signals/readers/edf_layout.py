"""Positions of the signals in an EDF or BDF file, checked against the size of the file.

The fields with names, birth dates and free text are blanked as soon as they are read, so
that they cannot reach a recording, a message or a log.

Sources: Kemp et al. 1992 (EDF), Kemp and Olivan 2003 (EDF+), BioSemi's description of BDF.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SAMPLE_BYTES = {"EDF": 2, "BDF": 3}
_KINDS = {b"0": "EDF", b"\xffBIOSEMI": "BDF"}
PRIVATE, START, HEADER_BYTES = slice(8, 168), slice(168, 184), slice(184, 192)
RESERVED, N_RECORDS = slice(192, 236), slice(236, 244)
RECORD_S, N_SIGNALS = slice(244, 252), slice(252, 256)
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes per signal: label, transducer, unit, ...
_RANGES, _SAMPLES = sum(_FIELDS[:3]), sum(_FIELDS[:8])
_DIGITAL = sum(_FIELDS[:5])


@dataclass(frozen=True)
class Layout:
    """A header and the position of every signal, annotations included.

    ``widths`` are samples per data record and ``labels`` names, both in file order; ``n_records``
    is the number in the file; ``warnings`` lists repairs.
    """

    path: Path
    kind: str
    header: bytes
    n_records: int
    labels: tuple[str, ...]
    widths: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def record_s(self) -> float:
        """Duration of a data record in seconds."""
        return float(self.header[RECORD_S])

    @property
    def encoding(self) -> str:
        """Encoding of labels and units: UTF-8 if they are valid UTF-8, else Latin-1."""
        return _encoding(self.header)

    def header_of(self, index: int) -> bytes:
        """Return a complete header for one signal, without data records."""
        main = bytearray(self.header[:256])
        main[HEADER_BYTES] = b"512".ljust(8)
        main[N_RECORDS], main[N_SIGNALS] = b"0".ljust(8), b"1".ljust(4)
        fields, at = b"", 256
        for width in _FIELDS:
            fields += self.header[at + width * index : at + width * (index + 1)]
            at += width * len(self.labels)
        return bytes(main) + fields

    def indices(self, *, marks: bool) -> list[int]:
        """Return the positions of the annotation signals or of all others."""
        label = f"{self.kind} Annotations"
        return [index for index, own in enumerate(self.labels) if (own == label) == marks]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Read only the bytes of one signal, (record, byte)."""
        ends = np.cumsum([0, *self.widths]) * _SAMPLE_BYTES[self.kind]
        shape = (self.n_records, int(ends[-1]))
        records = np.memmap(self.path, np.uint8, "r", offset=len(self.header), shape=shape)
        return np.array(records[:, ends[index] : ends[index + 1]])

    def samples(self, index: int) -> NDArray[np.integer]:
        """Read one signal, (time,): int16 of EDF, int32 from the 24 bits of BDF."""
        values = self.read(index)
        if self.kind == "EDF":
            return values.view("<i2").reshape(-1)
        padded = np.zeros((values.size // 3, 4), np.uint8)
        padded[:, 1:] = values.reshape(-1, 3)
        return padded.view("<i4").reshape(-1) >> 8


def read_layout(path: Path) -> Layout:
    """Read, repair and check the header of an EDF or BDF file.

    Raises
    ------
    ValueError
        If the file is empty, of another format, damaged, or shorter or longer than stated.
    """
    raw, kind = _read_header(path)
    header, warnings = _mend(raw)
    n_signals = int(header[N_SIGNALS])
    columns = header[256 + _SAMPLES * n_signals :]
    try:
        widths = tuple(int(columns[8 * i : 8 * i + 8]) for i in range(n_signals))
        stated, header_bytes = int(header[N_RECORDS]), int(header[HEADER_BYTES])
        record_s = float(header[RECORD_S])
    except ValueError as error:
        raise ValueError(
            f"{path.name} has a damaged EDF header: {error}; copy or export it again."
        ) from None
    if header_bytes != len(header) or min(widths, default=0) < 0 or not sum(widths):
        raise ValueError(
            f"{path.name} has a damaged EDF header: {header_bytes} bytes for {n_signals} signals, "
            f"with {sum(widths)} samples per data record in all; export it again."
        )
    record_bytes = sum(widths) * _SAMPLE_BYTES[kind]
    n_records, more = _count_records(path, stated, len(header), record_bytes)
    encoding = _encoding(header)
    labels = [header[256 + 16 * i : 272 + 16 * i].decode(encoding) for i in range(n_signals)]
    names = tuple(label.rstrip() for label in labels)
    layout = Layout(path, kind, header, n_records, names, widths, (*warnings, *more))
    if not 0 < record_s < math.inf and layout.indices(marks=False):
        raise ValueError(
            f"{path.name} has a damaged EDF header: data records of {record_s:g} s; export again."
        )
    return layout


def _read_header(path: Path) -> tuple[bytes, str]:
    """Read the header and return it with the format, ``EDF`` or ``BDF``."""
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path.name} is empty: give a complete EDF or BDF file.")
    with path.open("rb") as file:
        main = file.read(256)
        kind = _KINDS.get(main[:8].strip(b" \0"))
        count = main[N_SIGNALS].strip(b" \0")
        if kind is None or (len(main) == 256 and not count.isdigit()):
            raise ValueError(
                f"{path.name} is not an EDF or BDF file: its first bytes are not such a header."
            )
        expected = 256 * (int(count or b"0") + 1)
        header = main + file.read(expected - 256)
    if len(header) < expected or not count:
        raise ValueError(
            f"{path.name} is truncated: it ends inside its header, after {size} bytes; "
            "copy it again."
        )
    return header, kind


def _mend(header: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Blank names and free text; turn NUL padding into spaces, decimal commas into points."""
    private = b" " * (PRIVATE.stop - PRIVATE.start)
    blank = header[: PRIVATE.start] + private + header[PRIVATE.stop :]
    mended = bytearray(blank.replace(b"\0", b" "))
    n_signals = int(mended[N_SIGNALS])
    ranges = 256 + _RANGES * n_signals
    for part in (RECORD_S, slice(ranges, ranges + 16 * n_signals)):
        mended[part] = mended[part].replace(b",", b".")
    whole = bytes(mended)
    warnings = (
        ("NUL bytes or decimal commas in the header were repaired.",) if whole != blank else ()
    )
    whole_numbers = [N_RECORDS.start]
    whole_numbers += [256 + _DIGITAL * n_signals + 8 * n for n in range(2 * n_signals)]
    whole_numbers += [256 + _SAMPLES * n_signals + 8 * n for n in range(n_signals)]
    for at in whole_numbers:  # -32768.0 is a whole number too
        field = slice(at, at + 8)
        mended[field] = re.sub(rb"\.0*$", b"", bytes(mended[field]).rstrip()).ljust(8)
    return bytes(mended), warnings


def _count_records(
    path: Path, stated: int, header_bytes: int, record_bytes: int
) -> tuple[int, tuple[str, ...]]:
    """Return the number of data records, checked against the size of the file."""
    held, rest = divmod(path.stat().st_size - header_bytes, record_bytes)
    holds = f"{held} data records" + (f" and {rest} bytes of another" if rest else "")
    says = f"its header states {stated} data records of {record_bytes} bytes, the file has {holds}"
    if held < max(stated, 1) or rest:
        raise ValueError(f"{path.name} is truncated: {says}; copy it again.")
    if stated not in (-1, held):
        raise ValueError(f"{path.name} has a wrong record count: {says}; export it again.")
    if stated == -1:
        return held, (f"The header states no record count; the file has {holds}.",)
    return held, ()


def _encoding(header: bytes) -> str:
    """Return the encoding of the fields that describe the signals."""
    try:
        header[256:].decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
