"""One door for all recordings: the suffix or the first bytes choose the reader.

The readers behind it are imported when they are needed, since wfdb and mne take a second each.
"""

from pathlib import Path

from biopart.signals.recording import Recording
from biopart.store.card import Table

TABLES = (".csv", ".tsv", ".txt")
_EDF_STARTS = {b"0       ": ".edf", b"\xffBIOSEMI": ".bdf"}


def open_recording(path: Path, table: Table | None = None) -> Recording:
    """Open a recording of any supported format; samples are read on demand.

    Parameters
    ----------
    path
        An EDF, EDF+ or BDF file (by suffix or first bytes), a WFDB header or a signal file or a
        record name with a header beside it, a WAV file (by suffix or first bytes), a table with a
        time column (``.csv``, ``.tsv``, ``.txt``), or whatever ``mne.io.read_raw`` opens.
    table
        How to read a file that is a table; without it the first column is the time in seconds and
        the others are channels.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a signal file that a WFDB header names is missing.
    ValueError
        If the file cannot be read whole: truncated, discontinuous, of an unknown format.
    """
    path = Path(path)
    header = wfdb_header(path)
    if header is not None:
        from biopart.signals.readers.wfdb_records import open_wfdb

        return open_wfdb(header)
    if not path.exists():
        raise FileNotFoundError(f"There is no recording {path}: give a file that exists.")
    if edf_format(path) is not None:
        from biopart.signals.readers.edf import open_edf

        return open_edf(path)
    if is_wav(path):
        from biopart.signals.readers.wav import open_wav

        return open_wav(path)
    if table is not None or path.suffix.lower() in TABLES:
        from biopart.signals.readers.tables import open_table

        return open_table(path, table)
    if path.suffix.lower() == ".mat":
        raise ValueError(
            f"{path.name} has no WFDB header {path.stem}.hea beside it; MATLAB's files are read as "
            "WFDB signals alone, so export it as EDF"
        )
    from biopart.signals.readers.mne_formats import open_mne

    return open_mne(path)


def edf_format(path: Path) -> str | None:
    """Return ``.edf`` or ``.bdf`` by the suffix, else by the first bytes; None = neither."""
    if path.suffix.lower() in (".edf", ".bdf"):
        return path.suffix.lower()
    if path.is_dir():
        return None
    with path.open("rb") as file:
        start = file.read(256)
    is_header = len(start) == 256 and start[184:192].strip().isdigit()
    return _EDF_STARTS.get(start[:8]) if is_header else None


def is_wav(path: Path) -> bool:
    """Tell a WAV file by the suffix, else by the first bytes."""
    if path.suffix.lower() in (".wav", ".wave"):
        return True
    if path.is_dir():
        return False
    with path.open("rb") as file:
        start = file.read(12)
    return start[:4] in (b"RIFF", b"RIFX") and start[8:] == b"WAVE"


def wfdb_header(path: Path) -> Path | None:
    """Return the WFDB header that a path means: itself, or the ``.hea`` beside it, or None."""
    if path.suffix == ".hea":
        return path
    header = path.parent / f"{path.name}.hea"
    if not path.exists() and header.exists():
        return header
    header = path.with_suffix(".hea")
    return header if path.suffix in (".dat", ".mat") and header.exists() else None
