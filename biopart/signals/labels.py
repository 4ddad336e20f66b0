"""Labels of epochs, by the rule of a card: stages, codes of a table, one per file, or beats."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.signals.readers.tables import read_rows
from biopart.signals.readers.wfdb_marks import read_annotations
from biopart.signals.recording import Mark, Recording
from biopart.signals.stages import label_epochs, read_stage_file, stage_code, unscored_tail_s
from biopart.store.card import Card
from biopart.store.label_rules import BeatLabels, FileLabels, StageLabels, TableLabels


def labels(recording: Recording, card: Card, samples: int, warnings: list[str]) -> NDArray[np.int8]:
    """Label the epochs of a recording by the card's rule.

    Parameters
    ----------
    recording : Recording
        Its marks, or the files beside it, hold the labels.
    card : Card
        The rule.
    samples : int
        Length of the signal at the card's rate.
    warnings : list of str
        Gets a sentence where the hypnogram is missing or shorter than the signal.

    Returns
    -------
    int8 (epoch,)
        Codes of the card's label names, -1 = unknown.

    Raises
    ------
    ValueError
        If marks lie beyond the signal, or a file fits none or several of the rules.
    """
    rule, rate = card.labels, card.sfreq_hz
    epoch = round(card.epoch_s * rate)
    if isinstance(rule, StageLabels):
        marks = stage_marks(recording, rule, warnings)
        if not marks:
            return np.full(samples // epoch, -1, np.int8)
        label = label_epochs(marks, stage_code, n_samples=samples, sfreq_hz=rate, epoch=epoch)
        tail = unscored_tail_s(marks, stage_code, duration_s=samples / rate)
        if tail >= card.epoch_s:
            warnings.append(f"the hypnogram ends {tail:g} s before the signal")
        return label if rule.wake_margin_min is None else far_wake(label, card, rule)
    if isinstance(rule, TableLabels):
        marks = table_marks(recording, rule, card.person_in(recording.path.stem), warnings)
        code_of = {name: code for code, name in enumerate(rule.names)} | {"": -1}
        return label_epochs(marks, code_of.get, n_samples=samples, sfreq_hz=rate, epoch=epoch)
    if isinstance(rule, FileLabels):
        stem = recording.path.stem
        codes = [c for c, pattern in enumerate(rule.patterns.values()) if re.search(pattern, stem)]
        if len(codes) != 1:
            raise ValueError(f"{stem} fits {len(codes)} of the label patterns; it must fit one")
        return np.full(samples // epoch, codes[0], np.int8)
    if isinstance(rule, BeatLabels):
        return beat_labels(recording.path, rule, samples // epoch, epoch, sfreq_hz=rate)
    return np.full(samples // epoch, -1, np.int8)


def stage_marks(
    recording: Recording, rule: StageLabels, warnings: list[str], folder: Path | None = None
) -> Sequence[Mark]:
    """Return the stage marks of a recording: in it, or in the file that the card's rule names.

    That file lies beside the recording, or in another folder. Where it is missing there are none,
    and ``warnings`` gets a sentence, unless the rule says that the recording has no labels. Raises
    ValueError where several files fit the rule.
    """
    path = recording.path
    folder = path.parent if folder is None else folder
    if rule.annotation is not None:
        wanted = f"{path.stem}.{rule.annotation}"
        if (folder / wanted).is_file():
            return read_annotations(folder / path.stem, rule.annotation)
    elif rule.hypnogram is not None:
        wanted = rule.hypnogram.format(stem=_Stem(path.stem))
        found = sorted(folder.glob(wanted))
        if len(found) > 1:
            several = ", ".join(file.name for file in found)
            raise ValueError(f"{path.name} has several hypnograms: {several}")
        if found:
            return read_stage_file(found[0])
    else:
        return [mark for mark in recording.marks if stage_code(mark.text) is not None]
    if not any(re.search(pattern, path.stem) for pattern in rule.unlabelled):
        warnings.append(f"no hypnogram fits {wanted}, no epoch is labelled")
    return ()


def table_marks(
    recording: Recording, rule: TableLabels, person: str, warnings: list[str]
) -> Sequence[Mark]:
    """Return the rows of the table that a card's rule names as marks on the recording's clock.

    Parameters
    ----------
    recording : Recording
        Its ``clock_s`` is subtracted from the times of the table.
    rule : TableLabels
        The table, its columns and codes.
    person : str
        Stands for ``{person}`` in the table's name.
    warnings : list of str
        Gets a sentence where there is no table, and where codes are not in the rule.

    Returns
    -------
    sequence of Mark
        Label names, "" where the code has none.
    """
    path = recording.path
    wanted = rule.file.format(stem=_Stem(path.stem), person=_Stem(person))
    found = sorted(path.parent.glob(wanted))
    if len(found) > 1:
        several = ", ".join(file.name for file in found)
        raise ValueError(f"{path.name} has several tables of labels: {several}")
    if not found:
        warnings.append(f"no table of labels fits {wanted}, no epoch is labelled")
        return ()
    rows = read_rows(found[0], delimiter=rule.delimiter, header=rule.header)
    onsets = rows.numbers(rows.column(rule.time), absent=False) - recording.clock_s
    place = rows.column(rule.code)
    codes = [re.sub(r"^(-?\d+)\.0*$", r"\1", cells[place]) for cells in rows.cells]
    unknown = [code for code in codes if code not in rule.codes]
    if unknown:
        warnings.append(
            f"{len(unknown)} rows of {found[0].name} have codes that the card does not name, "
            f"{', '.join(sorted(set(unknown)))}: unlabelled"
        )
    names = [rule.codes.get(code) or "" for code in codes]
    return [
        Mark(float(onset), name, rule.duration_s) for onset, name in zip(onsets, names, strict=True)
    ]


def far_wake(label: NDArray[np.int8], card: Card, rule: StageLabels) -> NDArray[np.int8]:
    """Take the label off wake that lies further from sleep than the card's margin."""
    asleep = np.flatnonzero(label > 0)
    if not len(asleep) or rule.wake_margin_min is None:
        return label
    margin = round(rule.wake_margin_min * 60 / card.epoch_s)
    kept = label.copy()
    kept[: max(0, asleep[0] - margin)] = -1
    kept[asleep[-1] + margin + 1 :] = -1
    return kept


def beat_labels(
    path: Path, rule: BeatLabels, epochs: int, epoch: int, *, sfreq_hz: float
) -> NDArray[np.int8]:
    """Label each epoch with the last class of the rule's list that has a beat in it, else -1.

    Parameters
    ----------
    path : Path
        Header of the record.
    rule : BeatLabels
        Classes, and the extension of the annotation file.
    epochs, epoch : int
        Number of epochs, and samples of one at the store's rate.
    sfreq_hz : float
        The store's rate.
    """
    codes = {symbol: c for c, symbols in enumerate(rule.classes.values()) for symbol in symbols}
    label = np.full(epochs, -1, np.int8)
    for mark in read_annotations(path.with_suffix(""), rule.annotation, text="symbol"):
        number = int(mark.onset_s * sfreq_hz + 1e-6) // epoch
        if mark.text in codes and number < epochs:
            label[number] = max(label[number], codes[mark.text])
    return label


class _Stem(str):
    """A file's stem that a glob takes literally, once a format has cut it."""

    def __format__(self, spec: str) -> str:
        return glob.escape(format(str(self), spec))
