"""A night's signal: its spectrum over time, and single epochs of it."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from matplotlib.figure import Figure
from scipy import signal as dsp

from biopart.figures.drawing import DPI, GREY, PALETTE, WIDTH_IN, Array, plain
from biopart.figures.predictions import on_clock

_HIGHEST_HZ = 30.0


def spectrogram(
    signal: Array,
    confidence: Array,
    bad: Array,
    *,
    sfreq_hz: float,
    epoch_s: float,
    start: datetime | None,
) -> Figure:
    """Draw the power of a signal over the night, and how sure a model was of each epoch.

    Parameters
    ----------
    signal
        One channel (T,), any unit.
    confidence
        Largest probability of each epoch (E,).
    bad
        Epochs (E,), bool, that touch a flat, clipped or missing stretch; shaded.
    sfreq_hz, epoch_s
        Sampling rate, and length of an epoch.
    start
        Clock time of sample 0, None = unknown.
    """
    epoch = round(epoch_s * sfreq_hz)
    epochs = np.asarray(signal, np.float64)[: len(confidence) * epoch].reshape(-1, epoch)
    hz, power = dsp.welch(epochs, sfreq_hz, nperseg=min(epoch, round(4 * sfreq_hz)), axis=1)
    shown = hz <= min(_HIGHEST_HZ, sfreq_hz / 2)
    decibels = 10 * np.log10(np.maximum(power[:, shown], 1e-12)).T
    low, high = np.percentile(decibels, (5, 98))
    figure = Figure((WIDTH_IN, 3.6), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    hours = np.arange(len(confidence) + 1) * epoch_s / 3600
    edges = np.append(hz[shown], hz[shown][-1] + hz[1])
    above.pcolormesh(hours, edges, decibels, cmap="viridis", vmin=low, vmax=high, rasterized=True)
    above.set(ylabel="frequency (Hz)")
    below.stairs(confidence, hours, color=PALETTE[0])
    if np.any(bad):
        spans = below.fill_between(
            hours, np.append(bad, False), step="post", color=PALETTE[1], alpha=0.35, linewidth=0
        )
        spans.set_label("flat, clipped or missing")
        below.legend(fontsize=8, loc="lower right")
    below.set(ylim=(0, 1), xlim=(0, hours[-1]), ylabel="confidence")
    plain(below)
    on_clock(below, start)
    figure.set_label(f"Spectrogram and confidence of {len(confidence)} epochs")
    return figure


def epochs_of(
    signal: Array,
    chosen: Sequence[int],
    titles: Sequence[str],
    *,
    sfreq_hz: float,
    epoch_s: float,
) -> Figure:
    """Draw single epochs of a signal below each other.

    Parameters
    ----------
    signal
        One channel (T,) in microvolt or another unit.
    chosen
        Numbers of the epochs.
    titles
        Of each.
    sfreq_hz, epoch_s
        Sampling rate, and length of an epoch.
    """
    epoch = round(epoch_s * sfreq_hz)
    figure = Figure((WIDTH_IN, 1.15 * len(chosen) + 0.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axis, number, title in zip(axes, chosen, titles, strict=True):
        part = np.asarray(signal)[number * epoch : (number + 1) * epoch]
        axis.plot(np.arange(len(part)) / sfreq_hz, part, color=GREY, linewidth=0.6)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set(xlim=(0, epoch_s))
        plain(axis)
    axes[-1].set_xlabel("time in the epoch (s)")
    figure.set_label(f"{len(chosen)} epochs: {'; '.join(titles)}")
    return figure
