"""WFDB annotation files (``.arousal``, ``.atr``, ...) as marks, through wfdb."""

import re
from pathlib import Path
from typing import Literal

from biopart.signals.readers.wfdb_headers import annotation, read_header, refusals
from biopart.signals.recording import Mark

_NOTE = 22  # label of an annotation that is a comment
_RATE = re.compile(r"## time resolution: ([\d.]+)")
_SYMBOL = re.compile(r"(\d+) (\S+)")
_FIRST, _LAST = "## annotation type definitions", "## end of definitions"


def read_annotations(
    path: Path,
    extension: str,
    *,
    text: Literal["note or symbol", "note", "symbol"] = "note or symbol",
) -> tuple[Mark, ...]:
    """Read the annotation file of a WFDB record.

    Parameters
    ----------
    path
        Header of the record, with or without ``.hea``.
    extension
        Extension of the annotation file: ``arousal`` for ``tr03-0005.arousal``.
    text
        Text of each mark: its note or, without one, its symbol; ``note`` drops annotations without
        a note, whose R would be a heart beat and not REM; ``symbol`` gives the symbols of all, such
        as the N and V of beats.

    Returns
    -------
    marks
        In file order, onsets on the recording's clock, without durations.

    Raises
    ------
    FileNotFoundError, ValueError
        If the annotation file does not exist or is damaged, or nothing states its rate.
    """
    header = path if path.suffix == ".hea" else path.parent / f"{path.name}.hea"
    record = header.with_suffix("")
    file = record.parent / f"{record.name}.{extension}"
    if not file.exists():
        raise FileNotFoundError(
            f"annotation file {file.name} is not in the folder of {header.name}; copy it there."
        )
    sentence = f"{file.name} is not a complete WFDB annotation file"
    with refusals(sentence):
        sfreq_hz, found = _annotations(record, extension)
    sfreq_hz = sfreq_hz or float(read_header(header).record.fs)
    return tuple(
        Mark(sample / sfreq_hz, symbol if text == "symbol" else note or symbol)
        for sample, symbol, note in found
        if note or text != "note"
    )


def _annotations(record: Path, extension: str) -> tuple[float | None, list[tuple[int, str, str]]]:
    """Return the rate of an annotation file, and sample, symbol and note of each annotation.

    ``wfdb.rdann`` treats every note at sample 0 as a definition and drops it; here only those that
    begin with ``##`` are definitions, as specified by annot(5) of the WFDB Applications Guide.
    """
    pairs = annotation.load_byte_pairs(str(record), extension, None)
    samples, labels, _, _, _, notes = annotation.proc_ann_bytes(pairs, None)
    symbols = {label.label_store: label.symbol for label in annotation.ann_labels}
    sfreq_hz, defining = None, False
    found = []
    for sample, label, note in zip(samples, labels, notes, strict=True):
        text = (note or "").strip("\0 ")
        if sample == 0 and label == _NOTE and (text.startswith("##") or defining):
            rate = _RATE.match(text)
            own = _SYMBOL.match(text)
            sfreq_hz = float(rate[1]) if rate else sfreq_hz
            if defining and own:
                symbols[int(own[1])] = own[2]
            defining = text == _FIRST or (defining and text != _LAST)
        elif label:
            found.append((int(sample), str(symbols.get(int(label), "")), text))
    return sfreq_hz, found
