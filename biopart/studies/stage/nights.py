"""Nights from files to folders: staged, compared with an expert where there is one, told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from biopart.data import open_cohort
from biopart.evaluation.metrics import score
from biopart.evaluation.sleep import STAGES, sleep_statistics
from biopart.run import Run
from biopart.signals.labels import label_stages, scoring_of
from biopart.signals.readers import open_recording
from biopart.signals.recording import Recording
from biopart.signals.stages import Night, read_scoring
from biopart.store import Card, Record
from biopart.store.contents import MISSING
from biopart.store.label_rules import StageLabels
from biopart.store.persons import Met
from biopart.store.settings import checked
from biopart.studies.stage.files import write_files
from biopart.studies.stage.page import write_night
from biopart.verbs.check import is_store
from biopart.verbs.evaluate import check_fit, load
from biopart.verbs.quality import open_quality
from biopart.verbs.stage import (
    Channels,
    Staged,
    describe_model,
    stage,
    stage_record,
    staging_cards,
)

COMPARED = ("kappa", "accuracy", "macro_f1", "f1", "confusion", "classes", "n_windows")
# Taken from a folder where nothing fits the rule of the model's own data set.
SUFFIXES = (".edf", ".bdf", ".hea", ".vhdr", ".set", ".fif")
Found = tuple[str, Staged, "NDArray[np.int8] | None"]


def stage_nights(
    night: Path,
    run: Run,
    out: Path,
    *,
    channels: Channels | None = None,
    truth: Path | None = None,
    lights: tuple[str | None, str | None] = (None, None),
    quality: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Stage a night, every night of a folder, or every record of a store.

    Parameters
    ----------
    night : Path
        A recording, a folder of some, or a store prepared as the model's was.
    run : Run
        A fine-tuning, or a run whose newest is taken.
    out : Path
        Folder of the results; of several nights one in it per night.
    channels : mapping, optional
        The model's channel -> what to take for it, or several to average over.
    truth : Path, optional
        An expert's hypnogram; of a folder of nights the folder of theirs, found by the card's rule.
        A store has its own.
    lights : tuple of str, optional
        Clock times of lights off and on, ``22:30``; the recording by default.
    quality : bool
        Whether to look at every patch by the run's relative encoder too.
    say : callable
        Gets the name of each night.

    Returns
    -------
    list of dict
        Of each night what summary.json holds, and ``files``.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    ValueError
        If a night cannot be staged; the sentence names it.
    """
    model = load(run)
    about = describe_model(model)
    seconds = open_quality(run) if quality else None
    if is_store(night):
        if channels or truth is not None or any(lights):
            raise ValueError(
                "a store has its channels, labels and no clock; leave --channel, --truth and "
                "--lights away"
            )
        many, nights = True, of_store(night, model)
    else:
        paths = recordings_of(night, about["card"]["recordings"])
        many, nights = len(paths) > 1, of_files(paths, model, channels, truth)
    results = []
    for name, staged, known in nights:
        say(name)
        span = [_epoch_at(text, staged) for text in lights]
        told = summary(staged, known, span)
        told["warnings"] += seen_before(name, staged, Met.of(about))
        folder = out / name if many else out
        track = None if seconds is None else seconds.track(staged.record, staged.card)
        files = write_files(staged.dataset, told, folder, quality=track)
        page = folder / "night.html"
        write_night(page, staged, known, told=told, quality=track)
        results.append({"night": told["source"], **told, "files": [str(f) for f in (*files, page)]})
    return results


def channels_of(spelled: Sequence[str]) -> dict[str, list[str]]:
    """Read choices of channels, MODEL=FILE; of several for one channel all are kept.

    Raises ValueError where one is spelled otherwise.

    Examples
    --------
    >>> channels_of(["EEG=C4-A1", "EEG = C3-A2"])
    {'EEG': ['C4-A1', 'C3-A2']}
    """
    chosen: dict[str, list[str]] = {}
    for one in spelled:
        name, sign, source = (part.strip() for part in one.partition("="))
        if not (name and sign and source):
            raise ValueError(
                f"{one!r} names no channel: --channel takes MODEL=FILE, for instance EEG=C4-A1"
            )
        chosen.setdefault(name, []).append(source)
    return chosen


def recordings_of(night: Path, globs: Sequence[str]) -> list[Path]:
    """Return the recordings that a path means; FileNotFoundError where a folder has none."""
    if not night.is_dir() or night.suffix == ".mff":
        return [night]
    fitting = {path for glob in globs for path in night.glob(glob)}
    found = fitting or {
        path
        for path in night.iterdir()
        if path.suffix.lower() in SUFFIXES and "hypnogram" not in path.stem.lower()
    }
    if not found:
        raise FileNotFoundError(
            f"{night} holds no recording that fits {', '.join(globs)} or ends in "
            f"{', '.join(SUFFIXES)}"
        )
    return sorted(found)


def of_files(
    paths: Sequence[Path], model: nn.Module, channels: Channels | None, truth: Path | None
) -> Iterator[Found]:
    """Stage recordings one by one, with an expert's stages where there are some."""
    about = describe_model(model)
    table = staging_cards(about)[0].table
    for path in paths:
        recording = open_recording(path, table)
        staged = stage(recording, model, channels)
        known = None
        if truth is not None:
            known, said = expert(truth, recording, about["card"], staged)
            staged.dataset.attrs["warnings"] = [*staged.dataset.attrs["warnings"], *said]
        yield path.stem, staged, known


def of_store(path: Path, model: nn.Module) -> Iterator[Found]:
    """Stage the records of a store, which has the expert's stages itself."""
    about, cohort = describe_model(model), open_cohort(path)
    if cohort.holds_images:
        raise ValueError(f"{path} holds images; stage needs recordings")
    check_fit(about, cohort)
    (card,) = staging_cards(about)
    rows = [cohort.channels.index(name) for name in about["channels"]]
    for name in cohort:
        signal, scale = cohort.signal(name)[rows], cohort.scale(name)[rows]
        label, said = cohort.label(name).astype(np.int8), cohort.about(name)
        units = str(cohort[name]["signal"].attrs["units"])
        record = Record(signal, scale, label, cohort.bad(name), said, units)
        staged = stage_record(record, card, model)
        staged.dataset.attrs["source"] = name
        known = label[: staged.dataset.sizes["epoch"]]
        yield name, staged, known if (known >= 0).any() else None


def seen_before(name: str, staged: Staged, met: Met) -> list[str]:
    """Warn where a night is of a person whom the model was trained on, by the card's rule."""
    person = person_of(staged.card, name)
    if person is None or not met.among(met.dataset, [person]):
        return []
    return [f"the model has met {person} in its training: agreement here says nothing of others"]


def person_of(card: Card, name: str) -> str | None:
    """Return the person whom a file's stem names by the card's rule; None = from elsewhere."""
    try:
        return card.person_of(name)
    except ValueError:
        return None


def expert(
    truth: Path,
    recording: Recording,
    card: Mapping[str, Any],
    staged: Staged,
    *,
    codes: str | None = None,
) -> tuple[NDArray[np.int8], list[str]]:
    """Return an expert's stage of each epoch, -1 = unscored, and what there is to say of it.

    Parameters
    ----------
    truth : Path
        A hypnogram, or a folder of some.
    recording : Recording
        The night, whose clock is compared with the hypnogram's.
    card : mapping
        Of the model; its rule for labels finds the hypnogram in a folder.
    staged : Staged
        The staged night.
    codes : str, optional
        What the numbers of the hypnogram mean, over the card's.

    Raises
    ------
    ValueError
        If the hypnogram is not there or does not fit the night.
    """
    epoch_s, rate = staged.card.epoch_s, staged.card.sfreq_hz
    epoch = round(epoch_s * rate)
    samples = staged.dataset.sizes["epoch"] * epoch
    night = Night(recording.duration_s, recording.start, epoch_s)
    own = dict(card["labels"]) if card["labels"].get("kind") == "stages" else {}
    rule = checked(StageLabels, own | ({"codes": codes} if codes else {}), "the card's labels")
    said: list[str] = []
    if truth.is_dir():
        scoring = scoring_of(recording, rule, night, said, folder=truth)
        if not scoring.marks:
            raise ValueError(f"{recording.path.name}: {'; '.join(said) or 'no hypnogram is there'}")
    else:
        scoring = read_scoring(truth, rule, night)
        said = list(scoring.warnings)
    return label_stages(scoring, samples, epoch, sfreq_hz=rate), said


def _epoch_at(text: str | None, staged: Staged) -> int | None:
    """Return the epoch that a clock time falls into, after the start of the recording."""
    if text is None:
        return None
    try:
        clock = time.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no clock time; give for instance 22:30") from error
    if not staged.dataset.attrs["start"]:
        raise ValueError("the recording does not tell its start, so a clock time means nothing")
    start = datetime.fromisoformat(staged.dataset.attrs["start"])
    moment = datetime.combine(start.date(), clock)
    if moment < start:
        moment += timedelta(days=1)
    return round((moment - start).total_seconds() / staged.card.epoch_s)


def summary(
    staged: Staged, known: NDArray[np.int8] | None, span: Sequence[int | None]
) -> dict[str, Any]:
    """Return what is said of a night: statistics, agreement, what was done and left out."""
    night = staged.dataset
    names = [str(name) for name in night["class"].values]
    stages = night["hypnogram"].values
    confidence = night["probability"].values.max(axis=1)
    told: dict[str, Any] = {
        "source": night.attrs["source"],
        "start": night.attrs["start"] or None,
        "epochs": len(stages),
        "confidence": float(confidence.mean()),
        "bad_epochs": int(night["bad"].values.sum()),
        "averaged": night.attrs["averaged"],
        "channels": channel_report(staged),
        **{key: list(night.attrs[key]) for key in ("montage", "warnings", "left_out")},
        "simulated_model": night.attrs["simulated_model"],
    }
    if tuple(names) == STAGES:
        first, stop = span[0] or 0, span[1]
        told["statistics"] = sleep_statistics(
            stages, epoch_s=night.attrs["epoch_s"], lights_off=first, lights_on=stop
        )
    if known is not None:
        scored = known >= 0
        if not scored.any():
            raise ValueError(f"the expert's hypnogram scores no epoch of {night.attrs['source']}")
        if not scored.all():
            told["warnings"].append(
                f"the expert scored {scored.sum()} of {len(stages)} epochs; the others are not "
                "compared"
            )
        told["agreement"] = agreement_with(known[scored], stages[scored], names)
        told["differences"] = [
            {"epoch": int(e), "expert": names[known[e]], "model": names[stages[e]]}
            for e in np.flatnonzero(scored & (known != stages))
        ]
    return told


def channel_report(staged: Staged) -> list[dict[str, Any]]:
    """Return of each channel its standard deviation in its unit, and the share that is missing."""
    record = staged.record
    report = []
    for name, row, scale in zip(staged.card.channels, record.signal, record.scale, strict=True):
        known = row[row != MISSING]
        deviation = float(known.std() * scale) if len(known) else None
        missing = 1 - len(known) / len(row)
        report.append({"channel": name, "deviation": deviation, "missing": missing})
    return report


def agreement_with(
    known: NDArray[np.int8], stages: NDArray[np.int8], names: Sequence[str]
) -> dict[str, Any]:
    """Return how a model agrees with an expert; where that knows one stage only without kappa."""
    if len(np.unique(known)) < 2:
        alone = {"classes": [names[known[0]]], "n_windows": len(known), "kappa": None}
        return {**alone, "accuracy": float((known == stages).mean())}
    found = score(known, stages, ["night"] * len(known), names)
    return {key: found[key] for key in COMPARED if key in found}


def lines_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was found as lines for a reader."""
    lines = []
    for told in results:
        parts = [f"{told['night']}: {told['epochs']} epochs, confidence {told['confidence']:.2f}"]
        if "statistics" in told:
            said = told["statistics"]
            parts.append(
                f"sleep {said['total_sleep_time']:.0f} min, efficiency "
                f"{said['sleep_efficiency']:.0%}"
            )
        if "agreement" in told:
            kappa = told["agreement"]["kappa"]
            parts.append(
                f"accuracy {told['agreement']['accuracy']:.3f}, kappa "
                + ("undefined" if kappa is None or np.isnan(kappa) else f"{kappa:.3f}")
            )
        lines.append(", ".join(parts))
        lines += [f"  {line}" for line in told["warnings"] if "has met" in line]
        lines.append(f"page: {told['files'][-1]}")
    return lines
