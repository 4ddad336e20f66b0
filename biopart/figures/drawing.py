"""What all figures share: colours, sizes, bare axes, and the ways out: a file or a page."""

import base64
import html
import io
import math
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


def to_html(figure: Figure) -> str:
    """Give the figure as an `<img>` with its bytes inside and its label as text."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=1.5 * DPI)
    data = base64.b64encode(image.getvalue()).decode("ascii")
    width = round(figure.get_size_inches()[0] * DPI)
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
