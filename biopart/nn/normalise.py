"""From stored integers to the values that a network sees."""

from typing import Literal

import torch
from torch import Tensor, nn

Normalisation = Literal["window", "joint", "none"]

MISSING = -32768
"""The int16 value that marks a missing sample in a store (its ``_FillValue``)."""


def decode(values: Tensor) -> Tensor:
    """Return float32 values; in int16 the missing value becomes NaN. Any shape.

    Examples
    --------
    >>> decode(torch.tensor([3, -32768], dtype=torch.int16)).tolist()
    [3.0, nan]
    """
    floats = values.float()
    if values.dtype != torch.int16:
        return floats
    return floats.masked_fill(values == MISSING, torch.nan)


class Normalise(nn.Module):
    """Normalise grids (B, C, *S) to mean 0 and deviation 1, missing samples becoming 0.

    Parameters
    ----------
    how : "window", "joint" or "none"
        "window": each channel by its own mean and standard deviation over the grid. "joint":
        each channel by its own mean, all by one deviation, so that relative amplitudes stay.
        "none": values as they are.
    """

    def __init__(self, how: Normalisation) -> None:
        super().__init__()
        if how not in ("window", "joint", "none"):
            raise ValueError(f"normalise is {how!r}; give 'window', 'joint' or 'none'")
        self.how = how

    def forward(self, values: Tensor) -> Tensor:
        """Normalise integers or floats (B, C, *S) -> float32 of the same shape."""
        floats = decode(values)
        if self.how == "none":
            return floats
        axes = tuple(range(2, floats.dim()))
        if values.dtype.is_floating_point or bool((values == MISSING).any()):
            return self._with_gaps(floats, axes)
        centred = floats - floats.mean(axes, keepdim=True)
        over = axes if self.how == "window" else (1, *axes)
        return centred / centred.square().mean(over, keepdim=True).sqrt().clamp(min=1e-6)

    def _with_gaps(self, values: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Normalise where samples may be NaN; they take no part and become 0, the mean."""
        centred = (values - values.nanmean(axes, keepdim=True)).nan_to_num(nan=0.0)
        over = axes if self.how == "window" else (1, *axes)
        known = (~values.isnan()).sum(over, keepdim=True).clamp(min=1)
        deviation = (centred.square().sum(over, keepdim=True) / known).sqrt()
        return centred / deviation.clamp(min=1e-6)
