"""Maps over images and signals: attention, and the similarity of places."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from biopart.figures.drawing import DPI, GREY, PALETTE, WIDTH_IN, Array, cycle, plain


def over_image(
    pixels: Array, maps: Mapping[str, Array], *, marked: Sequence[int | None], label: str
) -> Figure:
    """Draw an image, and maps of its places beside it.

    Parameters
    ----------
    pixels
        Image (y, x, 3) or (y, x), uint8.
    maps
        Title to values (rows, columns), a place each.
    marked
        For each map the row-major place that is outlined, or None.
    label
        What the maps show, for readers who do not see them.

    Raises
    ------
    ValueError
        If there is no map, or not one mark for each.
    """
    if not maps or len(marked) != len(maps):
        raise ValueError(f"{len(maps)} maps and {len(marked)} marks were given; give one for each.")
    figure = Figure((WIDTH_IN, WIDTH_IN / (1 + len(maps)) + 0.4), dpi=DPI, layout="constrained")
    height, width = pixels.shape[:2]
    axis = figure.add_subplot(1, 1 + len(maps), 1)
    axis.imshow(pixels, cmap=None if pixels.ndim == 3 else "gray")
    axis.set_title("the image", fontsize=9)
    axis.set_axis_off()
    for number, ((title, values), place) in enumerate(zip(maps.items(), marked, strict=True), 2):
        axis = figure.add_subplot(1, 1 + len(maps), number)
        axis.imshow(values, cmap="viridis", extent=(0, width, height, 0), interpolation="nearest")
        if place is not None:
            row, column = divmod(place, values.shape[1])
            high, wide = height / values.shape[0], width / values.shape[1]
            corner = (column * wide, row * high)
            axis.add_patch(
                Rectangle(corner, wide, high, fill=False, edgecolor=PALETTE[1], linewidth=2)
            )
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    figure.set_label(label)
    return figure


def over_signal(
    signal: Array, lines: Mapping[str, Array], *, sfreq_hz: float, ylabel: str, label: str
) -> Figure:
    """Draw a signal, and a value for each of its places below, as lines.

    Parameters
    ----------
    signal
        Samples (T,).
    lines
        Name to values (K,), of K places of equal length.
    sfreq_hz
        Samples per second.
    ylabel, label
        What the values are, and what the figure shows.

    Raises
    ------
    ValueError
        If there is no line.
    """
    if not lines:
        raise ValueError("There is no line to draw below the signal.")
    figure, seconds = Figure((WIDTH_IN, 4.2), dpi=DPI, layout="constrained"), len(signal) / sfreq_hz
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(np.arange(len(signal)) / sfreq_hz, signal, color=GREY, linewidth=0.6)
    above.set_ylabel("signal")
    for (name, values), colour in zip(lines.items(), cycle(len(lines)), strict=True):
        edges = np.linspace(0, seconds, len(values) + 1)
        below.stairs(values, edges, color=colour, label=name, baseline=None)
    below.set(xlabel="seconds", ylabel=ylabel, xlim=(0, seconds))
    below.legend(frameon=False, fontsize=8, ncols=4)
    for axis in (above, below):
        plain(axis)
    figure.set_label(label)
    return figure


def alike(signal: Array, similarity: Array, *, sfreq_hz: float, label: str) -> Figure:
    """Draw a signal, and the similarity of all pairs of its places below.

    Parameters
    ----------
    signal
        Samples (T,).
    similarity
        Cosines (K, K).
    sfreq_hz
        Samples per second.
    label
        What the figure shows.
    """
    figure, seconds = Figure((6.0, 7.0), dpi=DPI, layout="constrained"), len(signal) / sfreq_hz
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 4])
    above.plot(np.arange(len(signal)) / sfreq_hz, signal, color=GREY, linewidth=0.6)
    above.set_ylabel("signal")
    plain(above)
    drawn = below.imshow(
        similarity, cmap="viridis", extent=(0, seconds, seconds, 0), interpolation="nearest"
    )
    below.set(xlabel="seconds", ylabel="seconds")
    figure.colorbar(drawn, ax=below, label="cosine", shrink=0.8)
    figure.set_label(label)
    return figure
