"""Patches of images where a model puts them, and how sure it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from biopart.figures.drawing import DPI, GREY, PALETTE, WIDTH_IN, Array, listed

_MARGINS = (0.04, 0.5)  # of an image's side, shown around it for patches that are put outside


def pasted(
    pixels: Array, starts: Array, sizes: Array, placed: Mapping[str, Array], *, marked: Array
) -> Figure:
    """Draw an image, its patches where they were cut, and where they are put.

    Parameters
    ----------
    pixels
        Image (y, x, 3) or (y, x), uint8.
    starts, sizes
        True corners and sides of the K patches (K, 2), y before x.
    placed
        Title to corners (K, 2) where the patches are put.
    marked
        Patches (K,), bool, that are outlined: those whose place was known.

    Raises
    ------
    ValueError
        If a patch does not lie inside the image.
    """
    pieces = _pieces(pixels, starts, sizes)
    titles = {"the image": None, "its patches": starts, **placed}
    figure = Figure((WIDTH_IN, WIDTH_IN / len(titles) + 0.35), dpi=DPI, layout="constrained")
    margin = _margin(pixels.shape[:2], np.concatenate(list(placed.values())))
    for number, (title, corners) in enumerate(titles.items(), start=1):
        axis = figure.add_subplot(1, len(titles), number)
        if corners is None:
            _show(axis, pixels, (0, 0))
        else:
            for piece, corner in zip(pieces, corners, strict=True):
                _show(axis, piece, corner)
            known = marked & np.ones(len(corners), bool)
            axis.add_collection(_outlines(corners[known], sizes[known], PALETTE[1]))
        _frame(axis, pixels.shape[:2], margin)
        axis.set_title(title, fontsize=9)
    figure.set_label(
        f"An image of {pixels.shape[1]} by {pixels.shape[0]} pixels, its {len(pieces)} patches, "
        f"and where a model puts them: {_errors(starts, placed)}"
    )
    return figure


def pasted_together(
    pieces: list[Array], placed: Array, owner: Array, shape: tuple[int, int], *, title: str
) -> Figure:
    """Draw patches of two images where one model puts them together, framed by image.

    Parameters
    ----------
    pieces
        Patches (y, x, 3) or (y, x).
    placed
        Corners (K, 2), y before x.
    owner
        0 or 1 (K,), the image that a patch is of.
    shape
        Height and width of an image.
    title
        Written above.
    """
    figure = Figure((WIDTH_IN, WIDTH_IN / 3 + 0.35), dpi=DPI, layout="constrained")
    names = ("patches of both images", "those of the first", "those of the second")
    for number, name in enumerate(names):
        axis = figure.add_subplot(1, 3, number + 1)
        for piece, corner, image in zip(pieces, placed, owner, strict=True):
            if number == 0 or image == number - 1:
                _show(axis, piece, corner)
        if number == 0:
            sizes = np.array([piece.shape[:2] for piece in pieces])
            for image in (0, 1):
                own = owner == image
                axis.add_collection(_outlines(placed[own], sizes[own], PALETTE[image]))
        _frame(axis, shape, _margin(shape, placed))
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10, color=GREY)
    figure.set_label(
        f"{title}: {len(pieces)} patches of two images where the model puts them, together and by "
        f"image, {np.sum(owner == 0)} of the first and {np.sum(owner == 1)} of the second"
    )
    return figure


def uncertain(pixels: Array, starts: Array, sizes: Array, spread: Array) -> Figure:
    """Draw an image and its patches coloured by the spread of their places.

    Parameters
    ----------
    pixels
        Image (y, x, 3) or (y, x), uint8.
    starts, sizes
        Corners and sides of the patches (K, 2), y before x.
    spread
        Of each patch (K,), in patch sizes.
    """
    figure = Figure((0.72 * WIDTH_IN, 0.32 * WIDTH_IN), dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(1, 2, number) for number in (1, 2)]
    for axis in axes:
        _show(axis, pixels, (0, 0))
        axis.set(xlim=(0, pixels.shape[1]), ylim=(pixels.shape[0], 0), xticks=[], yticks=[])
    scale = Normalize(float(spread.min()), float(spread.max()))
    order = np.argsort(spread)  # the least sure on top
    rectangles = [_rectangle(starts[k], sizes[k]) for k in order]
    shades = colormaps["viridis"](scale(spread[order]))
    axes[1].add_collection(PatchCollection(rectangles, facecolors=shades, alpha=0.6))
    bar = ScalarMappable(scale, "viridis")
    figure.colorbar(bar, ax=axes[1], label="spread of the place (patch sizes)", shrink=0.9)
    axes[0].set_title("the image", fontsize=9)
    axes[1].set_title("how far the places of a patch scatter", fontsize=9)
    figure.set_label(
        f"An image, and its {len(spread)} patches coloured by the spread of their places: "
        f"{spread.min():.2g} to {spread.max():.2g} patch sizes, mean {spread.mean():.2g}"
    )
    return figure


def sized(shape: tuple[int, int], boxes: Array, found: Array) -> Figure:
    """Draw boxes of several sizes where and as large as they are, and as a model puts them.

    Parameters
    ----------
    shape
        Height and width of the image.
    boxes, found
        True and predicted corners and sides (K, 4): y, x, height, width.
    """
    figure = Figure((0.72 * WIDTH_IN, 0.38 * WIDTH_IN), dpi=DPI, layout="constrained")
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(boxes)))
    order = np.argsort(boxes[:, 0] + boxes[:, 1])
    for number, (title, rows) in enumerate(
        {"boxes that were cut": boxes, "as the model puts them": found}.items(), start=1
    ):
        axis = figure.add_subplot(1, 2, number)
        for shade, k in zip(shades, order, strict=True):
            rectangle = _rectangle(rows[k, :2], rows[k, 2:])
            rectangle.set(facecolor="none", edgecolor=shade, linewidth=1)
            axis.add_patch(rectangle)
        _frame(axis, shape, _margin(shape, found[:, :2]))
        axis.set_title(title, fontsize=9)
    figure.set_label(
        f"Outlines of {len(boxes)} boxes of several sizes, where they were cut and as the model "
        f"puts them: {_errors(boxes[:, :2], {'corners': found[:, :2]})}"
    )
    return figure


def _errors(starts: Array, placed: Mapping[str, Array]) -> str:
    """Write the mean distance of corners (K, 2) from their true places, by title."""
    away = {
        " ".join(title.split()): float(np.linalg.norm(found - starts, axis=1).mean())
        for title, found in placed.items()
    }
    return f"mean error in pixels: {listed(away, digits=2)}"


def _pieces(pixels: Array, starts: Array, sizes: Array) -> list[Array]:
    stops = starts + sizes
    if (starts < 0).any() or (stops > np.array(pixels.shape[:2])).any():
        raise ValueError(f"a patch leaves the image of {pixels.shape[:2]}; keep them inside")
    return [pixels[y:v, x:w] for (y, x), (v, w) in zip(starts, stops, strict=True)]


def _show(axis: Axes, pixels: Array, corner: Any) -> None:
    """Draw pixels with their upper left corner at (y, x)."""
    (height, width), (y, x) = pixels.shape[:2], corner
    axis.imshow(
        pixels,
        extent=(x, x + width, y + height, y),
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )


def _margin(shape: tuple[int, ...], corners: Array) -> float:
    """Return how much room around an image its patches need, as a share of its sides."""
    low, high = corners.min(0) / shape, corners.max(0) / shape
    return float(np.clip(max(-low.min(), high.max() - 0.85), *_MARGINS))


def _frame(axis: Axes, shape: tuple[int, ...], margin: float) -> None:
    """Show the place of the image and some room around it."""
    height, width = shape
    axis.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=GREY, linewidth=0.8))
    axis.set(
        xlim=(-margin * width, (1 + margin) * width),
        ylim=((1 + margin) * height, -margin * height),
        xticks=[],
        yticks=[],
        aspect="equal",
    )
    axis.spines[:].set_visible(False)


def _rectangle(corner: NDArray[Any], size: NDArray[Any]) -> Rectangle:
    return Rectangle((corner[1], corner[0]), size[1], size[0])


def _outlines(corners: Array, sizes: Array, colour: str) -> PatchCollection:
    boxes = [_rectangle(corner, size) for corner, size in zip(corners, sizes, strict=True)]
    return PatchCollection(boxes, facecolors="none", edgecolors=colour, linewidths=1.0)
