"""WFDB annotation files (``.arousal``, ``.atr``, ...) as marks, through wfdb."""

from pathlib import Path
from typing import Literal

from biopart.signals.readers.wfdb_headers import (
    read_header,
    refusals,
    wfdb,
    without_pandas_warnings,
)
from biopart.signals.recording import Mark


def read_annotations(
    path: Path, extension: str, *, text: Literal["note", "symbol"] = "note"
) -> tuple[Mark, ...]:
    """Read the annotation file of a WFDB record.

    Parameters
    ----------
    path
        Header of the record, with or without ``.hea``.
    extension
        Of the annotation file: ``arousal`` for ``tr03-0005.arousal``.
    text
        ``note`` gives the annotation's note, and its symbol where it has none; ``symbol`` always
        the symbol, such as the N and V of heart beats.

    Returns
    -------
    marks
        In file order, onsets on the recording's clock, without durations.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such annotation file, or it is damaged, or nothing states its rate.
    """
    header = path if path.suffix == ".hea" else path.parent / f"{path.name}.hea"
    record = header.with_suffix("")
    file = record.parent / f"{record.name}.{extension}"
    if not file.exists():
        raise FileNotFoundError(f"There is no annotation file {file.name} beside {header.name}.")
    sentence = f"{file.name} is not a whole WFDB annotation file"
    with refusals(sentence), without_pandas_warnings():
        found = wfdb.rdann(str(record), extension)
    sfreq_hz = found.fs or read_header(header).record.fs
    notes = [note.strip("\0 ") for note in found.aux_note]
    return tuple(
        Mark(float(sample / sfreq_hz), note if note and text == "note" else symbol)
        for sample, note, symbol in zip(found.sample, notes, found.symbol, strict=True)
    )
