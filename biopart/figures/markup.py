"""Figures inside a page: drawings as SVG that follows the page's colours, pixels as PNG."""

import base64
import hashlib
import html
import io
import re

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from PIL import Image

from biopart.figures.drawing import DPI, GREY, PALE, PALETTE
from biopart.figures.predictions import STAGE_COLOURS

LARGEST_SVG = 300_000  # characters; a drawing that takes more is embedded as PNG
MOST_POINTS = LARGEST_SVG // 5  # of lines; a point takes about ten characters of SVG
COMPRESSION = 7  # level 9 takes six times as long for files 4 % smaller
FEW_COLOURS = 4096  # so many are reduced to 256 without a visible loss; photographs have more
BANNER_COLOUR = "#8a2d00"

THEME = {
    "#ffffff": "#15181c",
    "#000000": "#e6e8ea",
    GREY.lower(): "#b4b9c0",
    PALE.lower(): "#5c6268",
    "#e6e6e6": "#30353b",  # the grid
    "#cccccc": "#4a5057",  # the edge of a legend
    "#777777": "#9aa0a7",  # baselines
    BANNER_COLOUR: "#ffab85",
    **dict(
        zip(
            (colour.lower() for colour in PALETTE[:-1]),
            ("#58a9e0", "#f0803c", "#2dbe8f", "#de9dc3", "#e69f00", "#56b4e9"),
            strict=True,
        )
    ),
    **{light.lower(): dark.lower() for light, dark in STAGE_COLOURS.values()},
}
"""Colours of figures and what replaces them on a dark page, as CSS variables ``--c-<colour>``.

The stylesheet of the pages holds the same values. A drawing with any other colour, such as one of
a colour map, keeps its colours and lies on a light card.
"""

_COLOUR = re.compile(r"(fill|stroke): ?(#[0-9a-f]{6})")
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_PATH = re.compile(r' d="([^"]*)"')
_FONT = re.compile(r" font-family: '[^;\"]*;| transform=\"rotate\(-?0 [^\"]*\"")


def to_html(figure: Figure) -> str:
    """Give the figure as SVG, or as an image with its bytes inside; its label as text.

    A line drawing becomes an ``<svg>`` whose colours follow the page, without a date and with ids
    of its own; what holds pixels, or is very large as SVG, becomes an ``<img>`` of a PNG. The same
    figure always gives the same text.
    """
    label = html.escape(str(figure.get_label()))
    width = round(figure.get_size_inches()[0] * DPI)
    if not has_pixels(figure) and count_points(figure) <= MOST_POINTS:
        drawing = _svg(figure, label, width)
        if len(drawing) <= LARGEST_SVG:
            return drawing
    data = base64.b64encode(_png(figure)).decode("ascii")
    return (
        f'<img class="drawing" src="data:image/png;base64,{data}" alt="{label}" '
        f'style="--width: {width}px">'
    )


def has_pixels(figure: Figure) -> bool:
    """Tell whether some part of a figure is an image or asks to be drawn in pixels."""
    parts = figure.findobj()
    return any(isinstance(part, AxesImage) or part.get_rasterized() for part in parts)


def count_points(figure: Figure) -> int:
    """Count the points of the lines of a figure."""
    return sum(np.size(line.get_xdata(orig=False)) for line in figure.findobj(Line2D))


def _png(figure: Figure) -> bytes:
    """Draw a figure as PNG, with a palette where it has few colours."""
    drawn = io.BytesIO()
    dpi = 1.5 * DPI
    figure.savefig(drawn, format="rgba", dpi=dpi)
    width = int(figure.get_figwidth() * dpi)
    pixels = drawn.getvalue()
    size = width, len(pixels) // (4 * width)
    image = Image.frombuffer("RGBA", size, pixels, "raw", "RGBA", 0, 1).convert("RGB")
    if image.getcolors(FEW_COLOURS) is not None:
        image = image.quantize(256, dither=Image.Dither.NONE)
    smaller = io.BytesIO()
    image.save(smaller, "PNG", compress_level=COMPRESSION)
    return smaller.getvalue()


def _svg(figure: Figure, label: str, width: int) -> str:
    """Give a figure as an `<svg>` of HTML."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "biopart"}):
        absent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=absent)
    whole = text.getvalue()
    opening = whole[whole.index("<svg") :].partition(">")[0]
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None
    inner = whole[whole.index(opening) + len(opening) + 1 : whole.rindex("</svg>")]
    inner = _PATH.sub(lambda found: f' d="{shortened(found[1])}"', _DROPPED.sub("", inner))
    inner = _FONT.sub("", inner)  # the stylesheet names fonts no wider than the one laid out
    inner = re.sub(r"\s*\n\s*", "\n", _own_ids(inner.replace("xlink:href", "href"), label))
    kind = "drawing"
    if {colour for _, colour in _COLOUR.findall(inner)} <= THEME.keys():
        inner = _COLOUR.sub(lambda found: f"{found[1]}: {_variable(found[2])}", inner)
    else:
        kind += " card"
    return (
        f'<svg class="{kind}" role="img" aria-label="{label}" {box[0]} '
        f'style="--width: {width}px">{inner}</svg>'
    )


def _variable(colour: str) -> str:
    return f"var(--c-{colour[1:]}, {colour})"


def _own_ids(inner: str, label: str) -> str:
    """Drop ids that nothing refers to, and begin the others with a mark of this figure's."""
    mark = "f" + hashlib.sha256((label + inner).encode()).hexdigest()[:10]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', inner))

    def renamed(found: re.Match[str]) -> str:
        return f' id="{mark}-{found[1]}"' if found[1] in used else ""

    inner = re.sub(r' id="([^"]*)"', renamed, inner)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{mark}-", inner)


def shortened(path: str) -> str:
    """Round the places of an SVG path to hundredths, and write level and upright lines shorter.

    Examples
    --------
    >>> shortened("M 1.004 2 L 3.126 2 L 3.126 5.5 L 4 6 z")
    'M1 2H3.13V5.5L4 6z'
    """
    written, last = [], ("", "")
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        values = [f"{float(number):.2f}".rstrip("0").rstrip(".") for number in numbers.split()]
        place = (values[-2], values[-1]) if len(values) > 1 else last
        if command == "L" and place[1] == last[1]:
            written.append(f"H{place[0]}")
        elif command == "L" and place[0] == last[0]:
            written.append(f"V{place[1]}")
        else:
            written.append(command + " ".join(values))
        last = place
    return "".join(written)
