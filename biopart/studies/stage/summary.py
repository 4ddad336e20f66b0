"""The summary of a staged night: statistics, agreement with an expert, lights, the model."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.codes import MISSING, STAGES
from biopart.evaluation.metrics import score
from biopart.evaluation.sleep import sleep_statistics
from biopart.nn import About
from biopart.run import Run
from biopart.settings import checked
from biopart.signals.clock import DAY_S, clock_text, read_start, seconds_after
from biopart.signals.labels import label_stages, scoring_of
from biopart.signals.recording import Recording
from biopart.signals.stages import Night, read_scoring, stated_start
from biopart.store import Card
from biopart.store.label_rules import StageLabels
from biopart.store.seen import Seen
from biopart.studies.stage.files import has_edf_date
from biopart.verbs.stage import StagedNight

COMPARED = ("kappa", "accuracy", "macro_f1", "f1", "confusion", "classes", "n_windows")


def warnings_if_seen(path: Path, staged: StagedNight, dataset: str, seen: Seen) -> list[str]:
    """Warn where a night is of a person whom the model was trained on, by the card's rule."""
    person = person_of(staged.card, path)
    if person is None or not seen.knows(dataset, person):
        return []
    return [f"{person} is a person of the model's training data: expect worse results for others"]


def person_of(card: Card, path: Path) -> str | None:
    """Return the person whom a file's name states by the card's rule; None = from elsewhere."""
    try:
        return card.person_of(path)
    except ValueError:
        return None


def read_expert(
    truth: Path,
    recording: Recording,
    card: Mapping[str, Any],
    staged: StagedNight,
    *,
    codes: str | None = None,
) -> tuple[NDArray[np.int8], list[str]]:
    """Return an expert's stage of each epoch, -1 = unscored, and warnings.

    Parameters
    ----------
    truth : Path
        A hypnogram, or a folder of hypnograms.
    recording : Recording
        The night, whose clock is compared with the hypnogram's.
    card : mapping
        Of the model; its rule for labels finds the hypnogram in a folder.
    staged : Staged
        The staged night.
    codes : str, optional
        What the numbers of the hypnogram mean; takes precedence over the card's codes.

    Raises
    ------
    ValueError
        If the hypnogram does not exist or does not fit the night.
    """
    epoch_s, rate = staged.card.epoch_s, staged.card.sfreq_hz
    epoch = round(epoch_s * rate)
    samples = staged.dataset.sizes["epoch"] * epoch
    night = Night(recording.duration_s, stated_start(recording), epoch_s)
    own = dict(card["labels"]) if card["labels"].get("kind") == "stages" else {}
    rule = checked(StageLabels, own | ({"codes": codes} if codes else {}), "the card's labels")
    warnings: list[str] = []
    if truth.is_dir():
        scoring = scoring_of(recording, rule, night, warnings, folder=truth)
        if not scoring.marks:
            raise ValueError(
                f"{recording.path.name}: "
                f"{'; '.join(warnings) or 'the folder has no hypnogram of it'}"
            )
    else:
        scoring = read_scoring(truth, rule, night)
        warnings = list(scoring.warnings)
    return label_stages(scoring, samples, epoch, sfreq_hz=rate), warnings


def describe_model(run: Run, about: About) -> dict[str, Any]:
    """Return which model staged a night, and how it scored on its own test persons."""
    tuned = run.finetuned()
    is_scored = (tuned.path / "result.json").is_file()
    result = tuned.result() if is_scored else {}
    keys = ("n_train_persons", "n_test_persons", "kappa", "kappa_ci95", "accuracy")
    return {
        "run": str(run.pretrained().path.resolve()),
        "finetuning": tuned.path.name,
        "recipe": about.recipe,
        "dataset": about.dataset,
        "simulated": about.simulated,
        **{
            f"test_{key}" if "kappa" in key or key == "accuracy" else key: result.get(key)
            for key in keys
        },
    }


def lights_of(
    wanted: tuple[str | None, str | None], staged: StagedNight
) -> tuple[dict[str, str | None], tuple[int, int], list[str]]:
    """Return lights off and on as clock times and as epochs, and warnings.

    A clock time outside the recording is replaced by its start or its end, with a warning.

    Raises
    ------
    ValueError
        If a time is not a clock time, the recording does not state its start, or off is not
        before on.
    """
    night = staged.dataset
    count, epoch_s = night.sizes["epoch"], float(night.attrs["epoch_s"])
    start, end = read_start(night.attrs["start"]), count * epoch_s
    if not any(wanted):
        return {"off": None, "on": None}, (0, count), []
    if start is None:
        raise ValueError(
            "the recording does not state its start, so lights off and on cannot be given as clock "
            "times; leave them out"
        )
    seconds, warnings = [], []
    for what, text, usual in (("off", wanted[0], 0.0), ("on", wanted[1], end)):
        moment = usual if text is None else _after(_clock(text), start, end)
        inside = min(max(moment, 0.0), end)
        if inside != moment:
            span = f"{clock_text(start)} to {clock_text(start + timedelta(seconds=end))}"
            taken = clock_text(start + timedelta(seconds=inside))
            warnings.append(
                f"lights {what} at {text} is outside the recording ({span}); {taken} is used"
            )
        seconds.append(inside)
    off, on = (round(moment / epoch_s) for moment in seconds)
    clocks = [clock_text(start + timedelta(seconds=moment)) for moment in seconds]
    if off >= on:
        raise ValueError(f"lights off at {clocks[0]} is not before lights on at {clocks[1]}")
    return {"off": clocks[0], "on": clocks[1]}, (off, on), warnings


def _clock(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a clock time; give for instance 22:30") from None


def _after(clock: time, start: datetime, end_s: float) -> float:
    """Return how long after the start a clock time is: inside the recording, else nearest to it."""
    nearest = seconds_after(clock, start)
    several = (nearest, nearest + DAY_S, nearest - DAY_S)
    return min(several, key=lambda moment: max(-moment, moment - end_s, 0.0))


def summarise(
    staged: StagedNight,
    expert_stages: NDArray[np.int8] | None,
    lights: tuple[str | None, str | None],
    model: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the summary of a night: statistics, agreement, what was done and excluded."""
    night = staged.dataset
    clocks, span, warnings = lights_of(lights, staged)
    start = read_start(night.attrs["start"])
    if start is not None and not has_edf_date(start):
        warnings.append(
            f"EDF+ cannot state the year {start.year}: hypnogram.edf is dated 1985-01-01"
        )
    names = [str(name) for name in night["class"].values]
    stages = night["hypnogram"].values
    confidence = night["probability"].values.max(axis=1)
    summary: dict[str, Any] = {
        "source": night.attrs["source"],
        "start": night.attrs["start"] or None,
        "epochs": len(stages),
        "confidence": float(confidence.mean()),
        "bad_epochs": int(night["bad"].values.sum()),
        "averaged": night.attrs["averaged"],
        "channels": channel_report(staged),
        **{key: list(night.attrs[key]) for key in ("montage", "warnings", "left_out")},
        "simulated_model": night.attrs["simulated_model"],
        "lights": clocks,
        "bad_share": night.attrs["bad_share"],
        "bad_minutes": float(night["bad"].values.sum()) * night.attrs["epoch_s"] / 60,
        "model": dict(model),
        "biopart": version("biopart"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    summary["warnings"] += warnings
    if tuple(names) == STAGES:
        usable = np.where(night["bad"].values, -1, stages).astype(np.int8)
        summary["statistics"] = sleep_statistics(
            usable, epoch_s=night.attrs["epoch_s"], lights_off=span[0], lights_on=span[1]
        )
    if expert_stages is not None:
        scored = expert_stages >= 0
        if not scored.any():
            raise ValueError(f"the expert's hypnogram scores no epoch of {night.attrs['source']}")
        if not scored.all():
            summary["warnings"].append(
                f"the expert scored {scored.sum()} of {len(stages)} epochs; the others are not "
                "compared"
            )
        summary["agreement"] = agreement_with(expert_stages[scored], stages[scored], names)
        summary["differences"] = [
            {"epoch": int(e), "expert": names[expert_stages[e]], "model": names[stages[e]]}
            for e in np.flatnonzero(scored & (expert_stages != stages))
        ]
    return summary


def channel_report(staged: StagedNight) -> list[dict[str, Any]]:
    """Return the standard deviation of each channel in its unit, and the share that is missing."""
    record = staged.record
    report = []
    for name, row, scale in zip(staged.card.channels, record.signal, record.scale, strict=True):
        present = row[row != MISSING]
        deviation = float(present.std() * scale) if len(present) else None
        missing = 1 - len(present) / len(row)
        report.append({"channel": name, "deviation": deviation, "missing": missing})
    return report


def agreement_with(
    expert_stages: NDArray[np.int8], stages: NDArray[np.int8], names: Sequence[str]
) -> dict[str, Any]:
    """Return how a model agrees with an expert; no kappa if the expert scored one stage only."""
    if len(np.unique(expert_stages)) < 2:
        alone = {
            "classes": [names[expert_stages[0]]],
            "n_windows": len(expert_stages),
            "kappa": None,
        }
        return {**alone, "accuracy": float((expert_stages == stages).mean())}
    scores = score(expert_stages, stages, ["night"] * len(expert_stages), names)
    return {key: scores[key] for key in COMPARED if key in scores}
