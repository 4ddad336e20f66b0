"""Stage a night: a recording of any kind and a fine-tuned model give probabilities per epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from biopart.data.windows import offsets
from biopart.nn import Normalise
from biopart.nn.normalise import MISSING
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.readers.in_memory import recording_of_array, recording_of_raw
from biopart.signals.recording import Recording
from biopart.store import Card, Record
from biopart.store.settings import checked

BATCH = 128


def stage_night(
    night: Any,
    model: nn.Module,
    *,
    channels: Mapping[str, str] | None = None,
    unit: str | None = None,
    sfreq: float | None = None,
) -> xr.Dataset:
    """Stage a night.

    Parameters
    ----------
    night : path, mne.io.Raw, xarray.DataArray or array
        A path of any supported format; an mne recording in volt, which is not changed; an array
        (channels, samples) with ``unit`` and ``sfreq``, its rows in the model's channels; an xarray
        of dimensions (channel, time) whose coordinate ``channel`` names them, with the attributes
        ``units`` and ``sfreq_hz`` or the arguments.
    model : nn.Module
        As ``biopart.load`` gives it.
    channels : mapping, optional
        The model's channel -> what to take for it, ``{"EEG": "C4-A1"}``.
    unit, sfreq : str, float
        Of an array.

    Returns
    -------
    xarray.Dataset
        ``probability`` (epoch, class), calibrated; ``hypnogram`` (epoch) int8, codes of ``class``;
        ``onset_s`` (epoch); ``bad`` (epoch): it touches a flat, clipped or missing stretch. The
        attributes tell what was done and left out.

    Raises
    ------
    ValueError
        If channels cannot be had, the night is shorter than an epoch, or the model cannot stage.
    """
    about = describe_model(model)
    return stage(opened(night, about, unit=unit, sfreq=sfreq), model, channels).dataset


@dataclass(frozen=True)
class Staged:
    """A night that was staged.

    Attributes
    ----------
    dataset : xarray.Dataset
        As ``stage_night`` gives it.
    record : Record
        The night as it was prepared.
    card : Card
        How.
    """

    dataset: xr.Dataset
    record: Record
    card: Card


def stage(
    recording: Recording, model: nn.Module, channels: Mapping[str, str] | None = None
) -> Staged:
    """Stage a recording; arguments and errors as of ``stage_night``."""
    about = describe_model(model)
    card = staging_card(about, channels)
    record = prepare_recording(recording, card)
    logits = logits_of(model, about, record)
    epoch = round(about["epoch_s"] * card.sfreq_hz)
    touched = np.zeros(len(logits), dtype=bool)
    for start, stop in record.bad.reshape(-1, 2).tolist():
        touched[start // epoch : -(-stop // epoch)] = True
    probability = softmax(logits / about.get("temperature", 1.0), axis=1)
    dataset = xr.Dataset(
        {
            "probability": (("epoch", "class"), probability.astype(np.float32)),
            "hypnogram": ("epoch", probability.argmax(1).astype(np.int8)),
            "onset_s": ("epoch", np.arange(len(logits)) * card.epoch_s),
            "bad": ("epoch", touched),
        },
        coords={"class": list(about["label_names"])},
        attrs={
            "source": recording.path.name,
            "start": "" if recording.start is None else recording.start.isoformat(),
            "epoch_s": card.epoch_s,
            "temperature": about.get("temperature", 1.0),
            "montage": record.attributes["montage"],
            "warnings": record.attributes["warnings"],
            "left_out": record.attributes["left_out"],
            "simulated_model": bool(about["simulated"]),
        },
    )
    return Staged(dataset, record, card)


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return what a model was trained on; ValueError where it cannot stage recordings."""
    about: Any = getattr(model, "about", None)
    if not isinstance(about, dict):
        raise ValueError("the model says nothing of its training; load it by biopart.load(RUN)")
    if about.get("sfreq_hz") is None:
        raise ValueError("the model is of images; stage needs one of recordings")
    if "card" not in about:
        raise ValueError(
            "the model does not know how its recordings were prepared; fine-tune it again with "
            "this version"
        )
    return about


def staging_card(about: Mapping[str, Any], channels: Mapping[str, str] | None = None) -> Card:
    """Return the card that prepares a night as the model's were, without labels.

    Parameters
    ----------
    about : mapping
        Of the model.
    channels : mapping, optional
        The model's channel -> what to take for it.

    Raises
    ------
    ValueError
        If a channel is none of the model's.
    """
    given = dict(about["card"]) | {"labels": {"kind": "none"}, "channels": list(about["channels"])}
    chosen = dict(channels or {})
    strange = [name for name in chosen if name not in about["channels"]]
    if strange:
        raise ValueError(
            f"the model has no channel {', '.join(strange)}; it was trained on "
            f"{', '.join(about['channels'])}"
        )
    aliases = dict(given.get("aliases", {}))
    given["aliases"] = aliases | {name: [source] for name, source in chosen.items()}
    return checked(Card, given, "the model's card")


def opened(
    night: Any, about: Mapping[str, Any], *, unit: str | None, sfreq: float | None
) -> Recording:
    """Open a night of any kind as a recording."""
    if isinstance(night, Recording):
        return night
    if isinstance(night, str | Path):
        return open_recording(Path(night))
    if hasattr(night, "info") and hasattr(night, "get_data"):
        return recording_of_raw(night)
    names = list(about["channels"])
    if isinstance(night, xr.DataArray):
        unit, sfreq = unit or night.attrs.get("units"), sfreq or night.attrs.get("sfreq_hz")
        if "channel" in night.coords:
            names = [str(name) for name in night["channel"].values]
    if unit is None or sfreq is None:
        raise ValueError("an array does not say what it is; give unit= (uV, mV or V) and sfreq=")
    return recording_of_array(np.asarray(night), names, sfreq_hz=float(sfreq), unit=unit)


def windows_of(signal: NDArray[np.int16], *, size: int, epoch: int) -> NDArray[np.int16]:
    """Cut a window in the middle of each epoch, (C, T) -> (epoch, C, size).

    What lies beyond the recording is -32768.

    Examples
    --------
    >>> windows_of(np.arange(6, dtype=np.int16)[None], size=4, epoch=3)[:, 0].tolist()
    [[-32768, 0, 1, 2], [2, 3, 4, 5]]
    """
    count = signal.shape[1] // epoch
    room = max(0, (size - epoch + 1) // 2)
    padded = np.pad(signal, ((0, 0), (room, room + size)), constant_values=MISSING)
    first = room + np.arange(count) * epoch + (epoch - size) // 2
    view = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)
    return np.ascontiguousarray(view[:, first].transpose(1, 0, 2))


@torch.no_grad()
def logits_of(model: nn.Module, about: Mapping[str, Any], record: Record) -> NDArray[np.float32]:
    """Return the logits (epoch, classes) of a prepared night."""
    epoch = round(about["epoch_s"] * about["sfreq_hz"])
    windows = windows_of(record.signal, size=about["encoder"]["shape"][0], epoch=epoch)
    context = about.get("context", 1)
    prepare = Normalise(about["normalise"])
    device = next(model.parameters()).device
    answers = []
    for start in range(0, len(windows), BATCH):
        values = prepare(torch.from_numpy(windows[start : start + BATCH]).to(device))
        net: Any = model.classifier
        answers.append((net if context == 1 else net.classifier.embed)(values).float())
    found = torch.cat(answers)
    if context > 1:
        found = by_neighbours(model.classifier, found, context)
    logits: NDArray[np.float32] = found.cpu().numpy()
    return logits


def by_neighbours(net: Any, embeddings: torch.Tensor, context: int) -> torch.Tensor:
    """Classify each window by its neighbours, embeddings (epoch, D) -> logits (epoch, classes)."""
    count = len(embeddings)
    place = torch.arange(count)[:, None] + torch.from_numpy(offsets(context))
    present = (place >= 0) & (place < count)
    rows = place.clamp(0, count - 1)
    parts = []
    for start in range(0, count, BATCH):
        here = present[start : start + BATCH].to(embeddings.device)
        given = embeddings[rows[start : start + BATCH]] * here[..., None]
        parts.append(net.relate(given, here)[:, net.centre].float())
    return torch.cat(parts)
