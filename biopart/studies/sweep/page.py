"""The picture and the page of a sweep: figures over the values that were tried."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biopart import figures
from biopart.run import write_text
from biopart.studies.curve.table import Curve

PANELS = {
    "kappa": "Cohen's kappa on test persons",
    "probe_kappa": "kappa of a linear probe, frozen encoder",
    "validation/r2": "R2 of the relations, held-out persons",
    "validation/r2_excess": "R2 beyond the hints, held-out persons",
    "validation/accuracy": "accuracy of the pretext task, held-out persons",
    "validation/loss": "loss, held-out persons",
}
INTERVALS = {"kappa": "ci95", "probe_kappa": "probe_ci95"}

Row = Mapping[str, Any]


def picture(table: Sequence[Row], values: Sequence[Any], label: str) -> Figure:
    """Draw what was measured over the swept values, a panel per figure.

    Parameters
    ----------
    table : sequence of dict
        A row per variant, in the order of the values.
    values : sequence
        What stands on the horizontal axis: numbers, drawn to scale, or names.
    label : str
        The swept key.
    """
    keys = [key for key in PANELS if any(row.get(key) is not None for row in table)]
    columns = min(len(keys), 3)
    n_rows = math.ceil(len(keys) / columns)
    figure = Figure((4.2 * columns, 3.2 * n_rows), dpi=100, layout="constrained")
    places, ticks = _places(values)
    for number, key in enumerate(keys):
        axis = figure.add_subplot(n_rows, columns, number + 1)
        _panel(axis, table, places, key)
        if ticks is None:
            axis.set_xticks(places, [str(value) for value in values], rotation=20)
        elif ticks == "log":
            axis.set_xscale("log")
            axis.set_xticks(places, [f"{value:g}" for value in values])
            axis.set_xticks([], minor=True)
        axis.set(xlabel=label, ylabel=PANELS[key])
    figure.set_label(f"{', '.join(PANELS[key] for key in keys)} over {label}")
    return figure


def _places(values: Sequence[Any]) -> tuple[list[float], str | None]:
    """Return where values stand: by size, with log ticks where they span much, else in a row."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return list(range(len(values))), None
    spread = min(values) > 0 and max(values) / min(values) >= 8
    return [float(value) for value in values], "log" if spread else "linear"


def _panel(axis: Axes, table: Sequence[Row], places: Sequence[float], key: str) -> None:
    """Draw one figure of all variants, with its interval where it has one."""
    points = [
        (x, row[key], row.get(INTERVALS.get(key, "")))
        for x, row in zip(places, table, strict=True)
        if row.get(key) is not None
    ]
    axis.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-", color="#0072B2")
    for x, _, interval in points:
        if interval is not None and None not in interval:
            axis.vlines(x, *interval, color="#0072B2", linewidth=1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#E6E6E6", linewidth=0.6)


def write_page(path: Path, curve: Curve, table: Sequence[Row], drawing: Figure) -> None:
    """Write the page of a sweep: picture, table, what failed, settings, provenance."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    columns = [key for key in PANELS if any(row.get(key) is not None for row in table)]
    text = environment.get_template("page.html.jinja").render(
        curve=curve,
        table=table,
        columns={key: PANELS[key] for key in columns},
        intervals=INTERVALS,
        picture=Markup(figures.to_html(drawing)),
    )
    write_text(path, text)
