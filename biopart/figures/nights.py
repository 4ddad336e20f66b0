"""A night's signal: its spectrum over time, and single epochs of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from matplotlib.figure import Figure
from scipy import signal as dsp

from biopart.figures.drawing import DPI, GREY, PALETTE, WIDTH_IN, Array, cycle, listed, plain
from biopart.figures.predictions import on_clock, shade

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
        Epochs (E,), bool, that are flat, clipped or missing; shaded in both panels.
    sfreq_hz, epoch_s
        Sampling rate, and length of an epoch.
    start
        Clock time of sample 0, None = unknown.
    """
    epoch = round(epoch_s * sfreq_hz)
    epochs = np.asarray(signal, np.float32)[: len(confidence) * epoch].reshape(-1, epoch)
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
    shade(above, bad, epoch_s)
    shade(below, bad, epoch_s)
    if np.any(bad):
        below.legend(fontsize=8, loc="lower right")
    below.set(ylim=(0, 1), xlim=(0, hours[-1]), ylabel="confidence")
    plain(below)
    on_clock(below, start)
    figure.set_label(
        f"Spectrogram: power in decibels by frequency (0 to {hz[shown][-1]:.0f} Hz) and time; "
        f"below it a line chart of the confidence of {len(confidence)} epochs: "
        f"{listed({'median': np.median(confidence), 'lowest': np.min(confidence)}, digits=2)}"
    )
    return figure


def epochs_of(
    signal: Array,
    chosen: Sequence[int],
    titles: Sequence[str],
    *,
    sfreq_hz: float,
    epoch_s: float,
    names: Sequence[str],
) -> Figure:
    """Draw single epochs of signals below each other, the channels of each on one scale.

    Parameters
    ----------
    signal
        Channels (C, T) in microvolt or another unit.
    chosen
        Numbers of the epochs.
    titles
        Of each.
    sfreq_hz, epoch_s
        Sampling rate, and length of an epoch.
    names
        Of the channels.
    """
    epoch = round(epoch_s * sfreq_hz)
    high = 0.75 + 0.4 * len(signal)
    figure = Figure((WIDTH_IN, high * len(chosen) + 0.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axis, number, title in zip(axes, chosen, titles, strict=True):
        part = np.asarray(signal)[:, number * epoch : (number + 1) * epoch]
        step = float(np.ptp(part, axis=1).max()) or 1.0
        levels = -step * np.arange(len(part))
        seconds = np.arange(part.shape[1]) / sfreq_hz
        axis.plot(seconds, (part + levels[:, None]).T, color=GREY, linewidth=0.6)
        if len(part) > 1:
            axis.set_yticks(levels, names)
            axis.set_ylabel(f"{step:.3g} per row", fontsize=8)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set(xlim=(0, epoch_s))
        plain(axis)
    axes[-1].set_xlabel("time in the epoch (s)")
    figure.set_label(
        f"Signals of {len(chosen)} epochs against time in the epoch (0 to {epoch_s:g} s), "
        f"{', '.join(names)} below each other: {'; '.join(titles)}"
    )
    return figure


def quality(
    tracks: Mapping[str, Array],
    onset_s: Array,
    *,
    epoch_s: float,
    start: datetime | None,
    bad: Array | None = None,
) -> Figure:
    """Draw tracks of every patch of a night: median and the middle 90 % of each epoch.

    Parameters
    ----------
    tracks
        Name -> values (K,), drawn below each other on a logarithmic axis.
    onset_s
        Onset of each patch in seconds (K,).
    epoch_s
        Length of an epoch.
    start
        Clock time of sample 0, None = unknown.
    bad
        Epochs (E,), bool, that are flat, clipped or missing; shaded.
    """
    words = {"spread_s": "spread (s)", "amplitude": "amplitude"}
    epoch = (np.asarray(onset_s) // epoch_s).astype(int)
    numbers, first = np.unique(epoch, return_index=True)
    figure = Figure((WIDTH_IN, 1.7 * len(tracks) + 0.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(tracks), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, values), colour in zip(axes, tracks.items(), cycle(len(tracks)), strict=True):
        groups = np.split(np.maximum(np.asarray(values), 1e-3), first[1:])
        low, middle, high = np.array([np.percentile(group, (5, 50, 95)) for group in groups]).T
        hours = numbers * epoch_s / 3600
        axis.fill_between(hours, low, high, step="post", color=colour, alpha=0.25, linewidth=0)
        axis.step(hours, middle, where="post", color=colour, linewidth=1)
        shade(axis, bad, epoch_s)
        axis.set(yscale="log", ylabel=words.get(name, name), xlim=(0, hours[-1]))
        plain(axis)
    on_clock(axes[-1], start)
    medians = {words.get(name, name): float(np.median(v)) for name, v in tracks.items()}
    figure.set_label(
        f"Line charts of {' and '.join(medians)} against time, logarithmic, {len(numbers)} epochs; "
        f"medians of the night: {listed(medians)}"
    )
    return figure
