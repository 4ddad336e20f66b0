"""Relations of all pairs of patches, and what follows of them along a signal."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from biopart.figures.drawing import DPI, GREY, PALE, PALETTE, WIDTH_IN, Array, plain


def matrices(truth: Array, predicted: Array, starts: Array, axes: Sequence[str]) -> Figure:
    """Draw the relations of all pairs: true, predicted, and predicted the other way round.

    Parameters
    ----------
    truth, predicted
        Translations (K, K, N) from row to column, in patch sizes.
    starts
        Starts of the patches (K, N), by which rows and columns are sorted, axis by axis.
    axes
        Names of the N axes.
    """
    names = ("true R(i, j)", "predicted R(i, j)", "predicted -R(j, i)")
    n = len(axes)
    figure = Figure((WIDTH_IN, 2.9 * n), dpi=DPI, layout="constrained")
    for row, axis_name in enumerate(axes):
        order = np.argsort(starts[:, row], kind="stable")
        limit = float(np.abs(truth[..., row]).max())
        pairs = (truth[..., row], predicted[..., row], -predicted[..., row].T)
        panels = []
        for column, (name, values) in enumerate(zip(names, pairs, strict=True)):
            panel = figure.add_subplot(n, 3, 3 * row + column + 1)
            shown = values[np.ix_(order, order)]
            image = panel.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
            panel.set_title(f"{name}, along {axis_name}" if n > 1 else name, fontsize=9)
            panel.set(xticks=[], yticks=[], xlabel="target j", ylabel="reference i")
            panels.append(panel)
        figure.colorbar(image, ax=panels, label="patch sizes", shrink=0.9)
    error = float(np.abs(predicted - truth).mean())
    figure.set_label(
        f"Matrices of the relations of {len(starts)} patches, reference in rows and target in "
        f"columns, sorted by where they lie: {', '.join(names)}; {error:.2g} patch sizes mean error"
    )
    return figure


def scattered(
    window: Array, starts: Array, size: int, spread: Array, *, hinted: Array, sfreq_hz: float
) -> Figure:
    """Draw a signal and, under it, the spread of the places of its patches.

    Parameters
    ----------
    window
        Signal (T,), any unit.
    starts
        Starts of the patches (K,) in samples.
    size
        Length of a patch in samples.
    spread
        Of each patch (K,), in patch sizes.
    hinted
        Patches (K,), bool, whose position was given; drawn pale.
    sfreq_hz
        Sampling rate.
    """
    figure = Figure((WIDTH_IN, 3.4), dpi=DPI, layout="constrained")
    above = figure.add_subplot(2, 1, 1)
    below = figure.add_subplot(2, 1, 2, sharex=above)
    above.plot(np.arange(len(window)) / sfreq_hz, window, color=GREY, linewidth=0.6)
    above.set(yticks=[], ylabel="signal")
    for given, colour, name in ((True, PALE, "position given"), (False, PALETTE[0], "not given")):
        own = hinted == given
        if own.any():
            left, right = starts[own] / sfreq_hz, (starts[own] + size) / sfreq_hz
            below.hlines(spread[own], left, right, color=colour, linewidth=2, label=name)
    if hinted.any():
        below.legend(frameon=False, fontsize=8)
    below.set(xlabel="time (s)", ylabel="spread (patch sizes)", ylim=(0, None))
    plain(above)
    plain(below)
    figure.set_label(
        f"A signal over {len(window) / sfreq_hz:g} s, and below it the spread of the places of its "
        f"{len(starts)} patches in patch sizes: {_span(spread)}"
    )
    return figure


def stretched(
    starts: Array, sizes: Array, placed: Array, found: Array, *, sfreq_hz: float
) -> Figure:
    """Draw stretches of several lengths where and as long as they are, and as predicted.

    Parameters
    ----------
    starts, sizes
        True starts and lengths (K,) in samples.
    placed, found
        Predicted starts and lengths (K,) in samples.
    sfreq_hz
        Sampling rate.
    """
    figure = Figure((WIDTH_IN, 3.2), dpi=DPI, layout="constrained")
    axis = figure.add_subplot()
    order = np.argsort(starts, kind="stable")
    rows = np.arange(len(order))
    for first, length, shift, colour, name in (
        (starts, sizes, 0.0, PALE, "cut"),
        (placed, found, 0.35, PALETTE[0], "as the model puts it"),
    ):
        left = first[order] / sfreq_hz
        axis.hlines(rows + shift, left, left + length[order] / sfreq_hz, color=colour, label=name)
    axis.set(xlabel="time (s)", ylabel="patches", yticks=[])
    axis.legend(frameon=False, fontsize=8)
    plain(axis)
    error_s = float(np.abs(placed - starts).mean()) / sfreq_hz
    figure.set_label(
        f"{len(starts)} patches of several lengths as lines over time, where they were cut and as "
        f"the model puts them: {error_s:.2g} s mean error of the start"
    )
    return figure


def _span(values: Array) -> str:
    return f"{values.min():.2g} to {values.max():.2g}, mean {values.mean():.2g}"
