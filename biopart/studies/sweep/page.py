"""The picture and the page of a sweep: figures over the values that were tried."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.studies.curve.table import Curve

SCORES = {
    "kappa": "Cohen's kappa on test persons",
    "probe_kappa": "kappa of a linear probe, frozen encoder",
}
HELD_OUT = ("r2", "r2_excess", "accuracy", "loss")
PANELS = SCORES | {f"validation/{key}": pages.spelled(f"validation/{key}") for key in HELD_OUT}
INTERVALS = {"kappa": "ci95", "probe_kappa": "probe_ci95"}

Row = Mapping[str, Any]


def measured(table: Sequence[Row]) -> dict[str, str]:
    """Return what some row of a sweep has a figure of, with the words for it."""
    return {k: words for k, words in PANELS.items() if any(r.get(k) is not None for r in table)}


def picture(curve: Curve, table: Sequence[Row], values: Sequence[Any], label: str) -> Figure:
    """Draw what was measured over the swept values, a panel per figure.

    Parameters
    ----------
    curve : Curve
        Where the figures come from.
    table : sequence of dict
        A row per variant, in the order of the values.
    values : sequence
        What stands on the horizontal axis.
    label : str
        The swept key.
    """
    names = measured(table)
    figure = figures.over_values(table, values, names, xlabel=label, intervals=INTERVALS)
    if curve.simulated:
        figure.suptitle(pages.BANNER, fontsize=10, color="#8a2d00")
        figure.set_label(f"{pages.BANNER}. {figure.get_label()}")
    return figure


def write_page(path: Path, curve: Curve, table: Sequence[Row], drawing: Figure) -> None:
    """Write the page of a sweep: picture, table, what failed, settings, provenance."""
    pages.write_page(
        path,
        Path(__file__).with_name("page.html.jinja"),
        banner=pages.BANNER,
        curve=curve,
        table=table,
        columns=measured(table),
        intervals=INTERVALS,
        picture=Markup(figures.to_html(drawing)),
    )
