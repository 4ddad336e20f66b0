"""From stored integers to the values that a network sees."""

from typing import Literal

import torch
from torch import Tensor, nn

Normalisation = Literal["window", "none"]

MISSING = -32768
"""The int16 value that marks a missing sample in a store (its ``_FillValue``)."""


class Normalise(nn.Module):
    """Normalise grids (B, C, *S) to mean 0 and deviation 1, missing samples becoming 0.

    Parameters
    ----------
    how : "window" or "none"
        "window": each channel by its own mean and standard deviation over the grid, whatever the
        scale of the stored integers. "none": values as they are.
    """

    def __init__(self, how: Normalisation) -> None:
        super().__init__()
        if how not in ("window", "none"):
            raise ValueError(f"normalise is {how!r}; give 'window' or 'none'")
        self.how = how

    def forward(self, values: Tensor) -> Tensor:
        """Normalise integers or floats (B, C, *S) -> float32 of the same shape."""
        gaps = values.isnan() if values.is_floating_point() else values == MISSING
        if values.dtype == torch.uint8 or not bool(gaps.any()):
            floats, known = values.float(), None
        else:
            floats, known = values.float().masked_fill(gaps, 0.0), ~gaps
        if self.how == "none":
            return floats
        axes = tuple(range(2, floats.dim()))
        if known is None:
            centred = floats - floats.mean(axes, keepdim=True)
            deviation = centred.square().mean(axes, keepdim=True).sqrt()
        else:
            count = known.sum(axes, keepdim=True).clamp(min=1)
            centred = (floats - floats.sum(axes, keepdim=True) / count) * known
            deviation = (centred.square().sum(axes, keepdim=True) / count).sqrt()
        return centred / deviation.clamp(min=1e-6)
