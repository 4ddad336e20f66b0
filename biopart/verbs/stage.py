"""Stage a night: predict the probabilities of the stages of every epoch of a recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax

from biopart.codes import MISSING
from biopart.data import as_trained
from biopart.data.windows import attended, offsets, touches_bad
from biopart.nn import About, Model
from biopart.nn.sequence import SequenceClassifier
from biopart.settings import checked
from biopart.signals.montage import montage
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.readers.in_memory import recording_of_array
from biopart.signals.recording import Recording
from biopart.store import Card, Record

Channels = Mapping[str, str | Sequence[str]]
MOST_COMBINATIONS = 64
BATCH = 128  # windows at a time
BAD_SHARE = 0.5
"""Share of an epoch above which it is bad: the AASM manual scores an epoch by its larger part."""


def stage_night(
    night: Any,
    model: Model,
    *,
    channels: Channels | None = None,
    unit: str | None = None,
    sfreq: float | None = None,
    bad_share: float = BAD_SHARE,
) -> xr.Dataset:
    """Stage a night.

    Parameters
    ----------
    night : path, mne.io.Raw, xarray.DataArray or array
        A path of any supported format; an mne recording in volt, which is not changed; an array
        (channels, samples) with ``unit`` and ``sfreq``, its rows in the model's channels; an xarray
        of dimensions (channel, time) whose coordinate ``channel`` names them, with the attributes
        ``units`` and ``sfreq_hz`` or the arguments.
    model : Model
        As returned by ``biopart.load``.
    channels : mapping, optional
        The model's channel -> the channel to use, ``{"EEG": "C4-A1"}``; with several,
        ``{"EEG": ["C4-A1", "C3-A2"]}``, each is staged and the probabilities are averaged.
    unit, sfreq : str, float
        Of an array.
    bad_share : float
        An epoch is bad if more than this share of it is flat, clipped or missing.

    Returns
    -------
    xarray.Dataset
        ``probability`` (epoch, class), calibrated; ``hypnogram`` (epoch) int8, codes of ``class``;
        ``onset_s`` (epoch); ``bad`` (epoch): more of it than ``bad_share`` is flat,
        clipped or missing. The attributes state what was done and excluded.

    Raises
    ------
    ValueError
        If a channel cannot be derived, the night is shorter than an epoch, or the model cannot
        stage.
    """
    recording = open_night(night, require_stager(model), unit=unit, sfreq=sfreq)
    return stage(recording, model, channels, bad_share=bad_share).dataset


@dataclass(frozen=True)
class StagedNight:
    """A night that was staged.

    Attributes
    ----------
    dataset : xarray.Dataset
        As returned by ``stage_night``.
    record : Record
        The prepared night.
    card : Card
        The card that prepared it.
    """

    dataset: xr.Dataset
    record: Record
    card: Card


def stage(
    recording: Recording,
    model: Model,
    channels: Channels | None = None,
    *,
    bad_share: float = BAD_SHARE,
) -> StagedNight:
    """Stage a recording; arguments and errors as of ``stage_night``."""
    cards = staging_cards(require_stager(model), channels)
    _check_channels(recording, cards)
    parts = [
        stage_record(prepare_recording(recording, card), card, model, bad_share=bad_share)
        for card in cards
    ]
    first = parts[0]
    dataset = first.dataset
    if len(parts) > 1:
        stack = np.stack([part.dataset["probability"].values for part in parts])
        dataset["probability"] = (("epoch", "class"), stack.mean(0))
        dataset["hypnogram"] = ("epoch", stack.mean(0).argmax(1).astype(np.int8))
        bad_epochs = np.stack([part.dataset["bad"].values for part in parts])
        dataset["bad"] = ("epoch", bad_epochs.all(0))
        for key in ("montage", "warnings", "left_out"):
            lines = [line for part in parts for line in part.dataset.attrs[key]]
            dataset.attrs[key] = list(dict.fromkeys(lines))
    dataset.attrs["averaged"] = len(parts)
    dataset.attrs["source"] = recording.path.name
    dataset.attrs["start"] = "" if recording.start is None else recording.start.isoformat()
    return StagedNight(dataset, first.record, first.card)


def _check_channels(recording: Recording, cards: Sequence[Card]) -> None:
    """Refuse a night that lacks channels, with the remedy."""
    for card in cards:
        try:
            montage(recording.names, card.channels, card.aliases, card.sources)
        except ValueError as error:
            wanted = ", ".join(card.channels)
            raise ValueError(
                f"{recording.path.name}: {error} The model was trained on {wanted}: choose "
                f"a substitute with --channel {card.channels[0]}=NAME, or train a model on "
                "channels of the file: biopart pretrain RECIPE --set data.channels=[NAME]"
            ) from error


def stage_record(
    record: Record, card: Card, model: Model, *, bad_share: float = BAD_SHARE
) -> StagedNight:
    """Stage a night prepared with a card; ``source`` and ``start`` stay empty."""
    about = require_stager(model)
    epoch = round(card.epoch_s * card.sfreq_hz)
    segments, size = record.bad.reshape(-1, 2), model.encoder.shape[0]
    windows = windows_of(as_trained(record.signal, about.normalise), size=size, epoch=epoch)
    length = record.signal.shape[1]
    touched = touches_bad(segments, len(windows), epoch=epoch, size=size, length=length)
    logits = logits_of(model, windows, touched)
    marked = np.zeros(len(logits) * epoch, dtype=bool)
    for start, stop in segments.tolist():
        marked[start:stop] = True
    bad = marked.reshape(len(logits), epoch).mean(axis=1) > bad_share
    probability = softmax(logits / about.temperature, axis=1)
    dataset = xr.Dataset(
        {
            "probability": (("epoch", "class"), probability.astype(np.float32)),
            "hypnogram": ("epoch", probability.argmax(1).astype(np.int8)),
            "onset_s": ("epoch", np.arange(len(logits)) * card.epoch_s),
            "bad": ("epoch", bad),
        },
        coords={"class": list(about.label_names)},
        attrs={
            "source": "",
            "start": "",
            "epoch_s": card.epoch_s,
            "bad_share": bad_share,
            "temperature": about.temperature,
            "averaged": 1,
            **{key: record.attributes.get(key, []) for key in ("montage", "warnings", "left_out")},
            "simulated_model": about.simulated,
        },
    )
    return StagedNight(dataset, record, card)


def windows_of(signal: NDArray[np.int16], *, size: int, epoch: int) -> NDArray[np.int16]:
    """Cut a window in the middle of each epoch, (C, T) -> (epoch, C, size).

    What lies beyond the recording is -32768. The windows are a view of the signal, not to be
    written to, where none is longer than an epoch.

    Examples
    --------
    >>> windows_of(np.arange(6, dtype=np.int16)[None], size=4, epoch=3)[:, 0].tolist()
    [[-32768, 0, 1, 2], [2, 3, 4, 5]]
    """
    count = signal.shape[1] // epoch
    room = max(0, (size - epoch + 1) // 2)
    if room:
        signal = np.pad(signal, ((0, 0), (room, room)), constant_values=MISSING)
    first = room + (epoch - size) // 2
    windows = np.lib.stride_tricks.sliding_window_view(signal, size, axis=1)
    cut: NDArray[np.int16] = windows[:, first::epoch][:, :count].transpose(1, 0, 2)
    return cut


@torch.no_grad()
def logits_of(
    model: Model, windows: NDArray[np.int16], touched: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the logits (epoch, classes) of the windows (epoch, C, size) of a night in order.

    Windows that touch a bad segment, bool (epoch,), are left out of the context of others.
    """
    net, single = model.net, model.single
    assert single is not None
    parts = []
    for start in range(0, len(windows), BATCH):
        values = torch.from_numpy(windows[start : start + BATCH].copy()).to(model.device)
        values = model.normalise(values)
        parts.append((single if model.context == 1 else single.embed)(values).float())
    logits = torch.cat(parts)
    if isinstance(net, SequenceClassifier):
        around = offsets(net.context)
        rows = np.arange(len(windows))[:, None] + around
        present = torch.from_numpy(attended(rows, touched) | (around == 0))
        inside = torch.from_numpy(rows.clip(0, len(windows) - 1))
        logits = net.classify(logits, inside, present)
    array: NDArray[np.float32] = logits.cpu().numpy()
    return array


def require_stager(model: Any) -> About:
    """Return what a model was trained on; ValueError if it cannot stage recordings."""
    if not isinstance(model, Model):
        raise ValueError("the model has no record of its training; load it with biopart.load(RUN)")
    if model.about.sfreq_hz is None:
        raise ValueError("the model was trained on images; stage needs one trained on recordings")
    if model.about.card is None:
        raise ValueError(
            "the model does not state how its recordings were prepared; fine-tune it again with "
            "this version"
        )
    if model.single is None:
        raise ValueError("these weights are of an encoder, which has no classes; fine-tune it")
    return model.about


def staging_cards(about: About, channels: Channels | None = None) -> list[Card]:
    """Return the cards that prepare a night like the model's training data, without labels.

    Parameters
    ----------
    about : About
        ``about`` of the model.
    channels : mapping, optional
        The model's channel -> the channel to use; several give a card for each combination.

    Raises
    ------
    ValueError
        If the model lacks a channel, or there are too many combinations.
    """
    chosen = {
        name: [source] if isinstance(source, str) else list(source)
        for name, source in (channels or {}).items()
    }
    unknown = [name for name in chosen if name not in about.channels]
    if unknown:
        raise ValueError(
            f"the model has no channel {', '.join(unknown)}; it was trained on "
            f"{', '.join(about.channels)}"
        )
    combinations = list(product(*chosen.values()))
    if len(combinations) > MOST_COMBINATIONS:
        raise ValueError(
            f"the channels given make {len(combinations)} combinations to average; give at most "
            f"{MOST_COMBINATIONS}"
        )
    values = dict(about.card or {})
    values |= {"labels": {"kind": "none"}, "channels": list(about.channels)}
    cards = []
    for sources in combinations:
        channel_sources = dict(values.get("sources", {})) | dict(zip(chosen, sources, strict=True))
        cards.append(checked(Card, values | {"sources": channel_sources}, "the model's card"))
    return cards


def open_night(night: Any, about: About, *, unit: str | None, sfreq: float | None) -> Recording:
    """Open a night of any kind as a recording."""
    if isinstance(night, Recording):
        return night
    if isinstance(night, str | Path):
        return open_recording(Path(night), staging_cards(about)[0].reading)
    if hasattr(night, "info") and hasattr(night, "get_data"):
        from biopart.signals.readers.mne_formats import recording_of_raw

        return recording_of_raw(night)
    names = list(about.channels)
    if isinstance(night, xr.DataArray):
        unit, sfreq = unit or night.attrs.get("units"), sfreq or night.attrs.get("sfreq_hz")
        if "channel" in night.coords:
            names = [str(name) for name in night["channel"].values]
    if unit is None or sfreq is None:
        raise ValueError(
            "an array states neither unit nor rate; give unit= (uV, mV or V) and sfreq="
        )
    return recording_of_array(np.asarray(night), names, sfreq_hz=float(sfreq), unit=unit)
