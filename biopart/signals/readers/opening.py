"""One door for all recordings: the suffix or the first bytes choose the reader.

The readers behind it are imported when they are needed, since wfdb and mne take a second each.
"""

from pathlib import Path

from biopart.signals.recording import Recording

_EDF_STARTS = {b"0       ": ".edf", b"\xffBIOSEMI": ".bdf"}


def open_recording(path: Path) -> Recording:
    """Open a recording of any supported format; samples are read on demand.

    Parameters
    ----------
    path
        An EDF, EDF+ or BDF file (by suffix or first bytes), a WFDB header or a signal file or a
        record name with a header beside it, or whatever ``mne.io.read_raw`` opens.

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


def wfdb_header(path: Path) -> Path | None:
    """Return the WFDB header that a path means: itself, or the ``.hea`` beside it, or None."""
    if path.suffix == ".hea":
        return path
    header = path.parent / f"{path.name}.hea"
    if not path.exists() and header.exists():
        return header
    header = path.with_suffix(".hea")
    return header if path.suffix in (".dat", ".mat") and header.exists() else None
