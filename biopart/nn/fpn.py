"""A feature pyramid on the maps of any encoder, summed for a class at every place."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

SCALES = (4, 2, 1, -2)  # places per token of each level; -2 = every other token
CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONV_UP = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = ("linear", "bilinear", "trilinear")


class SemanticFpn(nn.Module):
    """Semantic FPN (Kirillov et al. 2019, arXiv 1901.02446) on any number of axes.

    Four maps of an encoder become levels of 4, 2, 1 and a half place per token, each is added to
    the next finer one, brought to the finest scale and summed. Group normalisation, as published;
    SelfPatch's released recipe has batch normalisation.

    Parameters
    ----------
    dim, counts : int, sequence of int
        Features D of a token, tokens per axis.
    pyramid, channels : int
        Channels of the levels and of the head: 256 and 128 as published.
    outputs : int
        Classes.
    """

    def __init__(
        self,
        dim: int,
        counts: Sequence[int],
        outputs: int,
        *,
        pyramid: int = 256,
        channels: int = 128,
    ) -> None:
        super().__init__()
        self.axes = len(counts)
        conv = CONV[self.axes - 1]
        self.scaled = nn.ModuleList(self._scaled(dim, scale) for scale in SCALES)
        self.lateral = nn.ModuleList(conv(dim, pyramid, 1) for _ in SCALES)
        self.smooth = nn.ModuleList(conv(pyramid, pyramid, 3, padding=1) for _ in SCALES)
        self.heads = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    conv(pyramid if number == 0 else channels, channels, 3, padding=1),
                    nn.GroupNorm(math.gcd(32, channels), channels),
                    nn.ReLU(),
                )
                for number in range(max(1, level))
            )
            for level in range(len(SCALES))
        )
        self.classify = conv(channels, outputs, 1)

    def _scaled(self, dim: int, scale: int) -> nn.Module:
        """Return what brings a map to a scale: transposed convolutions, or every other place."""
        if scale == 1:
            return nn.Identity()
        if scale < 0:
            pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[self.axes - 1]
            return pool(-scale, ceil_mode=True)
        up = CONV_UP[self.axes - 1]
        layers: list[nn.Module] = [up(dim, dim, 2, stride=2)]
        for _ in range(round(math.log2(scale)) - 1):
            layers += [nn.GroupNorm(1, dim), nn.GELU(), up(dim, dim, 2, stride=2)]
        return nn.Sequential(*layers)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return outputs at 4 places per token and axis, four maps (B, D, *counts)."""
        mode = LINEAR[self.axes - 1]
        levels = [
            lateral(scaled(one))
            for lateral, scaled, one in zip(self.lateral, self.scaled, maps, strict=True)
        ]
        for number in range(len(levels) - 1, 0, -1):
            finer = levels[number - 1]
            levels[number - 1] = finer + F.interpolate(levels[number], finer.shape[2:])
        finest, total = levels[0].shape[2:], None
        for level, smooth, stages in zip(levels, self.smooth, self.heads, strict=True):
            found = smooth(level)
            assert isinstance(stages, nn.ModuleList)
            for stage in stages:
                found = stage(found)
                if found.shape[2:] != finest:
                    size = [min(2 * s, f) for s, f in zip(found.shape[2:], finest, strict=True)]
                    found = F.interpolate(found, size, mode=mode, align_corners=False)
            if found.shape[2:] != finest:  # an axis of extents that are not powers of two
                found = F.interpolate(found, finest, mode=mode, align_corners=False)
            total = found if total is None else total + found
        outputs: Tensor = self.classify(total)
        return outputs
