"""Add artefacts to a recording, to measure which measures detect them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

from biopart.signals.recording import QUANTISED_MISSING, Channel, Recording, quantised

Values = NDArray[np.float64]
KINDS = ("pop", "flat", "line", "muscle", "clipped")


def with_artefacts(
    recording: Recording,
    names: Sequence[str],
    kind: str,
    *,
    onsets_s: Sequence[float],
    length_s: float,
    rng: np.random.Generator,
) -> Recording:
    """Return a recording with artefacts of one kind in some channels, at the same times in all.

    Parameters
    ----------
    recording : Recording
        Not modified.
    names : sequence of str
        Channels that get the artefacts; the result has only these channels.
    kind : str
        ``pop``: a step of ten deviations that decays with 0.5 s (an electrode that moves);
        ``flat``: the value at the onset stays; ``line``: a sine of 50 Hz with an amplitude of two
        deviations; ``muscle``: noise of 20 to 45 Hz, or to 0.45 of a lower rate, of two
        deviations; ``clipped``: what lies beyond half a deviation is cut off. The deviation is the
        channel's robust one, 1.4826 times the median distance from the median.
    onsets_s : sequence of float
        Start of each artefact, in seconds.
    length_s : float
        Duration of each artefact.
    rng : numpy.random.Generator
        Draws phases, signs and noise.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of artefact; choose one of {', '.join(KINDS)}")
    changed = []
    for name in names:
        channel = recording.channels[recording.names.index(name)]
        values = recording.physical([name])[0].astype(np.float64)
        known = values[np.isfinite(values)]
        middle = float(np.median(known))
        deviation = 1.4826 * float(np.median(np.abs(known - middle)))
        make = _maker(kind, channel.sfreq_hz, deviation, middle=middle, rng=rng)
        for onset_s in onsets_s:
            start = round(onset_s * channel.sfreq_hz)
            part = slice(start, start + round(length_s * channel.sfreq_hz))
            values[part] = make(values[part])
        changed.append((channel, *quantised(values)))
    channels = tuple(
        Channel(c.name, c.unit, c.sfreq_hz, c.n_samples, scale, missing=QUANTISED_MISSING)
        for c, _, scale in changed
    )
    return replace(
        recording, channels=channels, load=lambda indices: [changed[index][1] for index in indices]
    )


def _maker(
    kind: str, sfreq_hz: float, deviation: float, *, middle: float, rng: np.random.Generator
) -> Callable[[Values], Values]:
    """Return a function that adds the artefact to a piece of signal."""

    def pop(piece: Values) -> Values:
        decay = np.exp(-np.arange(len(piece)) / (0.5 * sfreq_hz))
        return np.asarray(piece + rng.choice((-10.0, 10.0)) * deviation * decay)

    def flat(piece: Values) -> Values:
        return np.full_like(piece, piece[0])

    def line(piece: Values) -> Values:
        phase = rng.uniform(0, 2 * np.pi)
        turns = 2 * np.pi * 50.0 * np.arange(len(piece)) / sfreq_hz
        return np.asarray(piece + 2 * deviation * np.sin(turns + phase))

    def muscle(piece: Values) -> Values:
        band = (20.0, min(45.0, 0.45 * sfreq_hz))
        sections = dsp.butter(4, band, "bandpass", fs=sfreq_hz, output="sos")
        noise = dsp.sosfilt(sections, rng.standard_normal(len(piece) + round(sfreq_hz)))
        noise = noise[round(sfreq_hz) :]  # without the filter's transient
        return np.asarray(piece + 2 * deviation * noise / noise.std())

    def clipped(piece: Values) -> Values:
        return np.clip(piece, middle - deviation / 2, middle + deviation / 2)

    makers = {"pop": pop, "flat": flat, "line": line, "muscle": muscle, "clipped": clipped}
    return makers[kind]
