"""Classes as scored and as predicted: hypnograms and confusion matrices."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from biopart.codes import STAGES
from biopart.figures.drawing import DPI, GREY, WIDTH_IN, Array, cycle, listed, plain

STAGE_COLOURS = {
    "W": ("#C27C00", "#F5BD48"),
    "R": ("#BE2C66", "#E5578F"),
    "N1": ("#3A94CC", "#C4E9FC"),
    "N2": ("#005A96", "#5CABE5"),
    "N3": ("#16263F", "#4F68C8"),
}
"""Colours of sleep stages on a light and on a dark page, from the top of a hypnogram.

Each has a contrast of at least 3:1 to its page (WCAG 2.2, 1.4.11); N1 to N3 go from light to dark
blue, so that readers with any colour vision tell them apart.
"""


def hypnogram(
    truth: Array | None,
    predicted: Array | None = None,
    probability: Array | None = None,
    label_names: Sequence[str] = STAGES,
    *,
    epoch_s: float = 30.0,
    start: datetime | None = None,
    bad: Array | None = None,
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
    start
        Clock time of the first epoch; the axis then shows the clock.
    bad
        Epochs (E,), bool, that are flat, clipped or missing; shaded in every panel.

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
    figure = Figure((WIDTH_IN, 1.9 * len(given) + 0.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(given), sharex=True, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, given.items(), strict=True):
        if name == "probability":
            _hypnodensity(axis, values, label_names, order, epoch_s=epoch_s)
        else:
            _stage_steps(axis, values, label_names, order, epoch_s=epoch_s)
            axis.set_ylabel(name)
        shade(axis, bad, epoch_s)
        plain(axis)
    on_clock(axes[-1], start)
    figure.set_label(_hypnogram_text(given, label_names, order))
    return figure


def _hypnogram_text(given: Mapping[str, Array], names: Sequence[str], order: list[int]) -> str:
    """Describe a hypnogram: its axes, its panels, and how often each class occurs."""
    n_epochs = len(next(iter(given.values())))
    text = f"Hypnogram: {', '.join(names[index] for index in order)} from the top, against time"
    for name, values in given.items():
        if name == "probability":
            means = {names[index]: float(values[:, index].mean()) for index in order}
            text += f"; mean probability: {listed(means, digits=2)}"
        else:
            counts = {names[index]: int((values == index).sum()) for index in order}
            text += f"; epochs {name}: {listed(counts, digits=6)}"
    return f"{text}; {n_epochs} epochs"


def shade(axis: Axes, bad: Array | None, epoch_s: float) -> None:
    """Shade the epochs (E,) of an axis in hours that are flat, clipped or missing."""
    marked = np.asarray(bad, bool) if bad is not None else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False)) * epoch_s / 3600
    for number, (first, last) in enumerate(edges.reshape(-1, 2).tolist()):
        label = "flat, clipped or missing" if number == 0 else None
        axis.axvspan(
            first,
            last,
            facecolor="white",
            edgecolor=GREY,
            alpha=0.7,
            hatch="////",
            linewidth=0,
            label=label,
            zorder=3,
        )


def on_clock(axis: Axes, start: datetime | None) -> None:
    """Let an axis in hours show the clock, or the time since the start where that is unknown."""
    if start is None:
        axis.set_xlabel("time since the start of the recording (h)")
        return
    first = start

    def clock(hours: float, _: int) -> str:
        return (first + timedelta(hours=hours)).strftime("%H:%M")

    axis.xaxis.set_major_formatter(FuncFormatter(clock))
    axis.set_xlabel("clock")


def _rank(name: str) -> int:
    return list(STAGE_COLOURS).index(name) if name in STAGE_COLOURS else len(STAGE_COLOURS)


def _colours(label_names: Sequence[str]) -> list[str]:
    stages = {name: light for name, (light, _) in STAGE_COLOURS.items()}
    rest = cycle(len(label_names))
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
    axis.step(hours, np.append(rows, rows[-1:]), where="post", color=GREY, linewidth=0.8)
    for index, colour in enumerate(_colours(names)):
        rows = np.where(stages == index, row_of[index], np.nan)
        lines = np.stack([rows, rows, np.full(len(rows), np.nan)], axis=1).ravel()
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
    side = min(1.6 + 0.7 * n_classes, WIDTH_IN)
    figure = Figure((side, side), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    edges = np.arange(n_classes + 1) - 0.5
    axis.pcolormesh(edges, edges, np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=1)
    axis.set_facecolor("#EEEEEE")  # shows where a row is blank
    for (row, column), part in np.ndenumerate(share):
        text = f"{part:.0%}\n{counts[row, column]}" if np.isfinite(part) else "-"
        shade = "white" if part > 0.5 else "black"
        axis.text(column, row, text, ha="center", va="center", color=shade, fontsize=9)
    axis.set_xticks(range(n_classes), label_names)
    axis.set_yticks(range(n_classes), label_names)
    axis.set(xlabel="predicted", ylabel="truth (100 % in a row)", aspect="equal")
    axis.invert_yaxis()
    axis.tick_params(length=0)
    hits = {name: 100 * share[n, n] for n, name in enumerate(label_names) if totals[n]}
    figure.set_label(
        f"Confusion matrix: truth in rows, prediction in columns, {counts.sum()} windows; "
        f"per cent of each class predicted correctly: {listed(hits)}"
    )
    return figure
