"""Boxes drawn from a density over the grid, for any N.

PART (arXiv 2506.03682) proposes to draw more patches from relevant parts: an object's box, a mask,
a saliency map, the energy of a signal. A constant density gives the uniform draw.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from biopart.grid.boxes import Boxes, check_fit
from biopart.grid.constants import constant
from biopart.grid.draws import rand


def focused_boxes(
    density: Tensor,
    count: int,
    size: Sequence[int],
    *,
    generator: torch.Generator | None = None,
) -> Boxes:
    """Draw boxes of one size, each position with a probability proportional to its content.

    Parameters
    ----------
    density : Tensor (B, *S)
        Weight of each sample or pixel, at least 0, in any unit; a grid with zero density is
        drawn from uniformly.
    count : int
        Boxes per grid K; overlap is allowed.
    size : sequence of int
        Patch size P, one side per axis.
    generator : torch.Generator, optional
        Source of randomness; draws are made on its device.

    Returns
    -------
    Boxes (B, K, N)
        On the device of the density.

    Raises
    ------
    ValueError
        If the box does not fit into the grid, or the density is negative or not finite somewhere.

    Examples
    --------
    >>> density = torch.zeros(1, 10)
    >>> density[0, 7] = 1.0
    >>> starts = focused_boxes(density, 50, (3,)).start.unique()
    >>> starts.tolist()  # the three positions that cover sample 7
    [5, 6, 7]
    """
    shape = tuple(density.shape[1:])
    check_fit(shape, size)
    wrong = ~(density >= 0) | density.isinf()
    if bool(wrong.any()):
        raise ValueError(
            f"the density of grid {int(wrong.flatten(1).any(1).nonzero()[0])} has the value "
            f"{float(density[wrong][0])}; give finite values of at least 0"
        )
    mass = covered(density.double(), size)
    places, flat = mass.shape[1:], mass.flatten(1)
    flat = torch.where(flat.sum(1, keepdim=True) > 0, flat, 1.0)
    rising = flat.cumsum(1)
    source = generator.device if generator is not None else density.device
    drawn = rand(len(flat), count, generator=generator, device=source, dtype=torch.float64)
    index = torch.searchsorted(rising, drawn.to(rising.device) * rising[:, -1:], right=True)
    # Rounding may put a draw on the last step; use the last position with any mass.
    last = (flat > 0).long().cumsum(1).argmax(1, keepdim=True)
    index = torch.minimum(index, last)
    start = torch.stack(torch.unravel_index(index, places), dim=-1)
    sides = constant(size, start.device).expand_as(start).clone()
    return Boxes(start, sides, tuple((p, p) for p in size))


def covered(density: Tensor, size: Sequence[int]) -> Tensor:
    """Sum a density (B, *S) over the box at every position, (B, *(S - P + 1)).

    Examples
    --------
    >>> covered(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), (2,)).tolist()
    [[3.0, 5.0, 7.0]]
    """
    for axis, side in enumerate(size, start=1):
        density = density.unfold(axis, side, 1).sum(-1)
    return density


def energy(values: Tensor) -> Tensor:
    """Return the energy of grids (B, C, *S) as a density (B, *S): mean square over channels."""
    return values.float().square().mean(1)


def inside(boxes: Boxes, shape: Sequence[int]) -> Tensor:
    """Return a density (B, *S) that is 1 inside any of some boxes (B, K, N), such as objects'.

    Examples
    --------
    >>> inside(Boxes(torch.tensor([[[1]]]), torch.tensor([[[2]]])), (4,)).tolist()
    [[0.0, 1.0, 1.0, 0.0]]
    """
    batch, count, axes = boxes.start.shape
    covers = torch.ones(batch, count, *shape, dtype=torch.bool, device=boxes.start.device)
    for axis, extent in enumerate(shape):
        place = torch.arange(extent, device=boxes.start.device)
        start, size = (x[..., axis, None] for x in (boxes.start, boxes.size))
        within = (place >= start) & (place < start + size)
        covers &= within.reshape(batch, count, *[extent if a == axis else 1 for a in range(axes)])
    return covers.any(1).float()
