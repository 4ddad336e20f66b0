"""Open any recording: the suffix or the first bytes select the reader.

Readers are imported when needed, since wfdb and mne take a second each.
"""

from pathlib import Path

from biopart.signals.recording import Recording
from biopart.store.card import Cepstrum, Table

TABLES = (".csv", ".tsv", ".txt")
_EDF_STARTS = {b"0       ": ".edf", b"\xffBIOSEMI": ".bdf"}


def open_recording(path: Path, how: Table | Cepstrum | None = None) -> Recording:
    """Open a recording of any supported format; samples are read on demand.

    Parameters
    ----------
    path
        An EDF, EDF+ or BDF file (by suffix or first bytes), a WFDB header or a signal file or a
        record name with a header in its folder, a WAV file (by suffix or first bytes), a table with
        a time column (``.csv``, ``.tsv``, ``.txt``), or any format of ``mne.io.read_raw``.
    how
        How to read a table, of which otherwise the first column is the time in seconds and the
        others are channels; or the cepstral coefficients of sound in place of its waveform.

    Raises
    ------
    FileNotFoundError
        If the file, or a signal file named by a WFDB header, does not exist.
    ValueError
        If the file is truncated, discontinuous or of an unknown format.
    """
    path = Path(path)
    header = wfdb_header(path)
    if header is not None:
        from biopart.signals.readers.wfdb_records import open_wfdb

        return open_wfdb(header)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give the path of an existing file")
    if edf_format(path) is not None:
        from biopart.signals.readers.edf import open_edf

        return open_edf(path)
    if is_wav(path):
        if isinstance(how, Cepstrum):
            from biopart.signals.readers.cepstrum import open_cepstrum

            return open_cepstrum(path, how)
        from biopart.signals.readers.wav import open_wav

        return open_wav(path)
    table = how if isinstance(how, Table) else None
    if table is not None or path.suffix.lower() in TABLES:
        from biopart.signals.readers.tables import open_table

        return open_table(path, table)
    if path.suffix.lower() == ".mat":
        raise ValueError(
            f"{path.name} has no WFDB header {path.stem}.hea beside it; MATLAB files are read only "
            "as WFDB signals, so export it as EDF"
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
    """Recognise a WAV file by its suffix, else by its first bytes."""
    if path.suffix.lower() in (".wav", ".wave"):
        return True
    if path.is_dir():
        return False
    with path.open("rb") as file:
        start = file.read(12)
    return start[:4] in (b"RIFF", b"RIFX") and start[8:] == b"WAVE"


def wfdb_header(path: Path) -> Path | None:
    """Return the WFDB header for a path: itself, or the ``.hea`` beside it, or None."""
    if path.suffix == ".hea":
        return path
    header = path.parent / f"{path.name}.hea"
    if not path.exists() and header.exists():
        return header
    header = path.with_suffix(".hea")
    return header if path.suffix in (".dat", ".mat") and header.exists() else None
