"""Curves over the steps of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biopart.figures.drawing import GREY, broken, cycle, listed, panels, plain


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
    figure, axes = panels(len(groups))
    for axis, (quantity, members) in zip(axes, groups.items(), strict=True):
        for colour, name in zip(cycle(len(members)), members, strict=True):
            _curve(axis, rows, x, name, colour=colour)
        if references and quantity in references:
            axis.axhline(references[quantity], color=GREY, linestyle="--", label="chance")
        axis.set(xlabel=x, ylabel=broken((labels or {}).get(quantity, quantity)))
        axis.legend(frameon=False)
        plain(axis)
    last = {name: [row[name] for row in rows if row.get(name) is not None][-1] for name in names}
    figure.set_label(f"Line charts of {', '.join(groups)} over {x}; last values: {listed(last)}")
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
