"""What labels buy: figures of merit over labelled persons, probes, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biopart.figures.drawing import DPI, GREY, PALETTE, WIDTH_IN, listed, plain

Points = Mapping[str, Sequence[tuple[float, float, float | None, float | None]]]
Published = Mapping[str, Mapping[int, float]]
_FEW = 3  # so many bands may overlap and still be distinguished
_MARKERS = "osD^vPX*"
_BASELINE = "#777777"
_SPREAD = 0.62  # share of the gap between two sizes that many methods take together
_APART = 0.1  # and that two neighbours have between them where they are few


@dataclass(frozen=True)
class Panel:
    """One of several panels that share their methods.

    Attributes
    ----------
    points
        Method to (size, value, low, high) per size; low and high bound the interval, None = none.
    ylabel, title
        The quantity, and what stands above.
    published
        Method to size to a value from a paper, drawn thin.
    filled
        Pairs (method, size) whose marker is filled, all others are hollow; None = all are filled.
    zero
        Whether to draw a line at 0.
    """

    points: Points
    ylabel: str
    title: str = ""
    published: Published | None = None
    filled: frozenset[tuple[str, float]] | None = None
    zero: bool = False


@dataclass(frozen=True)
class _Look:
    """How a method is drawn in every panel; place: beside its size, in gaps between sizes."""

    colour: str
    marker: str
    line: str
    place: float


def sample_efficiency(
    points: Points,
    *,
    xlabel: str = "labelled persons in finetuning",
    ylabel: str = "Cohen's kappa on test persons",
    published: Published | None = None,
    baselines: Sequence[str] = (),
) -> Figure:
    """Draw each method's figure of merit over the number of labelled persons.

    Up to three methods have shaded intervals; of more, each stands a little beside its size, so
    that no interval covers another.

    Parameters
    ----------
    points
        Method to (size, value, low, high) per size; low and high bound the interval, None = none.
    xlabel, ylabel
        What stands on the axes.
    published
        Method to size to a value from a paper, drawn thin, without markers.
    baselines
        Methods that are drawn grey and dashed.

    Raises
    ------
    ValueError
        If there is no method or a method has no point.
    """
    _check(points)
    figure = Figure((6.5, 4.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    looks = _looks((*points, *(published or {})), baselines)
    if len(points) <= _FEW:
        looks = {name: _Look(x.colour, "o", x.line, 0.0) for name, x in looks.items()}
        for name, values in points.items():
            size, _, low, high = np.array(sorted(values), np.float64).T
            axis.fill_between(size, low, high, color=looks[name].colour, alpha=0.15, linewidth=0)
    _over_sizes(axis, Panel(points, ylabel, published=published), looks)
    axis.set_xlabel(xlabel)
    axis.legend(frameon=False)
    figure.set_label(_panel_text(Panel(points, ylabel, "Sample efficiency"), xlabel))
    return figure


def comparison(
    panels: Sequence[Panel],
    *,
    xlabel: str = "labelled persons in finetuning",
    baselines: Sequence[str] = (),
) -> Figure:
    """Draw panels of the same methods with one legend: the first wide, the others in pairs below.

    Parameters and errors are those of ``in_rows``; panels without methods are left out.
    """
    shown = [panel for panel in panels if panel.points]
    rows = [shown[:1], *(shown[at : at + 2] for at in range(1, len(shown), 2))]
    return in_rows(rows, xlabel=xlabel, baselines=baselines)


def in_rows(
    rows: Sequence[Sequence[Panel]],
    *,
    xlabel: str = "labelled persons in finetuning",
    baselines: Sequence[str] = (),
) -> Figure:
    """Draw rows of one or two panels of the same methods with one legend.

    Where all points have one size, methods stand below each other and their values lie across.

    Parameters
    ----------
    rows
        What to draw; panels without methods are left out, and a lone one is wide.
    xlabel
        What the sizes are.
    baselines
        Methods that are drawn grey and dashed.

    Raises
    ------
    ValueError
        If no panel has a method, or a method has no point.
    """
    kept = [[panel for panel in row if panel.points] for row in rows]
    kept = [row for row in kept if row]
    shown = [panel for row in kept for panel in row]
    _check({f"{n}:{name}": p for n, panel in enumerate(shown) for name, p in panel.points.items()})
    names = tuple(dict.fromkeys(name for panel in shown for name in panel.points))
    papers = tuple(name for panel in shown for name in panel.published or {})
    looks = _looks((*names, *papers), baselines)
    sizes = {point[0] for panel in shown for line in panel.points.values() for point in line}
    height = 3.7 if len(sizes) > 1 else 1.1 + 0.27 * len(names)
    figure = Figure((WIDTH_IN, height * len(kept)), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(len(kept), 2)
    for number, row in enumerate(kept):
        for column, panel in enumerate(row):
            place = grid[number, column] if len(row) > 1 else grid[number, :]
            axis = figure.add_subplot(place)
            if len(sizes) > 1:
                _over_sizes(axis, panel, looks)
                axis.set_xlabel(xlabel)
            else:
                _over_methods(axis, panel, looks)
            axis.set_title(panel.title, fontsize=10, loc="left")
    _legend(figure)
    figure.set_label(". ".join(_panel_text(panel, xlabel) for panel in shown))
    return figure


def _panel_text(panel: Panel, xlabel: str) -> str:
    """Describe a panel: its axes, and the values of each method by size."""
    lines = [
        f"{name} ({listed({f'{size:g}:': value for size, value, *_ in sorted(line)})})"
        for name, line in panel.points.items()
    ]
    title = panel.title or "Chart"
    return f"{title}: {panel.ylabel} over {xlabel}: {'; '.join(lines)}"


def _check(points: Points) -> None:
    if not points or not all(points.values()):
        raise ValueError(
            f"Points were given for {len(points)} methods, some or all empty; "
            "give at least one (size, value, low, high) per method."
        )


def _looks(names: Sequence[str], baselines: Sequence[str]) -> dict[str, _Look]:
    """Give every method a colour and marker of its own; baselines are grey and broken lines."""
    names = tuple(dict.fromkeys(names))
    learning = [name for name in names if name not in baselines]
    spread = min(_SPREAD, _APART * (len(names) - 1))
    looks = {}
    for number, name in enumerate(names):
        place = spread * (number / max(len(names) - 1, 1) - 0.5)
        if name in baselines:
            at = list(baselines).index(name)
            marker, line = _MARKERS[-1 - at % len(_MARKERS)], ("--", ":")[at % 2]
            looks[name] = _Look(_BASELINE, marker, line, place)
        else:
            at = learning.index(name)
            colour, marker = PALETTE[at % len(PALETTE)], _MARKERS[at % len(_MARKERS)]
            looks[name] = _Look(colour, marker, "-", place)
    return looks


def _over_sizes(axis: Axes, panel: Panel, looks: Mapping[str, _Look]) -> None:
    """Draw values over sizes on a log axis."""
    sizes = sorted({point[0] for line in panel.points.values() for point in line})
    gap = float(np.diff(np.log(sizes)).min(initial=0.7))
    for name, line in panel.points.items():
        look = looks[name]
        size, value, low, high = np.array(sorted(line), np.float64).T
        x = size * np.exp(look.place * gap)
        axis.plot(
            x, value, look.line, color=look.colour, linewidth=1.2, label=name, **_marker(look)
        )
        _hollow(axis, x, value, of=[(name, at) for at in size], panel=panel, look=look)
        axis.vlines(x, low, high, color=look.colour, linewidth=1.1)
    for name, values in (panel.published or {}).items():
        size, value = np.array(sorted(values.items()), np.float64).T
        axis.plot(size, value, color=looks[name].colour, linewidth=0.7, label=f"{name} (paper)")
        sizes = sorted({*sizes, *values})
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.set_xticks([], minor=True)
    axis.set_ylabel(panel.ylabel)
    if panel.zero:
        axis.axhline(0, color=GREY, linewidth=0.9)
    plain(axis)


def _over_methods(axis: Axes, panel: Panel, looks: Mapping[str, _Look]) -> None:
    """Draw the values of one size across, a method in each line."""
    for row, (name, ((size, value, low, high), *_)) in enumerate(panel.points.items()):
        look = looks[name]
        axis.plot([value], [row], color=look.colour, **_marker(look))
        _hollow(axis, [value], [row], of=[(name, size)], panel=panel, look=look)
        if low is not None and high is not None:
            axis.hlines(row, low, high, color=look.colour, linewidth=1.3)
        if size in (panel.published or {}).get(name, {}):
            there = (panel.published or {})[name][int(size)]
            axis.vlines(there, row - 0.35, row + 0.35, color=GREY, linewidth=0.8, label="(paper)")
    axis.set_yticks(range(len(panel.points)), list(panel.points))
    axis.set(ylim=(len(panel.points) - 0.5, -0.5), xlabel=panel.ylabel)
    if panel.zero:
        axis.axvline(0, color=GREY, linewidth=0.9)
    plain(axis)


def _marker(look: _Look) -> dict[str, Any]:
    return {"marker": look.marker, "markersize": 5.5, "markeredgewidth": 1}


def _hollow(
    axis: Axes,
    x: Sequence[float],
    y: Sequence[float],
    *,
    of: Sequence[tuple[str, float]],
    panel: Panel,
    look: _Look,
) -> None:
    """Empty the markers of points that are not among the filled ones."""
    empty = [panel.filled is not None and point not in panel.filled for point in of]
    axis.plot(
        np.asarray(x)[empty],
        np.asarray(y)[empty],
        linestyle="",
        color=look.colour,
        markerfacecolor="white",
        zorder=3,
        **_marker(look),
    )


def _legend(figure: Figure) -> None:
    """Name every line once, right of all panels; names on a vertical axis need none."""
    found: dict[str, Artist] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(found.values(), found, frameon=False, loc="outside right upper", fontsize=9)
