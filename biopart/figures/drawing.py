"""What all figures share: colours, sizes, bare axes, words for values, and files."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart.files import whole

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
Array = NDArray[Any]
GREY, PALE = "#555555", "#BBBBBB"
WIDTH_IN = 9.0  # a laptop's page
DPI = 110


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
    with whole(path) as beside:
        figure.savefig(beside, format="png", dpi=1.5 * DPI)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Lay out axes in rows of at most three."""
    columns = min(count, 3)
    n_rows = math.ceil(count / columns)
    figure = Figure((min(WIDTH_IN, 4.5 * columns), 2.9 * n_rows), dpi=DPI, layout="constrained")
    return figure, [figure.add_subplot(n_rows, columns, index + 1) for index in range(count)]


def cycle(count: int) -> list[str]:
    """Give so many colours of the palette, from its start again where they run out.

    Examples
    --------
    >>> cycle(2)
    ['#0072B2', '#D55E00']
    """
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def plain(axis: Axes) -> None:
    """Leave an axis two spines and a pale grid behind the data."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#E6E6E6", linewidth=0.6)
    axis.set_axisbelow(True)


def broken(text: str) -> str:
    r"""Break the text of a vertical axis into lines that are no longer than a small axis.

    Examples
    --------
    >>> broken("R2 against chance, held-out persons")
    'R2 against chance,\nheld-out persons'
    """
    return textwrap.fill(text, 26, break_on_hyphens=False)


def listed(values: Mapping[str, float], most: int = 8, digits: int = 3) -> str:
    """Write values with their names, for the text of a figure; of many the first ones.

    Examples
    --------
    >>> listed({"part": 0.51234, "mae": 0.5}), listed({"a": 1, "b": 2, "c": 3}, most=2)
    ('part 0.512, mae 0.5', 'a 1, b 2 and 1 more')
    """
    texts = [f"{name} {value:.{digits}g}" for name, value in values.items()]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
