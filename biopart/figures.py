"""Arrays in, matplotlib figures out: curves, hypnograms, confusion, reconstructions.

Figures are made by matplotlib's object interface alone, so no window system, no global state and
no leak of open figures. Colours are Okabe & Ito's (2008), viridis and one-hue blues: safe for
colour-blind eyes.
"""

import base64
import html
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
Array = NDArray[Any]
STAGES = ("W", "N1", "N2", "N3", "R")
_FROM_TOP = ("W", "R", "N1", "N2", "N3")  # the usual order of a hypnogram
_COLOURS_FROM_TOP = ("#E69F00", "#D55E00", "#56B4E9", "#0072B2", "#1B2A49")
_GREY, _PALE = "#555555", "#BBBBBB"
_WIDTH_IN = 9.0  # a laptop's page
_DPI = 110


def training_curves(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    x: str = "step",
    labels: Mapping[str, str] | None = None,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw logged figures over time, one axis for each quantity.

    Names that end alike share an axis: `train/loss` and `validation/loss` are two lines on the
    axis `loss`.

    Parameters
    ----------
    rows
        One mapping per logged step, as in `metrics.jsonl`; a row may lack some names.
    names
        What to draw, `part/quantity`.
    x
        Key of the horizontal axis.
    labels
        Quantity to the text on its vertical axis, with its unit (default: the quantity).
    references
        Quantity to a level that is drawn dashed, as chance.

    Raises
    ------
    ValueError
        If no name is given or a name occurs in no row.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition("/")[2], []).append(name)
    if not groups:
        raise ValueError("No name was given; name what to draw, such as train/loss.")
    figure, axes = _panels(len(groups))
    for axis, (quantity, members) in zip(axes, groups.items(), strict=True):
        for colour, name in zip(_cycle(len(members)), members, strict=True):
            _curve(axis, rows, x, name, colour=colour)
        if references and quantity in references:
            axis.axhline(references[quantity], color=_GREY, linestyle="--", label="chance")
        axis.set(xlabel=x, ylabel=(labels or {}).get(quantity, quantity))
        axis.legend(frameon=False)
        _plain(axis)
    figure.set_label(f"Curves of {', '.join(names)} over {x}")
    return figure


def _curve(
    axis: Axes, rows: Sequence[Mapping[str, Any]], x: str, name: str, *, colour: str
) -> None:
    points = [(row[x], row[name]) for row in rows if x in row and row.get(name) is not None]
    if not points:
        known = sorted({key for row in rows for key in row})
        raise ValueError(
            f"No row holds {name} and {x}; name some of {', '.join(known) or 'nothing logged'}."
        )
    marker, label = "o" if len(points) <= 20 else "", name.rpartition("/")[0] or name
    axis.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=3.5, label=label)


def hypnogram(
    truth: Array | None,
    predicted: Array | None = None,
    probability: Array | None = None,
    label_names: Sequence[str] = STAGES,
    *,
    epoch_s: float = 30.0,
) -> Figure:
    """Draw the stages of a night: scored, predicted, and how sure the model was.

    Parameters
    ----------
    truth, predicted
        Class per epoch (E,), -1 = unscored, drawn as a gap; None = panel left out.
    probability
        (E, L) in [0, 1], rows sum to 1; drawn as a stack of areas below.
    label_names
        Names of the L classes, by index; W, R, N1, N2, N3 are drawn in this order from the top.
    epoch_s
        Length of an epoch.

    Raises
    ------
    ValueError
        If nothing is given or the numbers of epochs differ.
    """
    panels = {"scored": truth, "predicted": predicted, "probability": probability}
    given = {name: np.asarray(values) for name, values in panels.items() if values is not None}
    if len({len(values) for values in given.values()}) != 1:
        found = ", ".join(f"{len(values)} {name}" for name, values in given.items()) or "none"
        raise ValueError(f"Epochs given: {found}; give at least one kind, and as many of each.")
    order = sorted(range(len(label_names)), key=lambda index: _rank(label_names[index]))
    figure = Figure((_WIDTH_IN, 1.9 * len(given) + 0.4), dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(given), sharex=True, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, given.items(), strict=True):
        if name == "probability":
            _hypnodensity(axis, values, label_names, order, epoch_s=epoch_s)
        else:
            _stage_steps(axis, values, label_names, order, epoch_s=epoch_s)
            axis.set_ylabel(name)
        _plain(axis)
    axes[-1].set_xlabel("time since the start of the recording (h)")
    figure.set_label(f"Hypnogram of {len(next(iter(given.values())))} epochs: {', '.join(given)}")
    return figure


def _rank(name: str) -> int:
    return _FROM_TOP.index(name) if name in _FROM_TOP else len(_FROM_TOP)


def _colours(label_names: Sequence[str]) -> list[str]:
    stages = dict(zip(_FROM_TOP, _COLOURS_FROM_TOP, strict=True))
    rest = _cycle(len(label_names))
    return [stages.get(name, colour) for name, colour in zip(label_names, rest, strict=True)]


def _stage_steps(
    axis: Axes, stages: Array, names: Sequence[str], order: list[int], *, epoch_s: float
) -> None:
    """Draw one grey step line, and every stage again as a thick bar in its colour."""
    if stages.max(initial=-1) >= len(names) or stages.min(initial=0) < -1:
        raise ValueError(
            f"Stages {stages.min()} to {stages.max()} were given with {len(names)} label names; "
            f"allowed are -1 (unscored) to {len(names) - 1}."
        )
    row_of = np.full(len(names) + 1, np.nan)  # the last entry serves -1
    row_of[order] = np.arange(len(names))
    rows = row_of[stages]
    hours = np.arange(len(stages) + 1) * epoch_s / 3600
    axis.step(hours, np.append(rows, rows[-1:]), where="post", color=_GREY, linewidth=0.8)
    for index, colour in enumerate(_colours(names)):
        mine = np.where(stages == index, row_of[index], np.nan)
        lines = np.stack([mine, mine, np.full(len(mine), np.nan)], axis=1).ravel()
        times = np.stack([hours[:-1], hours[1:], hours[1:]], axis=1).ravel()
        axis.plot(times, lines, color=colour, linewidth=4, solid_capstyle="butt")
    axis.set_yticks(range(len(names)), [names[index] for index in order])
    axis.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, hours[-1]))


def _hypnodensity(
    axis: Axes, probability: Array, names: Sequence[str], order: list[int], *, epoch_s: float
) -> None:
    hours = np.arange(len(probability) + 1) * epoch_s / 3600
    upwards = order[::-1]
    held = np.concatenate([probability, probability[-1:]])[:, upwards].T
    colours = np.asarray(_colours(names))[upwards]
    labels = [names[index] for index in upwards]
    axis.stackplot(hours, held, colors=colours, labels=labels, step="post", linewidth=0)
    handles, texts = axis.get_legend_handles_labels()
    axis.legend(
        handles[::-1], texts[::-1], frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    axis.set(ylim=(0, 1), xlim=(0, hours[-1]), ylabel="probability")


def confusion(matrix: Array | Sequence[Sequence[int]], label_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix: colour and percentage per row, counts below.

    Parameters
    ----------
    matrix
        Counts (L, L), rows = truth, columns = prediction; a row without windows stays blank.
    label_names
        Names of the L classes.

    Raises
    ------
    ValueError
        If the matrix is not L times L.
    """
    counts = np.asarray(matrix)
    n_classes = len(label_names)
    if counts.shape != (n_classes, n_classes):
        raise ValueError(
            f"A confusion of shape {counts.shape} was given for {n_classes} label names; "
            "give one row and one column per name."
        )
    totals = counts.sum(axis=1, keepdims=True)
    share = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    side = min(1.6 + 0.7 * n_classes, _WIDTH_IN)
    figure = Figure((side, side), dpi=_DPI, layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set_facecolor("#EEEEEE")  # shows where a row is blank
    for (row, column), part in np.ndenumerate(share):
        text = f"{part:.0%}\n{counts[row, column]}" if np.isfinite(part) else "-"
        shade = "white" if part > 0.5 else "black"
        axis.text(column, row, text, ha="center", va="center", color=shade, fontsize=9)
    axis.set_xticks(range(n_classes), label_names)
    axis.set_yticks(range(n_classes), label_names)
    axis.set(xlabel="predicted", ylabel="truth (100 % in a row)")
    axis.tick_params(length=0)
    figure.set_label(f"Confusion matrix of {', '.join(label_names)}, {counts.sum()} windows")
    return figure


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
    figure = Figure((_WIDTH_IN, 4.6), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[2.1, 1])
    above, scatter = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    below = figure.add_subplot(grid[1, 0], sharex=above, sharey=above)
    lanes = _lanes(window)
    shades = colormaps["viridis"](0.95 * starts / max(window.shape[1] - size, 1))
    for axis, places in ((above, starts), (below, placed)):
        axis.plot(np.arange(lanes.shape[1]) / sfreq_hz, lanes.T, color=_PALE, linewidth=0.5)
        for start, place, shade in zip(starts, places, shades, strict=True):
            times = (place + np.arange(size)) / sfreq_hz
            axis.plot(times, lanes[:, start : start + size].T, color=shade, linewidth=1)
        axis.set(yticks=[], ylabel=f"{len(lanes)} channel{'s' if len(lanes) > 1 else ''}")
        _plain(axis)
    above.set_title("patches where they were cut", fontsize=10)
    below.set_title("patches where the model puts them (grey: the signal)", fontsize=10)
    below.set_xlabel("time (s)")
    length_s = window.shape[1] / sfreq_hz
    _place_scatter(scatter, starts / sfreq_hz, placed / sfreq_hz, shades, length_s=length_s)
    figure.set_label(f"Reconstruction of one window from {len(starts)} patches")
    return figure


def _place_scatter(
    axis: Axes, true_s: Array, placed_s: Array, shades: Array, *, length_s: float
) -> None:
    axis.plot([0, length_s], [0, length_s], color=_GREY, linestyle="--", linewidth=0.8)
    axis.scatter(true_s, placed_s, c=shades, s=28, edgecolors=_GREY, linewidths=0.5)
    low, high = min(0.0, *placed_s), max(length_s, *placed_s)
    axis.set(xlim=(low, high), ylim=(low, high), box_aspect=1)
    axis.set_xticks(axis.get_yticks())
    axis.set(xlim=(low, high), xlabel="true start (s)", ylabel="predicted start (s)")
    _plain(axis)


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


def sample_efficiency(
    points: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    xlabel: str = "labelled persons in finetuning",
    ylabel: str = "Cohen's kappa on test persons",
) -> Figure:
    """Draw each method's figure of merit over the number of labelled persons.

    Parameters
    ----------
    points
        Method to (size, value, low, high) per size; low and high bound the shaded interval.

    Raises
    ------
    ValueError
        If there is no method or a method has no point.
    """
    if not points or not all(points.values()):
        raise ValueError(
            f"Points were given for {len(points)} methods, some or all empty; "
            "give at least one (size, value, low, high) per method."
        )
    figure = Figure((6.5, 4.2), dpi=_DPI, layout="constrained")
    axis = figure.subplots()
    for colour, (method, values) in zip(_cycle(len(points)), points.items(), strict=True):
        size, value, low, high = np.asarray(sorted(values), np.float64).T
        axis.plot(size, value, "o-", color=colour, label=method)
        axis.fill_between(size, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.vlines(size, low, high, color=colour, linewidth=0.8)
    sizes = sorted({point[0] for values in points.values() for point in values})
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.set_xticks([], minor=True)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False)
    _plain(axis)
    figure.set_label(f"Sample efficiency of {', '.join(points)}: {ylabel} over {xlabel}")
    return figure


def to_html(figure: Figure) -> str:
    """Give the figure as an `<img>` with its bytes inside and its label as text."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=1.5 * _DPI)
    data = base64.b64encode(image.getvalue()).decode("ascii")
    width = round(figure.get_size_inches()[0] * _DPI)
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(str(figure.get_label()))}" '
        f'style="width: {width}px; max-width: 100%">'
    )


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure as PNG, beside its place first, then renamed into it.

    Raises
    ------
    ValueError
        If the name does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(
            f"{path.name} was given; figures are written as PNG: end the name in .png."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(beside, format="png", dpi=1.5 * _DPI)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Lay out axes in rows of at most three."""
    columns = min(count, 3)
    n_rows = math.ceil(count / columns)
    figure = Figure((min(_WIDTH_IN, 4.5 * columns), 2.9 * n_rows), dpi=_DPI, layout="constrained")
    return figure, [figure.add_subplot(n_rows, columns, index + 1) for index in range(count)]


def _cycle(count: int) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#E6E6E6", linewidth=0.6)
    axis.set_axisbelow(True)
