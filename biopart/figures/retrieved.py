"""Queries and the items nearest to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biopart.codes import MISSING
from biopart.figures.drawing import GREY, PALETTE, WIDTH_IN, Array

SEEN = 24  # neighbours of a query


@dataclass(frozen=True)
class Hits:
    """A query and the items nearest to it.

    Attributes
    ----------
    values : list of array
        The query, then its neighbours: images uint8 (3, y, x), or signals (C, T).
    spans : list of (int, int), optional
        Of signals: first and last sample of the part.
    classes : list of str
        Of the query and of each neighbour.
    """

    values: Sequence[Array]
    classes: Sequence[str]
    spans: Sequence[tuple[int, int]] | None = None


def neighbours(queries: Sequence[Hits]) -> Figure:
    """Draw each query and its nearest items in a row of two lines; other classes are named.

    Raises
    ------
    ValueError
        If there is no query.
    """
    if not queries:
        raise ValueError("There is no query to draw.")
    columns = 1 + SEEN // 2
    lines = 2 * len(queries)
    figure = Figure(figsize=(WIDTH_IN, 0.95 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    summary = []
    for number, hits in enumerate(queries):
        right = sum(name == hits.classes[0] for name in hits.classes[1:])
        summary.append(f"{hits.classes[0]}: {right} of {len(hits.classes) - 1} of its class")
        block = axes[2 * number : 2 * number + 2]
        for axis in block.flat:
            axis.set_axis_off()
        _drawn(block[0, 0], hits, 0)
        for place in range(1, len(hits.values)):
            line, column = divmod(place - 1, SEEN // 2)
            _drawn(block[line, 1 + column], hits, place)
    figure.set_label(f"Queries and their nearest items. {'; '.join(summary)}")
    return figure


def _drawn(axis: Axes, hits: Hits, place: int) -> None:
    """Draw one item of a query."""
    values, query = np.asarray(hits.values[place]), place == 0
    alike = hits.classes[place] == hits.classes[0]
    colour = PALETTE[0] if alike else PALETTE[1]
    if values.ndim == 3:
        axis.imshow(values.transpose(1, 2, 0))
    else:
        line = np.where(values[0] == MISSING, np.nan, values[0].astype(float))
        axis.plot(line, color=GREY, linewidth=0.5)
        if hits.spans is not None:
            first, last = hits.spans[place]
            axis.plot(np.arange(first, last), line[first:last], color=colour, linewidth=1.2)
    if query or not alike:
        axis.set_title(hits.classes[place], fontsize=7, color=PALETTE[0] if query else PALETTE[1])
