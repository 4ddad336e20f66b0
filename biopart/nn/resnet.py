"""ResNets on grids with any number of axes, whose receptive field can be chosen (RF-ResNet)."""

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from biopart.grid import unpatchify
from biopart.nn.batch_norm import BatchNorm
from biopart.nn.encoder import Encoder, check_tiles

DEPTHS = (3, 4, 6, 3)
"""Blocks of ResNet-50 (arXiv 1512.03385)."""

WIDER = 4  # output channels of a block to its inner ones
STRIDED = 5  # places for strides: first convolution, pooling, stages 2 to 4
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Block(nn.Module):
    """A bottleneck: 1 x 1, inner kernel with the stride, 1 x 1, and a shortcut."""

    def __init__(
        self, channels: int, inner: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        axes, out = len(kernel), WIDER * inner
        point = [1] * axes
        self.conv1 = convolution(channels, inner, point, point)
        self.bn1 = BatchNorm(inner)
        self.conv2 = convolution(inner, inner, kernel, stride)
        self.bn2 = BatchNorm(inner)
        self.conv3 = convolution(inner, out, point, point)
        self.bn3 = BatchNorm(out)
        self.downsample: nn.Module | None = None
        if channels != out or prod(stride) > 1:
            self.downsample = nn.Sequential(
                convolution(channels, out, point, stride), BatchNorm(out)
            )

    def forward(self, values: Tensor) -> Tensor:
        """Transform a map (B, C, *S)."""
        inner = self.bn1(self.conv1(values)).relu()
        inner = self.bn2(self.conv2(inner)).relu()
        shortcut = values if self.downsample is None else self.downsample(values)
        result: Tensor = (self.bn3(self.conv3(inner)) + shortcut).relu()
        return result


class ResNet(Encoder):
    """A ResNet whose inner kernels are 3 or 1 wide, so that its receptive field is chosen.

    RF-ResNet (CO-SSL, arXiv 2501.02860): most 3 x 3 convolutions become 1 x 1, and more blocks keep
    the number of parameters near that of ResNet-50. Which kernels stay is not published; here those
    of strides, and as many others as give the field, most of them in early stages. Without a
    receptive field it is ResNet-50. Names of the state are torchvision's and timm's.

    Parameters
    ----------
    shape : sequence of int
        Extents S of the grid; a multiple of ``patch``.
    patch : sequence of int
        Stride of the whole network per axis; each place of its map is a token.
    channels : int
        Channels C of the input.
    width : int
        Inner channels of the first stage; tokens have 32 times as many features.
    receptive_field : int, optional
        Samples that a place sees, along the last axis with more than one sample; None = all
        kernels are 3 wide.
    depths : sequence of int, optional
        Blocks of the four stages; None = ResNet-50's, with more blocks where kernels are 1 wide.

    Raises
    ------
    ValueError
        If the patch does not divide the grid, the field is larger than the grid or not reachable;
        names the nearest.
    """

    name = "rf_resnet"
    position = "none"

    def __init__(
        self,
        shape: Sequence[int],
        patch: Sequence[int],
        channels: int,
        *,
        width: int = 64,
        receptive_field: int | None = None,
        depths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_tiles(shape, patch)
        if len(shape) > len(CONVOLUTIONS):
            raise ValueError(f"there is no convolution on {len(shape)} axes; use encoder vit")
        self.shape, self.patch, self.channels = tuple(shape), tuple(patch), channels
        self.width, self.dim, self.asked = width, 8 * WIDER * width, receptive_field
        self.strides = [[slots[place] for slots in map(divided, patch)] for place in range(STRIDED)]
        blocks = DEPTHS if depths is None else tuple(depths)
        self.wide = self._wide(blocks, receptive_field)
        if depths is None and receptive_field is not None:
            blocks = self._filled(blocks)
        self.depths = blocks
        self._build()

    def _build(self) -> None:
        """Make the layers."""
        stem, pool, *later = self.strides
        kernel = [1 if extent == 1 else stem_kernel(s) for extent, s in self._axes(stem)]
        self.conv1 = convolution(self.channels, self.width, kernel, stem)
        self.bn1 = BatchNorm(self.width)
        size = [1 if extent == 1 else pool_kernel(s) for extent, s in self._axes(pool)]
        pooling: Any = POOLINGS[len(self.shape) - 1]
        self.maxpool: nn.Module = nn.Identity()
        if prod(pool) > 1:
            self.maxpool = pooling(size, pool, [side // 2 for side in size])
        channels = self.width
        for stage, depth in enumerate(self.depths):
            stride = [1] * len(self.shape) if stage == 0 else later[stage - 1]
            inner, parts = self.width * 2**stage, []
            for number in range(depth):
                own = stride if number == 0 else [1] * len(self.shape)
                parts.append(Block(channels, inner, self._kernel(stage, number, own), own))
                channels = WIDER * inner
            self.add_module(f"layer{stage + 1}", nn.Sequential(*parts))
        for module in self.modules():
            if isinstance(module, CONVOLUTIONS):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _axes(self, strides: Sequence[int]) -> list[tuple[int, int]]:
        """Return the extent and the stride of each axis."""
        return list(zip(self.shape, strides, strict=True))

    def _kernel(self, stage: int, number: int, stride: Sequence[int]) -> list[int]:
        """Return the inner kernel of a block, 1 along axes of one sample."""
        strided = number == 0 and prod(stride) > 1
        wide = strided or number in self.wide[stage]
        sides = [max(3, s | 1) if wide else 1 for s in stride]
        return [1 if extent == 1 else side for extent, side in zip(self.shape, sides, strict=True)]

    def _wide(self, depths: Sequence[int], field: int | None) -> list[set[int]]:
        """Choose the blocks without a stride that have wide kernels, by stage.

        Of all choices that give the field, the one with most of them, in early stages.
        """
        free = [
            [n for n in range(depth) if n > 0 or stage == 0 or prod(self.strides[stage + 1]) == 1]
            for stage, depth in enumerate(depths)
        ]
        if field is None:
            return [set(places) for places in free]
        axis = max(a for a, extent in enumerate(self.shape) if extent > 1)
        least, steps = self._least(axis)
        fields = {
            counts: least + sum(c * step for c, step in zip(counts, steps, strict=True))
            for counts in product(*(range(len(places) + 1) for places in free))
        }
        fitting = [counts for counts, found in fields.items() if found == field]
        if field > self.shape[axis]:
            inside = [found for found in fields.values() if found <= self.shape[axis]] or [least]
            raise ValueError(
                f"a receptive field of {field} is larger than the input of {self.shape[axis]}; "
                f"set encoder.receptive_field to {nearest(inside, field)}, the nearest"
            )
        if not fitting:
            raise ValueError(
                f"a receptive field of {field} cannot be reached with a stride of "
                f"{self.patch[axis]}; the nearest is {nearest(fields.values(), field)}: set "
                "encoder.receptive_field to it"
            )
        best = max(fitting, key=lambda counts: (sum(counts), counts))
        return [set(places[:count]) for places, count in zip(free, best, strict=True)]

    def _least(self, axis: int) -> tuple[int, list[int]]:
        """Return the smallest field along an axis, and what a wide kernel of each stage adds."""
        stem, pool, *later = self.strides
        jump = stem[axis]
        field = stem_kernel(jump) + (pool_kernel(pool[axis]) - 1) * jump
        jump *= pool[axis]
        steps = [2 * jump]
        for stride in later:
            if prod(stride) > 1:  # its kernel is wide along all axes
                field += (max(3, stride[axis] | 1) - 1) * jump
            jump *= stride[axis]
            steps.append(2 * jump)
        return field, steps

    def _filled(self, depths: Sequence[int]) -> tuple[int, ...]:
        """Add blocks to the later stages until the parameters are those of 3-wide kernels."""
        wanted = self._count(depths, wide=True)
        blocks, grown = list(depths), True
        while grown:
            grown = False
            for stage in (3, 2):
                more = [d + (number == stage) for number, d in enumerate(blocks)]
                if self._count(more, wide=False) <= wanted:
                    blocks, grown = more, True
        return tuple(blocks)

    def _count(self, depths: Sequence[int], *, wide: bool) -> int:
        """Count the weights of the convolutions in the four stages."""
        kernel = prod(3 for extent in self.shape if extent > 1)
        total, channels = 0, self.width
        for stage, depth in enumerate(depths):
            inner = self.width * 2**stage
            for number in range(depth):
                strided = number == 0 and stage > 0 and prod(self.strides[stage + 1]) > 1
                inside = kernel if wide or strided or number in self.wide[stage] else 1
                total += channels * inner + inside * inner**2 + WIDER * inner**2
                total += WIDER * inner * channels * (number == 0)
                channels = WIDER * inner
        return total

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """Samples that a place of the map sees, per axis: 1 + sum of (k - 1) * earlier strides."""
        fields = []
        for axis, extent in enumerate(self.shape):
            least, steps = self._least(axis)
            more = sum(len(w) * step for w, step in zip(self.wide, steps, strict=True))
            fields.append(1 if extent == 1 else least + more)
        return tuple(fields)

    @property
    def takes_patches(self) -> bool:
        """False: a place sees beyond its patch, so patches cannot be hidden or moved."""
        return False

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that rebuild this encoder, ready for JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "patch": list(self.patch),
            "channels": self.channels,
            "width": self.width,
            "receptive_field": self.asked,
            "depths": list(self.depths),
        }

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the first convolution with its norm, then every block."""
        stem = [*self.conv1.parameters(), *self.bn1.parameters()]
        stages = [self.get_submodule(f"layer{number}") for number in range(1, 5)]
        return [stem, *(list(block.parameters()) for stage in stages for block in stage.children())]

    def map(self, values: Tensor) -> Tensor:
        """Return the map of grids (B, C, *S') before pooling, (B, D, *counts)."""
        values = self.maxpool(self.bn1(self.conv1(values)).relu())
        for number in range(1, 5):
            values = self.get_submodule(f"layer{number}")(values)
        return values

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the stages, since whole grids pass through ``encode`` alone."""
        for stage in self.children():
            stage.compile(*args, **kwargs)

    def encode(self, values: Tensor) -> Tensor:
        """Encode whole grids of any extents, (B, C, *S') -> (B, 1 + K, D), their mean first."""
        tokens = self.map(values).flatten(2).transpose(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)

    def forward(
        self,
        patches: Tensor,
        positions: Tensor | None = None,
        context: Tensor | None = None,
        *,
        unknown: Tensor | None = None,
    ) -> Tensor:
        """Encode the patches of a whole grid, (B, K, C, *P) -> (B, 1 + K, D).

        Raises ValueError where patches are missing, or have positions or a context.
        """
        placed = positions is not None and not positions.isnan().all()
        if placed or context is not None or patches.shape[1] != self.n_patches:
            raise ValueError(
                f"encoder {self.name} takes whole grids: patches without positions and context, "
                f"{self.n_patches} of them"
            )
        return self.encode(unpatchify(patches, self.shape))


def convolution(channels: int, out: int, kernel: Sequence[int], stride: Sequence[int]) -> nn.Module:
    """Return a convolution without bias on as many axes as its kernel has."""
    padding = [side // 2 for side in kernel]
    kind: Any = CONVOLUTIONS[len(kernel) - 1]
    made: nn.Module = kind(channels, out, tuple(kernel), tuple(stride), padding, bias=False)
    return made


def divided(stride: int) -> list[int]:
    """Divide a stride among the places for strides, the largest prime factors first.

    Examples
    --------
    >>> divided(32), divided(100), divided(4)
    ([2, 2, 2, 2, 2], [5, 5, 2, 2, 1], [2, 2, 1, 1, 1])
    """
    factors, rest, factor = [], stride, 2
    while rest > 1:
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
        factor += 1
    slots = [1] * STRIDED
    for prime in reversed(factors):
        place = slots.index(min(slots))
        slots[place] *= prime
    return slots


def stem_kernel(stride: int) -> int:
    """Return the side of the first kernel: 7 at a stride of 2, as in ResNet-50; 3 at 1."""
    return 3 if stride == 1 else 2 * stride + 3


def pool_kernel(stride: int) -> int:
    """Return the side of the pooling: 3 at a stride of 2, as in ResNet-50; none at 1."""
    return 1 if stride == 1 else stride | 1


def nearest(fields: Iterable[int], wanted: int) -> int:
    """Return the reachable field that is nearest to a wanted one; of two the smaller.

    Examples
    --------
    >>> nearest([67, 99, 163], 80), nearest([67, 83], 75)
    (67, 67)
    """
    return min(fields, key=lambda field: (abs(field - wanted), field))
