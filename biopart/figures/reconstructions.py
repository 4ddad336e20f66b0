"""Windows put together again from predicted relations."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart.figures.drawing import DPI, GREY, PALE, WIDTH_IN, Array, plain


def reconstruction(
    window: Array, starts: Array, placed: Array, size: int, *, sfreq_hz: float
) -> Figure:
    """Draw one window, and its patches where the predicted relations put them.

    Parameters
    ----------
    window
        Signal (C, T), any unit; channels are drawn below each other.
    starts
        True starts of the K patches (K,), in samples of the window.
    placed
        Predicted starts (K,), in samples, with the same origin (the caller moves the mean).
    size
        Length of a patch in samples.
    sfreq_hz
        Sampling rate.

    Raises
    ------
    ValueError
        If a patch does not lie inside the window or the numbers of places differ.
    """
    starts, placed = np.asarray(starts, np.int64), np.asarray(placed, np.float64)
    _check_places(window, starts, placed, size)
    figure = Figure((WIDTH_IN, 4.6), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[2.1, 1])
    above, scatter = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    below = figure.add_subplot(grid[1, 0], sharex=above, sharey=above)
    lanes = _lanes(window)
    shades = colormaps["viridis"](0.95 * starts / max(window.shape[1] - size, 1))
    for axis, places in ((above, starts), (below, placed)):
        axis.plot(np.arange(lanes.shape[1]) / sfreq_hz, lanes.T, color=PALE, linewidth=0.5)
        for start, place, shade in zip(starts, places, shades, strict=True):
            times = (place + np.arange(size)) / sfreq_hz
            axis.plot(times, lanes[:, start : start + size].T, color=shade, linewidth=1)
        axis.set(yticks=[], ylabel=f"{len(lanes)} channel{'s' if len(lanes) > 1 else ''}")
        plain(axis)
    above.set_title("patches where they were cut", fontsize=10)
    below.set_title("patches where the model puts them (grey: the signal)", fontsize=10)
    below.set_xlabel("time (s)")
    length_s = window.shape[1] / sfreq_hz
    _place_scatter(scatter, starts / sfreq_hz, placed / sfreq_hz, shades, length_s=length_s)
    error_s = float(np.abs(placed - starts).mean()) / sfreq_hz
    figure.set_label(
        f"Signals of one window of {length_s:g} s with its {len(starts)} patches, where they were "
        "cut and where the model puts them; beside them a scatter plot of predicted against true "
        f"start: {error_s:.2g} s mean error"
    )
    return figure


def _place_scatter(
    axis: Axes, true_s: Array, placed_s: Array, shades: Array, *, length_s: float
) -> None:
    axis.plot([0, length_s], [0, length_s], color=GREY, linestyle="--", linewidth=0.8)
    axis.scatter(true_s, placed_s, c=shades, s=28, edgecolors=GREY, linewidths=0.5)
    low, high = min(0.0, *placed_s), max(length_s, *placed_s)
    axis.set(xlim=(low, high), ylim=(low, high), box_aspect=1)
    axis.locator_params(axis="y", nbins=5)  # more would run into each other below
    axis.set_xticks(axis.get_yticks())
    margin = 0.04 * (high - low)  # so that no point is cut in half
    axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    axis.set(xlabel="true start (s)", ylabel="predicted start (s)")
    plain(axis)


def _lanes(window: Array) -> NDArray[np.float64]:
    """Bring channels to one scale and set them below each other, the first on top."""
    values = np.asarray(window, np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    spread = max(float(values.std()), 1e-12)
    lanes: NDArray[np.float64] = values / (6 * spread) - np.arange(len(values))[:, None]
    return lanes


def _check_places(window: Array, starts: Array, placed: Array, size: int) -> None:
    if starts.shape != placed.shape:
        raise ValueError(f"{len(starts)} true and {len(placed)} predicted starts; give as many.")
    if window.ndim != 2 or starts.min() < 0 or starts.max() + size > window.shape[1]:
        raise ValueError(
            f"Patches of {size} samples start at {starts.min()} to {starts.max()} in a window of "
            f"shape {window.shape}; they must lie inside a window (channels, samples)."
        )
