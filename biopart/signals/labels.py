"""Label epochs by the rule of a card: stages, codes of a table, one label per file, or beats."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.signals.companions import Stem, only_one
from biopart.signals.events import event_file
from biopart.signals.readers.tables import read_rows
from biopart.signals.readers.wfdb_marks import read_annotations
from biopart.signals.recording import Mark, Recording
from biopart.signals.stages import (
    Night,
    Scoring,
    label_epochs,
    of_recording,
    read_scoring,
    stage_code,
    stated_start,
    unscored_tail_s,
)
from biopart.store.card import Card
from biopart.store.label_rules import BeatLabels, FileLabels, StageLabels, TableLabels


def labels(recording: Recording, card: Card, samples: int, warnings: list[str]) -> NDArray[np.int8]:
    """Label the epochs of a recording by the card's rule.

    Parameters
    ----------
    recording : Recording
        Its marks, or files in its folder, have the labels.
    card : Card
        The rule.
    samples : int
        Length of the signal at the rate of the card.
    warnings : list of str
        Gets a sentence if the hypnogram is missing or shorter than the signal.

    Returns
    -------
    int8 (epoch,)
        Codes of the card's label names; -1 = unknown.

    Raises
    ------
    ValueError
        If marks lie beyond the signal, or a file fits no pattern or several.
    """
    rule, rate = card.labels, card.sfreq_hz
    epoch = round(card.epoch_s * rate)
    if isinstance(rule, StageLabels):
        night = Night(samples / rate, stated_start(recording), card.epoch_s)
        scoring = scoring_of(recording, rule, night, warnings)
        label = label_stages(scoring, samples, epoch, sfreq_hz=rate)
        tail = unscored_tail_s(scoring.marks, stage_code, duration_s=samples / rate)
        if scoring.marks and tail >= card.epoch_s:
            warnings.append(f"the hypnogram ends {tail:g} s before the signal")
        return label if rule.wake_margin_min is None else far_wake(label, card, rule)
    if isinstance(rule, TableLabels):
        marks = table_marks(recording, rule, card.person_in(recording.path), warnings)
        code_of = {name: code for code, name in enumerate(rule.names)} | {"": -1}
        return label_epochs(marks, code_of.get, n_samples=samples, sfreq_hz=rate, epoch=epoch)
    if isinstance(rule, FileLabels):
        name = card.name_of(recording.path)
        codes = [c for c, pattern in enumerate(rule.patterns.values()) if re.search(pattern, name)]
        if len(codes) != 1:
            raise ValueError(
                f"{name} fits {len(codes)} of the label patterns; it must fit exactly one"
            )
        return np.full(samples // epoch, codes[0], np.int8)
    if isinstance(rule, BeatLabels):
        return beat_labels(recording.path, rule, samples // epoch, epoch, sfreq_hz=rate)
    return np.full(samples // epoch, -1, np.int8)


def label_stages(
    scoring: Scoring, samples: int, epoch: int, *, sfreq_hz: float
) -> NDArray[np.int8]:
    """Label epochs from a hypnogram: int8 (epoch,), -1 = unscored.

    Parameters
    ----------
    scoring : Scoring
        On the clock of the recording.
    samples, epoch : int
        Of the recording and of an epoch, at the store's rate.
    sfreq_hz : float
        That rate.
    """
    try:
        return label_epochs(
            scoring.marks,
            stage_code,
            n_samples=samples,
            sfreq_hz=sfreq_hz,
            epoch=epoch,
            scored_s=scoring.epoch_s,
        )
    except ValueError as error:
        raise ValueError(f"{scoring.name}: {error}" if scoring.name else str(error)) from None


def scoring_of(
    recording: Recording,
    rule: StageLabels,
    night: Night,
    warnings: list[str],
    *,
    folder: Path | None = None,
) -> Scoring:
    """Read the stages of a recording, from the recording or from the file that the card names.

    That file lies in the folder of the recording or elsewhere. If there is none, or no
    annotation of the recording is a known stage, the scoring is empty and ``warnings`` gets a
    sentence, unless the rule says that the recording has no labels. Raises ValueError if several
    files fit the rule, or the file cannot be interpreted.
    """
    path = recording.path
    unlabelled = any(re.search(pattern, path.stem) for pattern in rule.unlabelled)
    if rule.annotation is None and rule.hypnogram is None:
        if not recording.marks:
            sentence = f"{path.name} has no annotations; no epoch is labelled"
            warnings += [] if unlabelled else [sentence]
            return Scoring(())
        try:
            scoring = of_recording(recording, rule)
        except ValueError as error:
            warnings += [] if unlabelled else [f"{error}; no epoch is labelled"]
            return Scoring(())
    else:
        file = stage_file(path, rule, folder)
        if file is None:
            sentence = f"no hypnogram fits {wanted_file(path, rule)}; no epoch is labelled"
            warnings += [] if unlabelled else [sentence]
            return Scoring(())
        scoring = read_scoring(file, rule, night)
    warnings += scoring.warnings
    return scoring


def wanted_file(path: Path, rule: StageLabels) -> str:
    """Return the name, or the glob, of the file with the stages of a recording."""
    if rule.annotation is not None:
        return f"{path.stem}.{rule.annotation}"
    return (rule.hypnogram or "").format(stem=Stem(path.stem))


def stage_file(path: Path, rule: StageLabels, folder: Path | None = None) -> Path | None:
    """Return the file with the stages of a recording; ValueError if several fit."""
    folder = path.parent if folder is None else folder
    wanted = wanted_file(path, rule)
    if rule.annotation is not None:
        return folder / wanted if (folder / wanted).is_file() else None
    return only_one(sorted(folder.glob(wanted)), path, "hypnograms")


def label_files(path: Path, card: Card) -> list[Path]:
    """Return the existing files with labels or events of a recording."""
    rule = card.labels
    if isinstance(rule, StageLabels):
        named = rule.annotation is not None or rule.hypnogram is not None
        file = stage_file(path, rule) if named else None
    elif isinstance(rule, TableLabels):
        file = table_file(path, rule, card.person_in(path))
    elif isinstance(rule, BeatLabels):
        file = path.with_suffix(f".{rule.annotation}")
    else:
        file = None
    both = [file, None if card.events is None else event_file(path, card.events)]
    return list(dict.fromkeys(one for one in both if one is not None and one.is_file()))


def table_file(path: Path, rule: TableLabels, person: str) -> Path | None:
    """Return the table with the labels of a recording; ValueError if several fit."""
    wanted = rule.file.format(stem=Stem(path.stem), person=Stem(person))
    return only_one(sorted(path.parent.glob(wanted)), path, "tables of labels")


def table_marks(
    recording: Recording, rule: TableLabels, person: str, warnings: list[str]
) -> Sequence[Mark]:
    """Return the rows of the card's table as marks on the clock of the recording.

    Parameters
    ----------
    recording : Recording
        Its ``clock_s`` is subtracted from the times of the table.
    rule : TableLabels
        The table, its columns and codes.
    person : str
        Replaces ``{person}`` in the name of the table.
    warnings : list of str
        Gets a sentence if there is no table, or if it has codes that the rule lacks.

    Returns
    -------
    sequence of Mark
        Label names; "" if the code has none.
    """
    path = recording.path
    file = table_file(path, rule, person)
    if file is None:
        wanted = rule.file.format(stem=path.stem, person=person)
        warnings.append(f"no table of labels fits {wanted}; no epoch is labelled")
        return ()
    rows = read_rows(file, delimiter=rule.delimiter, header=rule.header)
    onsets = rows.numbers(rows.column(rule.time), absent=False) - recording.clock_s
    place = rows.column(rule.code)
    codes = [re.sub(r"^(-?\d+)\.0*$", r"\1", cells[place]) for cells in rows.cells]
    unknown = [code for code in codes if code not in rule.codes]
    if unknown:
        warnings.append(
            f"{len(unknown)} rows of {file.name} have codes that the card does not define, "
            f"{', '.join(sorted(set(unknown)))}; their epochs are unlabelled"
        )
    names = [rule.codes.get(code) or "" for code in codes]
    return [
        Mark(float(onset), name, rule.duration_s) for onset, name in zip(onsets, names, strict=True)
    ]


def far_wake(label: NDArray[np.int8], card: Card, rule: StageLabels) -> NDArray[np.int8]:
    """Remove the label of wake further from sleep than the margin of the card."""
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
    """Label each epoch with the last class of the rule that has a beat in it, else -1.

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
