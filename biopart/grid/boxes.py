"""Boxes on a grid with N axes: positions of patches, drawn at random or row by row.

Letters of the whole project: B batch, C channels, N axes, S extents of the grid, P patch size,
K patches, M pairs of patches, D features. Axes come in the order of the grid: (time) for a
signal, (y, x) for an image, (z, y, x) for a volume. An axis of extent 1 is ignored in all random
draws, so that an image of height 1 is a signal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from biopart.grid.constants import constant, on_axes
from biopart.grid.draws import rand

Sides = Literal["log", "uniform"]
"""How sides of random boxes are drawn."""


@dataclass(frozen=True)
class Boxes:
    """Axis-aligned boxes, as two int64 tensors of equal shape (..., N).

    Attributes
    ----------
    start : Tensor (..., N)
        First sample or pixel inside the box, per axis.
    size : Tensor (..., N)
        Number of samples or pixels, per axis, at least 1.
    sides : tuple of (int, int), optional
        Smallest and largest side per axis, of boxes that are known to lie inside their grid: what
        was drawn here. ``cut`` need not look at the values then, which a GPU would wait for.
    """

    start: Tensor
    size: Tensor
    sides: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if self.start.shape != self.size.shape:
            raise ValueError(
                f"start has shape {tuple(self.start.shape)} and size {tuple(self.size.shape)}; "
                "give both the shape (..., N)"
            )

    @property
    def centre(self) -> Tensor:
        """Centre of each box in samples, float (..., N): ``start + size / 2``."""
        return self.start + self.size / 2

    def to(self, device: torch.device | str) -> "Boxes":
        """Return the same boxes on another device."""
        return Boxes(self.start.to(device), self.size.to(device), self.sides)


def check_fit(shape: Sequence[int], size: Sequence[int]) -> None:
    """Raise ValueError unless a box of ``size`` fits into a grid of ``shape``."""
    if len(shape) != len(size):
        raise ValueError(
            f"the grid {tuple(shape)} has {len(shape)} axes but the patch {tuple(size)} has "
            f"{len(size)}; give one patch side per axis"
        )
    if any(not 1 <= p <= s for s, p in zip(shape, size, strict=True)):
        raise ValueError(
            f"a patch of {tuple(size)} does not fit into a grid of {tuple(shape)}; each side "
            "must be at least 1 and at most the extent of its axis"
        )


def random_boxes(
    batch: int,
    count: int,
    shape: Sequence[int],
    size: Sequence[int],
    *,
    scale: tuple[float, float] = (1, 1),
    sides: Sides = "log",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Boxes:
    """Draw boxes off the grid, uniform over all positions inside it.

    Sides lie between ``scale[0] * P`` and ``scale[1] * P``, per axis (hence the aspect ratio too),
    rounded to whole samples; overlap is allowed (PART, arXiv 2506.03682).

    Parameters
    ----------
    batch, count : int
        Grids B and boxes per grid K.
    shape, size : sequence of int
        Extents S of the grid and patch size P, in samples, one per axis.
    scale : (float, float)
        Smallest and largest side as a multiple of P.
    sides : "log" or "uniform"
        Log-uniform sides; or starts uniform over the places where the smallest side fits, and ends
        uniform over those that the start leaves, as in PART's released code.
    generator : torch.Generator, optional
        Source of randomness; draws are made on its device.
    device : device, optional
        Device of the boxes.

    Returns
    -------
    Boxes (B, K, N)

    Raises
    ------
    ValueError
        If the largest box does not fit into the grid, or ``scale`` is not 0 < low <= high.

    Examples
    --------
    >>> boxes = random_boxes(2, 5, (3000,), (100,), generator=torch.Generator().manual_seed(0))
    >>> boxes.start.shape, int(boxes.start.min()) >= 0, int(boxes.start.max()) <= 2900
    (torch.Size([2, 5, 1]), True, True)
    """
    check_fit(shape, size)
    low, high = scale
    if not 0 < low <= high:
        raise ValueError(f"scale is {scale}; give 0 < smallest <= largest, e.g. (0.5, 2)")
    drawn = [axis for axis, extent in enumerate(shape) if extent > 1]
    largest = tuple(
        max(1, round(high * p)) if s > 1 else 1 for s, p in zip(shape, size, strict=True)
    )
    check_fit(shape, largest)
    source = generator.device if generator is not None else device
    size_drawn = constant(size, source or "cpu").expand(batch, count, -1).clone()
    starts = torch.zeros_like(size_drawn)
    smallest = tuple(
        max(1, round(low * p)) if s > 1 else p for s, p in zip(shape, size, strict=True)
    )

    def uniform() -> Tensor:
        shape_drawn = (batch, count, len(drawn))
        return rand(*shape_drawn, generator=generator, device=source, dtype=torch.float64)

    if drawn:
        extent = constant([shape[axis] for axis in drawn], size_drawn.device)
        if sides == "uniform" and low != high:
            least = constant([smallest[axis] for axis in drawn], size_drawn.device)
            most = constant([largest[axis] for axis in drawn], size_drawn.device)
            start = place_at(uniform(), extent - least + 1)
            side = least + place_at(uniform(), torch.minimum(most, extent - start) - least + 1)
            _set(starts, drawn, start)
            _set(size_drawn, drawn, side)
        else:
            if low != high:
                spread = torch.exp(math.log(low) + uniform() * math.log(high / low))
                side = (spread * on_axes(size_drawn, drawn)).round().long().clamp(min=1)
                _set(size_drawn, drawn, side)
            elif low != 1:
                side = (low * on_axes(size_drawn, drawn)).round().long().clamp(min=1)
                _set(size_drawn, drawn, side)
            places = extent - on_axes(size_drawn, drawn) + 1
            _set(starts, drawn, place_at(uniform(), places))
    boxes = Boxes(starts, size_drawn, tuple(zip(smallest, largest, strict=True)))
    return boxes if device is None else boxes.to(device)


def place_at(uniform: Tensor, places: Tensor) -> Tensor:
    """Turn numbers in [0, 1) into places 0 to ``places - 1``, all equally likely."""
    return torch.minimum((uniform * places).long(), places - 1)


def _set(coordinates: Tensor, axes: Sequence[int], values: Tensor) -> None:
    """Write some axes (..., axes) of coordinates (..., N)."""
    for number, axis in enumerate(axes):
        coordinates[..., axis] = values[..., number]


def grid_boxes(shape: Sequence[int], size: Sequence[int]) -> Boxes:
    """Tile the grid with boxes of one size, row-major.

    Parameters
    ----------
    shape, size : sequence of int
        Extents S and patch size P in samples, one per axis.

    Returns
    -------
    Boxes (K, N)
        K is the product of S / P.

    Raises
    ------
    ValueError
        If a side does not divide its extent: nothing is dropped silently.

    Examples
    --------
    >>> grid_boxes((4, 4), (2, 2)).start.tolist()
    [[0, 0], [0, 2], [2, 0], [2, 2]]
    """
    check_fit(shape, size)
    if any(s % p for s, p in zip(shape, size, strict=True)):
        raise ValueError(
            f"a grid of {tuple(shape)} is not a whole number of patches of {tuple(size)}; "
            "choose patch sides that divide the extents"
        )
    axes = [range(0, s, p) for s, p in zip(shape, size, strict=True)]
    start = torch.tensor(list(product(*axes)), dtype=torch.int64)
    sides = torch.tensor(tuple(size), dtype=torch.int64).expand_as(start).clone()
    return Boxes(start, sides, tuple((p, p) for p in size))
