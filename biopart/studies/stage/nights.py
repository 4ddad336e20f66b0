"""Nights from files to folders: staged, compared with an expert where there is one, told."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from biopart import figures
from biopart.evaluation.metrics import score
from biopart.evaluation.sleep import STAGES, sleep_statistics
from biopart.run import Run
from biopart.signals.labels import stage_marks
from biopart.signals.readers import open_recording
from biopart.signals.recording import Recording
from biopart.signals.stages import label_epochs, read_stage_file, stage_code
from biopart.store.label_rules import StageLabels
from biopart.store.settings import checked
from biopart.studies import pages
from biopart.studies.stage.files import write_files
from biopart.verbs.evaluate import load
from biopart.verbs.stage import Staged, describe_model, stage

LOOKS = 6  # epochs shown for a second look
COMPARED = ("kappa", "accuracy", "macro_f1", "f1", "confusion", "classes", "n_windows")


def stage_nights(
    night: Path,
    run: Run,
    out: Path,
    *,
    channels: Mapping[str, str] | None = None,
    truth: Path | None = None,
    lights: tuple[str | None, str | None] = (None, None),
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Stage a night, or every night of a folder.

    Parameters
    ----------
    night : Path
        A recording, or a folder of some.
    run : Run
        A fine-tuning, or a run whose newest is taken.
    out : Path
        Folder of the results; of a folder of nights one in it per night.
    channels : mapping, optional
        The model's channel -> what to take for it.
    truth : Path, optional
        An expert's hypnogram; of a folder of nights the folder of theirs, found by the card's rule.
    lights : tuple of str, optional
        Clock times of lights off and on, ``22:30``; the recording by default.
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
    card = describe_model(model)["card"]
    nights = [night]
    if night.is_dir() and night.suffix != ".mff":
        globs = card["recordings"]
        nights = sorted({path for glob in globs for path in night.glob(glob)})
        if not nights:
            raise FileNotFoundError(f"{night} holds no recording that fits {', '.join(globs)}")
    results = []
    for path in nights:
        say(path.name)
        recording = open_recording(path)
        staged = stage(recording, model, channels)
        known = None if truth is None else expert(truth, recording, card, staged)
        span = [_epoch_at(text, staged) for text in lights]
        told = summary(staged, known, span)
        told["warnings"] += seen_before(path.stem, staged, describe_model(model)["seen"])
        folder = out if len(nights) == 1 else out / path.stem
        files = write_files(staged.dataset, told, folder)
        page = folder / "night.html"
        write_night(page, staged, known, told)
        results.append({"night": path.name, **told, "files": [str(f) for f in (*files, page)]})
    return results


def seen_before(stem: str, staged: Staged, seen: Collection[str]) -> list[str]:
    """Warn where a night is of a person whom the model was trained on, by the card's rule."""
    try:
        person = staged.card.person_of(stem)
    except ValueError:  # the name of a file from elsewhere
        return []
    if person not in seen:
        return []
    return [f"the model has met {person} in its training: agreement here says nothing of others"]


def expert(
    truth: Path, recording: Recording, card: Mapping[str, Any], staged: Staged
) -> NDArray[np.int8]:
    """Return an expert's stage of each epoch, -1 = unscored; ValueError if it does not fit."""
    epoch_s, rate = staged.card.epoch_s, staged.card.sfreq_hz
    if truth.is_dir():
        said: list[str] = []
        rule = checked(StageLabels, dict(card["labels"]), "the card's labels")
        marks = stage_marks(recording, rule, said, truth)
        if not marks:
            raise ValueError(f"{recording.path.name}: {'; '.join(said) or 'no hypnogram is there'}")
    else:
        marks = read_stage_file(truth, epoch_s=epoch_s)
    epoch = round(epoch_s * rate)
    count = staged.dataset.sizes["epoch"]
    return label_epochs(marks, stage_code, n_samples=count * epoch, sfreq_hz=rate, epoch=epoch)


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
        told["agreement"] = agreement_with(known[scored], stages[scored], names)
        told["differences"] = [
            {"epoch": int(e), "expert": names[known[e]], "model": names[stages[e]]}
            for e in np.flatnonzero(scored & (known != stages))
        ]
    return told


def agreement_with(
    known: NDArray[np.int8], stages: NDArray[np.int8], names: Sequence[str]
) -> dict[str, Any]:
    """Return how a model agrees with an expert; where that knows one stage only without kappa."""
    if len(np.unique(known)) < 2:
        alone = {"classes": [names[known[0]]], "n_windows": len(known), "kappa": None}
        return {**alone, "accuracy": float((known == stages).mean())}
    found = score(known, stages, ["night"] * len(known), names)
    return {key: found[key] for key in COMPARED if key in found}


def write_night(
    page: Path, staged: Staged, known: NDArray[np.int8] | None, told: Mapping[str, Any]
) -> None:
    """Write the page of a night: one file that loads nothing, with no name of anybody."""
    night, record, card = staged.dataset, staged.record, staged.card
    names = [str(name) for name in night["class"].values]
    probability, stages = night["probability"].values, night["hypnogram"].values
    signal = record.signal[0] * record.scale[0]
    epoch_s, rate = night.attrs["epoch_s"] - 2 * card.trim_s, card.sfreq_hz
    start = datetime.fromisoformat(told["start"]) if told["start"] else None
    confidence = probability.max(axis=1)
    usable = np.flatnonzero(~night["bad"].values)
    looked = sorted(usable[np.argsort(confidence[usable], kind="stable")][:LOOKS].tolist())
    titles = [
        f"epoch {e}: {names[stages[e]]} ({confidence[e]:.2f})"
        + (f", expert {names[known[e]]}" if known is not None and known[e] >= 0 else "")
        for e in looked
    ]
    drawn = {
        "hypnogram": figures.hypnogram(
            known, stages, probability, names, epoch_s=night.attrs["epoch_s"], start=start
        ),
        "spectrogram": figures.spectrogram(
            signal, confidence, night["bad"].values, sfreq_hz=rate, epoch_s=epoch_s, start=start
        ),
    }
    if looked:
        drawn["looks"] = figures.epochs_of(signal, looked, titles, sfreq_hz=rate, epoch_s=epoch_s)
    if "confusion" in told.get("agreement", {}):
        drawn["confusion"] = figures.confusion(
            told["agreement"]["confusion"], _classes(told, names)
        )
    pages.write_page(
        page,
        Path(__file__).with_name("page.html.jinja"),
        told=told,
        channel=card.channels[0],
        images={name: Markup(figures.to_html(figure)) for name, figure in drawn.items()},
        n_looks=len(looked),
        temperature=night.attrs["temperature"],
    )


def _classes(told: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the classes that a confusion matrix is of."""
    size = len(told["agreement"]["confusion"])
    return list(names) if size == len(names) else list(told["agreement"]["classes"])


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
