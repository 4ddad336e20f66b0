"""Turn stored integers into the values that a network sees."""

from typing import get_args

import torch
from torch import Tensor, nn

from biopart.codes import DEVIATION, MISSING
from biopart.recipe import Normalisation

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue over ImageNet, relative to white; timm's default."""


class Normalise(nn.Module):
    """Normalise grids (B, C, *S) to mean 0 and deviation 1; missing samples become 0.

    Parameters
    ----------
    how : "window", "recording", "imagenet", "half" or "none"
        "window": each channel by its own mean and standard deviation over the grid, whatever the
        scale of the stored integers. "recording": integers are thousandths of the deviation of
        their recording from its median (``data.standardised``), floats such deviations.
        "imagenet": colours (B, 3, y, x) of 0 to 255 by ImageNet's
        mean and deviation. "half": colours from -1 to 1, as BEiT's. "none": unchanged.
    """

    def __init__(self, how: Normalisation) -> None:
        super().__init__()
        if how not in get_args(Normalisation):
            raise ValueError(f"normalise is {how!r}; give one of {get_args(Normalisation)}")
        self.how = how

    def forward(self, values: Tensor) -> Tensor:
        """Normalise integers or floats (B, C, *S) -> float32 of the same shape."""
        gaps = values.isnan() if values.is_floating_point() else values == MISSING
        # No branch may depend on values that are exported, or that a GPU is still working on.
        blind = torch.compiler.is_exporting() or values.device.type != "cpu"
        if values.dtype == torch.uint8 or not (blind or bool(gaps.any())):
            floats, known = values.float(), None
        else:
            floats, known = values.float().masked_fill(gaps, 0.0), ~gaps
        if self.how == "none":
            return floats
        if self.how == "recording":
            return floats if values.is_floating_point() else floats / DEVIATION
        if self.how == "imagenet":
            return coloured(floats)
        if self.how == "half":
            return floats / 127.5 - 1
        axes = tuple(range(2, floats.dim()))
        if known is None:
            centred = floats - floats.mean(axes, keepdim=True)
            deviation = centred.square().mean(axes, keepdim=True).sqrt()
        else:
            count = known.sum(axes, keepdim=True).clamp(min=1)
            centred = (floats - floats.sum(axes, keepdim=True) / count) * known
            deviation = (centred.square().sum(axes, keepdim=True) / count).sqrt()
        return centred / deviation.clamp(min=1e-6)


def coloured(values: Tensor) -> Tensor:
    """Normalise colours (B, 3, *S) of 0 to 255 by ImageNet's mean and deviation.

    Raises ValueError if there are not three channels.
    """
    if values.shape[1] != 3:
        raise ValueError(
            f"normalise imagenet needs red, green and blue; there are {values.shape[1]} channels, "
            "so set data.normalise=window"
        )
    shape = (1, 3, *[1] * (values.dim() - 2))
    mean, deviation = (values.new_tensor(statistics).view(shape) for statistics in IMAGENET)
    return (values / 255 - mean) / deviation
