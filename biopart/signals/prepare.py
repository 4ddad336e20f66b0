"""Prepare an opened recording for a store: montage, resampling, band-pass, labels.

Order: the source's integers -> physical values -> resample (soxr, HQ) -> band-pass (Butterworth
as second-order sections, forward-backward) -> epochs -> int16. The whole recording is filtered
before it is cut: filtered per window, edge transients would tell a network where the edge is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal as dsp

from biopart.codes import MISSING
from biopart.signals.bad import BadSamples, bad_samples, segments
from biopart.signals.events import events_of
from biopart.signals.labels import labels
from biopart.signals.montage import Derivation, montage
from biopart.signals.recording import Channel, Recording, to_physical
from biopart.signals.units import MICROVOLT, is_electrode, is_known_unit, unit_name
from biopart.store.card import Card, ForcedUnit
from biopart.store.contents import Record

PLAUSIBLE_UV = (0.5, 1000.0)
NORMAL_99 = 2.5758
"""Range around the mean, in deviations, with 99 % of a normal distribution."""
ROBUST_RANGE = 600.0
"""Values beyond this many robust deviations are clipped, so that others keep resolution."""


@dataclass
class Notes:
    """What was done to a recording, and its warnings."""

    montage: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    clipped: int = 0


def prepare_recording(recording: Recording, card: Card) -> Record:
    """Prepare one recording for a store.

    Parameters
    ----------
    recording : Recording
        As opened by its reader.
    card : Card
        Channels, rate, filter, epochs and label rules.

    Returns
    -------
    Record
        signal int16 (channel, time), label int8 (epoch), bad (segment, 2); attributes with the
        montage, warnings, what was excluded and the number of clipped samples.

    Raises
    ------
    ValueError
        If a wanted channel cannot be derived, marks lie beyond the signal, or no epoch is complete.
    """
    notes = Notes(warnings=list(recording.warnings), left_out=list(recording.left_out))
    derivations = montage(recording.names, card.channels, card.aliases, card.sources)
    notes.montage = [f"{d.name} = {d.rule}" for d in derivations]
    values, bad, units = _derive(recording, derivations, card, notes)
    epoch = round(card.epoch_s * card.sfreq_hz)
    samples = values.shape[1]
    padding = max(0, epoch - samples) if card.pad_to_epoch else 0
    samples += padding
    if samples < epoch:
        raise ValueError(
            f"{recording.path.name} is {samples / card.sfreq_hz:g} s long, shorter than one epoch "
            f"of {card.epoch_s:g} s; set pad_to_epoch in the card, or a shorter epoch_s"
        )
    label = labels(recording, card, samples, notes.warnings)
    events = events_of(recording, card, samples, notes.warnings)
    values = _padded(_filtered(values, card, epoch), padding)
    bad = _padded(bad[0], padding), _padded(bad[1], padding)
    if not all(np.isfinite(row).all() for row in values):
        raise ValueError(
            f"{recording.path.name}: the filter produced values that are not finite; "
            "check its channels and the band of the card"
        )
    keep = _kept(values.shape[1], card, epoch)
    values, missing, marked = values[:, keep], bad[0][:, keep], bad[1][keep]
    tail = samples % epoch
    if tail:
        kept = "" if values.shape[1] < samples else " (stored unlabelled)"
        notes.left_out.append(f"the last {tail / card.sfreq_hz:g} s, less than an epoch{kept}")
    signal, scale = quantise(values, missing)
    notes.clipped += sum(int(np.count_nonzero(signal == end)) for end in (-32_767, 32_767))
    judged = [_judged_unit(recording, d, card) for d in derivations]
    _check_amplitude(values, card, judged, notes)
    attributes = {
        "montage": notes.montage,
        "warnings": notes.warnings,
        "left_out": notes.left_out,
        "n_clipped": notes.clipped,
        "n_unscored": int((label < 0).sum()),
        **({"padded_s": padding / card.sfreq_hz} if card.pad_to_epoch else {}),
    }
    return Record(signal, scale, label, segments(marked), attributes, units, events)


def _derive(
    recording: Recording, derivations: Sequence[Derivation], card: Card, notes: Notes
) -> tuple[NDArray[np.float32], tuple[NDArray[np.bool_], NDArray[np.bool_]], str]:
    """Read, subtract and resample.

    Returns values (C, T); missing samples (C, T) and bad ones of any channel (T,); the unit.
    """
    names = sorted({n for d in derivations for n in (d.plus, d.minus) if n is not None})
    channels = {name: recording.channels[recording.names.index(name)] for name in names}
    for d in derivations:
        if d.minus is not None:
            _check_pair(d.name, channels[d.plus], channels[d.minus], card)
    for channel in channels.values():
        _check_rate(channel, card, notes)
        _check_unit(channel, card, notes)
    digital = dict(zip(names, recording.digital(names), strict=True))
    marks: dict[str, BadSamples] = {}  # of the channels in use: two bytes per sample
    bad_seconds: dict[str, str] = {}
    units = {_unit(channels[d.plus], card) for d in derivations}
    length = min(_resampled_length(channels[d.plus], card) for d in derivations)
    # One array for every step: the first write to a night's memory costs as much as a step.
    values = np.empty((len(derivations), length), dtype=np.float32)
    absent, bad = np.zeros(values.shape, dtype=bool), np.zeros(length, dtype=bool)
    for place, d in enumerate(derivations):
        for name in {d.plus, d.minus or d.plus} - set(marks):
            marks[name] = bad_samples(digital[name], channels[name], flat_s=card.flat_s)
            bad_seconds[name] = _seconds_bad(channels[name], marks[name])
            notes.clipped += marks[name].clipped
        row = _microvolt(recording, d.plus, digital[d.plus], card)
        gone, poor = marks[d.plus].missing, marks[d.plus].marked
        if d.minus is not None:
            row = row - _microvolt(recording, d.minus, digital[d.minus], card)
            gone, poor = gone | marks[d.minus].missing, poor | marks[d.minus].marked
        rate = channels[d.plus].sfreq_hz
        values[place] = resample(bridged(row, gone), rate, card.sfreq_hz)[:length]
        _mark_resampled(absent[place], gone, rate, card.sfreq_hz)
        _mark_resampled(bad, poor, rate, card.sfreq_hz)
        later = {n for other in derivations[place + 1 :] for n in (other.plus, other.minus)}
        for name in {
            d.plus,
            d.minus or d.plus,
        } - later:  # a night of one channel is tens of megabytes
            del digital[name], marks[name]
    notes.warnings += [f"{name}: {bad_seconds[name]}" for name in names if bad_seconds[name]]
    electrical = units <= set(MICROVOLT)
    unit = "uV" if electrical else units.pop() if len(units) == 1 else "mixed"
    return values, (absent, bad), unit


def _seconds_bad(channel: Channel, marks: BadSamples) -> str:
    """State how many seconds of a channel are flat, missing or clipped; empty if none."""
    seconds = {reason: count / channel.sfreq_hz for reason, count in marks.stretches.items()}
    parts = [f"{round(s, 1 if s >= 1 else 4):g} s {reason}" for reason, s in seconds.items() if s]
    return ", ".join(parts)


def _check_pair(name: str, plus: Channel, minus: Channel, card: Card) -> None:
    """Refuse a difference of channels with different rates or incomparable units."""
    units = {_unit(plus, card), _unit(minus, card)}
    if plus.sfreq_hz != minus.sfreq_hz:
        kind, values = "sampling rates", f"{plus.sfreq_hz:g} and {minus.sfreq_hz:g} Hz"
    elif len(units) > 1 and not units <= set(MICROVOLT):
        kind, values = "units", " and ".join(sorted(unit or "none" for unit in units))
    else:
        return
    raise ValueError(
        f"{name}: {plus.name} and {minus.name} have different {kind}, {values}, so they cannot "
        "be subtracted; choose another channel or alias"
    )


def _microvolt(
    recording: Recording, name: str, digital: NDArray[np.integer], card: Card
) -> NDArray[np.float32]:
    """Return physical values as float32, voltages in microvolts."""
    channel = recording.channels[recording.names.index(name)]
    values = to_physical(digital, channel).astype(np.float32, copy=False)
    factor = MICROVOLT.get(_unit(channel, card), 1.0)
    return values if factor == 1 else values * np.float32(factor)


def _unit(channel: Channel, card: Card) -> str:
    """Return the unit of a channel: the card's if forced, else the file's, else the card's."""
    if isinstance(card.unit, ForcedUnit):
        return unit_name(card.unit.force)
    return channel.unit or unit_name(card.unit or "")


def _check_rate(channel: Channel, card: Card, notes: Notes) -> None:
    """Refuse a channel whose rate is too low for the card's band, or accept it with a warning."""
    name, rate, (low, high) = channel.name, channel.sfreq_hz, card.band_hz
    if rate >= card.sfreq_hz:
        return
    if high is None or rate >= 2 * high:
        notes.warnings.append(
            f"{name} is sampled at {rate:g} Hz and was upsampled to {card.sfreq_hz:g} Hz: it has "
            f"no content above {rate / 2:g} Hz"
        )
        return
    sentence = (
        f"{name} is sampled at {rate:g} Hz, too low for the band of {low or 0:g} to {high:g} Hz"
    )
    if card.low_rate == "refuse":
        raise ValueError(f"{sentence}; choose another channel, or accept it with low_rate: keep")
    notes.warnings.append(f"{sentence}: it has no content above {rate / 2:g} Hz")


def _check_unit(channel: Channel, card: Card, notes: Notes) -> None:
    """Warn if a unit is unknown, or if an electrode has none."""
    unit = _unit(channel, card)
    if not is_known_unit(unit):
        notes.warnings.append(
            f"{channel.name} has the unknown unit {unit!r}; its values were kept, state the "
            "correct unit with unit: {force: uV}"
        )
    elif not unit and is_electrode(channel.name):
        notes.warnings.append(
            f"{channel.name} states no unit; its values were kept, state one with unit: uV"
        )


def _judged_unit(recording: Recording, derivation: Derivation, card: Card) -> str | None:
    """Return the unit to judge a channel's amplitude as a voltage; None = not a voltage."""
    unit = _unit(recording.channels[recording.names.index(derivation.plus)], card)
    if unit in MICROVOLT:
        return "uV"
    electrode = is_electrode(derivation.name) or is_electrode(derivation.plus)
    return None if is_known_unit(unit) and (unit or not electrode) else unit or "of no unit"


def bridged(values: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Interpolate missing samples linearly, so that filters do not spread them.

    Examples
    --------
    >>> bridged(np.float32([0, 9, 2]), np.array([False, True, False])).tolist()
    [0.0, 1.0, 2.0]
    """
    if not missing.any():
        return values
    if missing.all():
        return np.zeros_like(values)
    known = np.flatnonzero(~missing)
    values = values.copy()
    values[missing] = np.interp(np.flatnonzero(missing), known, values[known])
    return values


def resample(values: NDArray[np.float32], from_hz: float, to_hz: float) -> NDArray[np.float32]:
    """Resample a signal (time,) with soxr's HQ filter; an equal rate returns it unchanged.

    Examples
    --------
    >>> resample(np.ones(400, np.float32), 200.0, 100.0).shape
    (200,)
    """
    if from_hz == to_hz:
        return values
    resampled: NDArray[np.float32] = soxr.resample(values, from_hz, to_hz, quality="HQ")
    return resampled[: round(len(values) * to_hz / from_hz)]


def _resampled_length(channel: Channel, card: Card) -> int:
    """Return how many samples ``resample`` makes of a channel."""
    return round(channel.n_samples * card.sfreq_hz / channel.sfreq_hz)


def _mark_resampled(
    result: NDArray[np.bool_], mask: NDArray[np.bool_], from_hz: float, to_hz: float
) -> None:
    """Transfer marked samples to another rate; a sample is marked if any source sample is."""
    for start, stop in segments(mask):
        first = int(np.floor(start * to_hz / from_hz))
        result[first : int(np.ceil(stop * to_hz / from_hz))] = True


def band_pass(
    values: NDArray[np.float32], card: Card, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Filter signals (..., time) forward and backward with the card's Butterworth sections.

    Sections, not (b, a): at 0.1 Hz the latter is unstable and gives NaN. ``out`` receives the
    result and may be ``values`` itself.
    """
    low, high = card.band_hz
    if low is None and high is None:
        return values
    kind, edges = ("bandpass", [low, high]) if low and high else ("lowpass", high)
    if high is None:
        kind, edges = "highpass", low
    sections = dsp.butter(card.filter_order, edges, kind, fs=card.sfreq_hz, output="sos")
    out = np.empty_like(values) if out is None else out
    for row, filtered in zip(
        values.reshape(-1, values.shape[-1]), out.reshape(-1, values.shape[-1]), strict=True
    ):
        usual = 3 * (2 * len(sections) + 1)
        filtered[:] = dsp.sosfiltfilt(
            sections, row, padlen=None if len(row) > usual else len(row) - 1
        )
    return out


def _filtered(values: NDArray[np.float32], card: Card, epoch: int) -> NDArray[np.float32]:
    """Filter the recording, or each epoch separately if the card says so."""
    if card.filter_scope == "recording" or values.shape[1] < epoch:
        return band_pass(values, card, out=values)
    whole = values.shape[1] // epoch * epoch
    epochs = band_pass(values[:, :whole].reshape(len(values), -1, epoch), card)
    return epochs.reshape(len(values), whole)


def _padded(values: NDArray[Any], padding: int) -> NDArray[Any]:
    """Append zeros (False) to the last axis: silence that is not marked bad."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)]) if padding else values


def _kept(samples: int, card: Card, epoch: int) -> slice | NDArray[np.int64]:
    """Return which samples are kept: all, or each epoch without its ends if the card says so."""
    cut = round(card.trim_s * card.sfreq_hz)
    if cut == 0:
        return slice(0, samples)
    within = np.arange(cut, epoch - cut)
    return (np.arange(samples // epoch)[:, None] * epoch + within).ravel()


def quantise(
    values: NDArray[np.float32], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Store values as int16 with a scale per channel.

    One scale for all channels if theirs are within a factor of four. A scale covers 600 robust
    deviations around the median; values beyond are clipped. The deviation is that of a normal
    distribution with the same 99th percentile: a channel that was unplugged for most of the night
    has a median deviation near 0, and its real signal would be clipped.

    Parameters
    ----------
    values : (C, T), float
        Finite physical values.
    missing : (C, T), bool
        Samples that become -32768.

    Returns
    -------
    int16 (C, T) and float (C,)
        ``values ~ integers * scale``.
    """
    peak = np.maximum(values.max(axis=1), -values.min(axis=1)).astype(np.float64)
    sparse = values[:, :: max(1, values.shape[1] // 20_000)]
    middle = np.median(sparse, axis=1)
    robust = np.quantile(np.abs(sparse - middle[:, None]), 0.99, axis=1) / NORMAL_99
    wide = np.abs(middle) + ROBUST_RANGE * robust
    limit = np.where(robust > 0, np.minimum(peak, wide), peak)
    scale = np.where(limit > 0, limit, 1.0) / 32_760
    if scale.max() <= 4 * scale.min():
        scale = np.full_like(scale, scale.max())
    signal = np.empty(values.shape, dtype=np.int16)
    for row, integers, step in zip(values, signal, scale, strict=True):
        scaled = row * np.float32(1 / step)
        np.rint(scaled, out=scaled)
        np.clip(scaled, -32_767, 32_767, out=scaled)
        integers[:] = scaled
    signal[missing] = MISSING
    return signal, scale


def _check_amplitude(
    values: NDArray[np.float32], card: Card, units: Sequence[str | None], notes: Notes
) -> None:
    """Warn if the deviation of a voltage, or of a likely voltage, is not physiological."""
    low, high = PLAUSIBLE_UV
    for name, unit, row in zip(card.channels, units, values, strict=True):
        deviation = float(row.std())
        if unit is not None and not low <= deviation <= high:
            notes.warnings.append(
                f"{name} has a standard deviation of {deviation:.3g} {unit}, outside "
                f"{low:g}-{high:g} uV: check its unit"
            )
