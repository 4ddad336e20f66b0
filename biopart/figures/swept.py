"""What was measured over the values of a setting that were tried in turn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biopart.figures.drawing import PALETTE, broken, listed, panels, plain

_LOG_SPREAD = 8  # values that span more than this factor stand on a log axis


def over_values(
    rows: Sequence[Mapping[str, Any]],
    values: Sequence[Any],
    names: Mapping[str, str],
    *,
    xlabel: str,
    intervals: Mapping[str, str] | None = None,
) -> Figure:
    """Draw figures of merit over the values of a setting, one axis for each.

    Parameters
    ----------
    rows
        One mapping per value, in their order; a row may lack some names.
    values
        Numbers, drawn to scale (on a log axis where they span much), or names, drawn in a row.
    names
        Key of the rows to the text on its vertical axis.
    xlabel
        What the values are of.
    intervals
        Key to the key of its [low, high].

    Raises
    ------
    ValueError
        If there is no row, no name, or not one value per row.
    """
    if not rows or not names or len(rows) != len(values):
        raise ValueError(
            f"{len(rows)} rows, {len(values)} values and {len(names)} names were given; give one "
            "value per row and something to draw."
        )
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places = [float(value) for value in values] if numeric else list(map(float, range(len(values))))
    figure, axes = panels(len(names))
    for axis, (key, label) in zip(axes, names.items(), strict=True):
        _points(axis, zip(places, rows, strict=True), key, (intervals or {}).get(key))
        if not numeric:
            axis.set_xticks(places, [str(value) for value in values], rotation=20)
        elif min(places) > 0 and max(places) / min(places) >= _LOG_SPREAD:
            axis.set_xscale("log")
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.set_xticks([], minor=True)
        axis.set(xlabel=xlabel, ylabel=broken(label))
        plain(axis)
    found = []
    for key, label in names.items():
        known = {f"{v}:": r[key] for v, r in zip(values, rows, strict=True) if _has(r, key)}
        found.append(f"{label} ({listed(known)})")
    figure.set_label(f"Charts over {xlabel}: {'; '.join(found)}")
    return figure


def _has(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None


def _points(
    axis: Axes, placed: Iterable[tuple[float, Mapping[str, Any]]], key: str, interval: str | None
) -> None:
    """Draw the values of one key, with their intervals where they have some."""
    known = [(x, row) for x, row in placed if _has(row, key)]
    axis.plot([x for x, _ in known], [row[key] for _, row in known], "o-", color=PALETTE[0])
    for x, row in known:
        bounds = row.get(interval) if interval else None
        if bounds is not None and None not in bounds:
            axis.vlines(x, *bounds, color=PALETTE[0], linewidth=1)
