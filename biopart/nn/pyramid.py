"""A plain ViT as the backbone of a detector: window attention and a simple feature pyramid.

ViTDet (Li et al. 2022, arXiv 2203.16527), on two axes.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

from timm.layers import LayerNorm2d
from timm.models.vision_transformer_sam import window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.grid import patchify
from biopart.nn.block import Block
from biopart.nn.encoder import Encoder
from biopart.nn.vit import ViT, evenly

STRIDES = (4, 8, 16, 32)


class Trunk(nn.Module):
    """The blocks of a ViT on a whole canvas, most of which attend within windows only.

    Parameters
    ----------
    encoder : Encoder
        A ViT on two axes; used directly, not copied. Its [CLS] and its final norm are not used:
        detectron2's ViT has no norm between the last block and the pyramid.
    window : int
        Side of a window in patches.
    global_blocks : sequence of int
        Blocks in which every patch attends to all; evenly spaced by default.

    Raises
    ------
    ValueError
        If the encoder has no attention blocks or another number of axes, or a block does not exist.
    """

    def __init__(
        self, encoder: Encoder, *, window: int = 14, global_blocks: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if len(encoder.patch) != 2:
            raise ValueError(f"a detector needs an encoder of images; the grid is {encoder.shape}")
        if not isinstance(encoder, ViT):
            raise ValueError(
                f"a detector's windows need the attention blocks of encoder vit; {encoder.name} "
                "has none"
            )
        if encoder.position == "relative":
            raise ValueError(
                "a detector's windows have no relative positions; set position to learned, sincos "
                "or none"
            )
        depth = len(encoder.blocks)
        chosen = evenly(depth) if global_blocks is None else tuple(global_blocks)
        if any(not 0 <= block < depth for block in chosen):
            raise ValueError(f"global_blocks {list(chosen)} must be among 0 to {depth - 1}")
        self.encoder, self.window, self.global_blocks = encoder, window, frozenset(chosen)
        if encoder.cls_token is not None:
            encoder.cls_token.requires_grad_(False)
        encoder.norm.requires_grad_(False)

    def forward(self, values: Tensor) -> Tensor:
        """Encode normalised canvases (B, C, *S) -> (B, D, y, x), one position per patch."""
        encoder = self.encoder
        tokens = encoder.patch_embed(patchify(values, encoder.patch))
        if encoder.embeds_positions:
            tokens = tokens + encoder.pos_embed[:, 1:]
        counts = encoder.counts
        for number, block in enumerate(encoder.blocks):
            assert isinstance(block, Block)
            if number in self.global_blocks:
                tokens = block(tokens)
            else:
                tokens = in_windows(block, tokens, counts, window=self.window)
        found: Tensor = tokens.transpose(1, 2).reshape(len(values), encoder.dim, *counts)
        return found


def in_windows(block: Block, tokens: Tensor, counts: Sequence[int], *, window: int) -> Tensor:
    """Let a block attend within windows only, tokens (B, K, D) -> (B, K, D).

    Windows are filled up with zeros after the block's first norm, so that what fills them up is 0
    to the attention (detectron2, ``modeling/backbone/vit.py``).
    """
    attended = block.attn(into_windows(block.norm1(tokens), counts, window))
    tokens = tokens + block.drop_path1(out_of_windows(attended, counts, window))
    changed: Tensor = tokens + block.drop_path2(block.mlp(block.norm2(tokens)))
    return changed


def into_windows(tokens: Tensor, counts: Sequence[int], window: int) -> Tensor:
    """Cut tokens (B, K, D) of a grid into windows (B * n, window^2, D), zeros at the far edges."""
    grid = tokens.reshape(len(tokens), *counts, tokens.shape[-1])
    windows: Tensor = window_partition(grid, window)[0]
    return windows.flatten(1, 2)


def out_of_windows(windows: Tensor, counts: Sequence[int], window: int) -> Tensor:
    """Join windows again, (B * n, window^2, D) -> (B, K, D); undoes ``into_windows``."""
    padded = tuple(window * math.ceil(count / window) for count in counts)
    squares = windows.reshape(-1, window, window, windows.shape[-1])
    grid: Tensor = window_unpartition(squares, window, tuple(counts), padded)
    return grid.flatten(1, 2)


class Pyramid(nn.Module):
    """The map of the trunk at several strides.

    Parameters
    ----------
    trunk : Trunk
        Gives a map with one position per patch.
    channels : int
        Channels of every level.

    Attributes
    ----------
    out_channels : int
        Required by torchvision's detectors.
    """

    def __init__(self, trunk: Trunk, channels: int = 256) -> None:
        super().__init__()
        patch, dim = trunk.encoder.patch, trunk.encoder.dim
        if len(set(patch)) > 1 or patch[0] not in STRIDES:
            raise ValueError(f"a pyramid needs square patches of {STRIDES} pixels; got {patch}")
        self.trunk, self.out_channels = trunk, channels
        self.levels = nn.ModuleList(_level(dim, channels, patch[0], stride) for stride in STRIDES)

    def forward(self, values: Tensor) -> OrderedDict[str, Tensor]:
        """Return maps of strides 4, 8, 16, 32 and 64 by name: canvases -> (B, channels, y, x)."""
        found = self.trunk(values)
        maps = OrderedDict((str(n), level(found)) for n, level in enumerate(self.levels))
        # As in ViTDet, the coarsest level for proposals is every other position of the previous
        # one.
        maps["pool"] = F.max_pool2d(maps[str(len(self.levels) - 1)], 1, stride=2)
        return maps


def _level(dim: int, channels: int, patch: int, stride: int) -> nn.Sequential:
    """Build layers that convert a map of stride ``patch`` to another stride and channel count."""
    parts: list[nn.Module] = []
    width = dim
    for number in range(round(math.log2(max(patch // stride, 1)))):
        if number:
            parts += [LayerNorm2d(width), nn.GELU()]
        parts.append(nn.ConvTranspose2d(width, width // 2, 2, stride=2))
        width //= 2
    parts += [nn.MaxPool2d(2)] * round(math.log2(max(stride // patch, 1)))
    parts += [nn.Conv2d(width, channels, 1, bias=False), LayerNorm2d(channels)]
    parts += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels)]
    return nn.Sequential(*parts)
