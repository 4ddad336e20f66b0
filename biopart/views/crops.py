"""Random boxes of a share of a grid, and mirror images, on any number of axes."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from biopart.grid import Boxes, rand


class CropSettings(Protocol):
    """What decides the boxes."""

    @property
    def crop(self) -> tuple[float, float]:
        """Smallest and largest share of the grid."""

    @property
    def ratio(self) -> tuple[float, float]:
        """Smallest and largest ratio: of width to height, or of sides relative to the grid's."""


def crop_boxes(
    count: int, shape: Sequence[int], settings: CropSettings, generator: torch.Generator
) -> Boxes:
    """Draw a box of random size and place in each grid.

    Its share of the grid is uniform in ``crop``. On two axes the log of width / height is uniform
    in that of ``ratio``, as in torchvision's RandomResizedCrop; only boxes that fit are drawn, so
    none is drawn again. On more axes the log of each side, relative to the grid's, is uniform
    before the share is set, less so where a box would not fit; on one axis the share is the length.

    Parameters
    ----------
    count : int
        Grids B.
    shape : sequence of int
        Extents S in samples or pixels.
    settings : CropSettings
        Ranges of share and ratio.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Boxes (B, 1, N)

    Examples
    --------
    >>> from biopart.recipe import ImageChanges
    >>> half = ImageChanges(crop=(0.5, 0.5))
    >>> crop_boxes(2, (3000,), half, torch.Generator().manual_seed(0)).size.tolist()
    [[[1500]], [[1500]]]
    """
    low, high = settings.crop
    share = low + (high - low) * uniform(count, generator)
    limits = torch.tensor(shape)
    longer = [axis for axis, extent in enumerate(shape) if extent > 1]
    sides = limits.float().expand(count, -1).clone()
    if len(longer) == 2:
        height, width = (shape[axis] for axis in longer)
        # A box that fits has a ratio between these two; for square images 1 is between them.
        least, most = share * width / height, width / (height * share)
        narrow, wide = (least.clamp(min=bound).minimum(most).log() for bound in settings.ratio)
        ratio = (narrow + (wide - narrow) * uniform(count, generator)).exp()
        area = (share * height * width)[:, None]
        sides[:, longer] = (area * torch.stack([1 / ratio, ratio], 1)).sqrt()
    elif longer:
        least_log, most_log = (math.log(bound) for bound in settings.ratio)
        drawn = torch.stack([uniform(count, generator) for _ in longer], 1)
        logs = least_log + (most_log - least_log) * drawn
        logs = logs - logs.mean(1, keepdim=True)
        # No side may be longer than the grid's, whatever is left of the share for the others.
        room = -share.clamp(min=1e-6).log()[:, None] / len(longer)
        logs *= (room / logs.amax(1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
        sides[:, longer] *= share[:, None] ** (1 / len(longer)) * logs.exp()
    size = sides.round().long().clamp(min=1).minimum(limits)
    room = limits - size + 1
    start = (torch.stack([uniform(count, generator) for _ in shape], 1) * room).long()
    return Boxes(start.minimum(room - 1)[:, None], size[:, None])


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Draw numbers in [0, 1) and move them to the CPU, where boxes are drawn."""
    return rand(count, generator=generator).cpu()


def mirrored(values: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the last axis of the chosen grids, bool (B,), of a batch (B, C, *S)."""
    where = chosen.to(values.device).view(-1, *[1] * (values.dim() - 1))
    return torch.where(where, values.flip(-1), values)


def per_grid(shares: Tensor, values: Tensor) -> Tensor:
    """Return a value per grid, (B,), in the shape that multiplies a batch (B, C, *S)."""
    return shares.to(values.device, values.dtype).view(-1, *[1] * (values.dim() - 1))


def masked(values: Tensor, boxes: Boxes) -> Tensor:
    """Set a box of each grid, (B, N), to 0, on any number of axes."""
    inside = torch.ones((len(values), *values.shape[2:]), dtype=torch.bool, device=values.device)
    for axis, extent in enumerate(values.shape[2:]):
        at = torch.arange(extent, device=values.device)
        start, size = (x[:, axis, None].to(values.device) for x in (boxes.start, boxes.size))
        within = (at >= start) & (at < start + size)
        inside &= within.view(-1, *[extent if a == axis else 1 for a in range(values.dim() - 2)])
    return values.masked_fill(inside[:, None], 0.0)
