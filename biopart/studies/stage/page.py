"""The page of a staged night: one file that can be mailed."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart import figures, pages
from biopart.codes import MISSING
from biopart.signals.clock import read_start
from biopart.verbs.stage import StagedNight

MOST_UNCERTAIN = 6  # epochs shown for a second look


def write_night(
    page: Path,
    staged: StagedNight,
    expert_stages: NDArray[np.int8] | None,
    *,
    summary: Mapping[str, Any],
    quality: xr.Dataset | None = None,
) -> None:
    """Write the page of a night: one file that loads nothing else and contains no name."""
    night, card = staged.dataset, staged.card
    names = [str(name) for name in night["class"].values]
    confidence = night["probability"].values.max(axis=1)
    start = read_start(summary["start"] or "")
    bad = night["bad"].values
    usable = np.flatnonzero(~bad)
    uncertain = sorted(
        usable[np.argsort(confidence[usable], kind="stable")][:MOST_UNCERTAIN].tolist()
    )
    drawn = draw_night(staged, expert_stages)
    if uncertain:
        drawn["uncertain"] = figures.epochs_of(
            _epochs(staged, uncertain),
            range(len(uncertain)),
            [_title(night, expert_stages, names, epoch=e) for e in uncertain],
            sfreq_hz=card.sfreq_hz,
            epoch_s=_kept_s(staged),
            names=card.channels,
        )
    if quality is not None:
        drawn["quality"] = figures.quality(
            {key: quality[key].values for key in ("spread_s", "amplitude")},
            quality["onset_s"].values,
            epoch_s=night.attrs["epoch_s"],
            start=start,
            bad=bad,
        )
    if "confusion" in summary.get("agreement", {}):
        drawn["confusion"] = figures.confusion(
            summary["agreement"]["confusion"], _classes(summary, names)
        )
    pages.write_page(
        page,
        Path(__file__).with_name("page.html.jinja"),
        summary=summary,
        channel=card.channels[0],
        images={name: Markup(figures.to_html(figure)) for name, figure in drawn.items()},
        n_uncertain=len(uncertain),
        temperature=night.attrs["temperature"],
        averaged=night.attrs["averaged"],
        unit={"uV": "microvolt"}.get(staged.record.units, staged.record.units or "stored units"),
        clock=lambda epoch: _clock(start, epoch * night.attrs["epoch_s"]),
        confidence=confidence,
    )


def draw_night(staged: StagedNight, expert_stages: NDArray[np.int8] | None) -> dict[str, Figure]:
    """Draw the hypnogram and the spectrogram of a staged night, with an expert's stages if any."""
    night = staged.dataset
    names = [str(name) for name in night["class"].values]
    start = read_start(night.attrs["start"])
    probability = night["probability"].values
    return {
        "hypnogram": figures.hypnogram(
            expert_stages,
            np.where(night["bad"].values, -1, night["hypnogram"].values),
            probability,
            names,
            epoch_s=night.attrs["epoch_s"],
            start=start,
            bad=night["bad"].values,
        ),
        "spectrogram": figures.spectrogram(
            _physical(staged, staged.record.signal[:1])[0],
            probability.max(axis=1),
            night["bad"].values,
            sfreq_hz=staged.card.sfreq_hz,
            epoch_s=_kept_s(staged),
            start=start,
        ),
    }


def _physical(staged: StagedNight, signal: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return stored integers of the first channels (C, T) in their unit; missing samples are 0."""
    scale = staged.record.scale[: len(signal), None].astype(np.float32)
    values: NDArray[np.float32] = np.where(signal == MISSING, 0, signal) * scale
    return values


def _epochs(staged: StagedNight, chosen: Sequence[int]) -> NDArray[np.float32]:
    """Return epochs of all channels one after the other, in their unit."""
    size = round(_kept_s(staged) * staged.card.sfreq_hz)
    parts = [staged.record.signal[:, epoch * size : (epoch + 1) * size] for epoch in chosen]
    return _physical(staged, np.concatenate(parts, axis=1))


def _kept_s(staged: StagedNight) -> float:
    """Return what of an epoch is in the prepared signal, in seconds."""
    return float(staged.dataset.attrs["epoch_s"]) - 2 * staged.card.trim_s


def _title(
    night: xr.Dataset, expert_stages: NDArray[np.int8] | None, names: Sequence[str], *, epoch: int
) -> str:
    """Name an epoch, its stage with the confidence, the runner-up and the expert's stage."""
    shares = night["probability"].values[epoch]
    first, second = np.argsort(-shares, kind="stable")[:2]
    text = f"epoch {epoch}: {names[first]} ({shares[first]:.2f}) or {names[second]}"
    text += f" ({shares[second]:.2f})"
    if expert_stages is not None and expert_stages[epoch] >= 0:
        text += f", expert {names[expert_stages[epoch]]}"
    return text


def _clock(start: datetime | None, after_s: float) -> str:
    """Return the time of an epoch, as clock time if the recording states its start.

    Examples
    --------
    >>> _clock(datetime(2000, 1, 1, 23, 50), 1200), _clock(None, 3690)
    ('00:10:00', '1:01:30')
    """
    if start is not None:
        return (start + timedelta(seconds=after_s)).strftime("%H:%M:%S")
    return str(timedelta(seconds=round(after_s)))


def _classes(summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the classes that a confusion matrix is of."""
    size = len(summary["agreement"]["confusion"])
    return list(names) if size == len(names) else list(summary["agreement"]["classes"])
