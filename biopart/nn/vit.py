"""A vision transformer over patches of a grid with any number of axes, with timm's names."""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.grid import constant, on_axes
from biopart.nn.block import Block, transformer_norm
from biopart.nn.encoder import Encoder, check_tiles
from biopart.nn.positions import (
    Offsets,
    RelativeBias,
    interpolate,
    longer_axes,
    relative_offsets,
    row_major,
    sincos,
    sincos_table,
)
from biopart.recipe import Position


def evenly(depth: int, count: int = 4) -> tuple[int, ...]:
    """Return the last block of each of ``count`` equal parts of a depth, as ViTDet's 2 5 8 11.

    Examples
    --------
    >>> evenly(12), evenly(24), evenly(2)
    ((2, 5, 8, 11), (5, 11, 17, 23), (0, 1))
    """
    count = min(count, depth)
    return tuple((part + 1) * depth // count - 1 for part in range(count))


class PatchEmbed(nn.Module):
    """Linear projection of patches, with the weight of a strided convolution (D, C, *P)."""

    def __init__(self, patch: Sequence[int], channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.ParameterDict(
            {"weight": torch.empty(dim, channels, *patch), "bias": torch.zeros(dim)}
        )
        nn.init.xavier_uniform_(self.proj["weight"].data.view(dim, -1))

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches (B, K, C, *P) -> (B, K, D)."""
        weight = self.proj["weight"].flatten(1)
        return F.linear(patches.flatten(2).to(weight.dtype), weight, self.proj["bias"])


class ViT(Encoder):
    """Pre-norm vision transformer with [CLS] for patches on a grid with N axes.

    On two axes its parameters have timm's names and shapes, so that weights pass between the
    two unchanged (``timm.create_model("vit_small_patch16_224", num_classes=0)``).

    Parameters
    ----------
    shape : sequence of int
        Extents S of the grid in samples or pixels; a multiple of ``patch``.
    patch : sequence of int
        Patch size P; its length is the number of axes N.
    channels, dim, depth, heads : int
        C, D, number of blocks, attention heads.
    position : "learned", "sincos", "relative" or "none"
        Embedding of a patch's position, trained or fixed; a trained bias of the attention by
        relative positions; or nothing.
    drop_path : float
        Stochastic depth at the last block, rising linearly from 0.
    mlp_ratio : float
        Hidden features of the blocks' MLPs to dim.
    dropout : float
        Of what attention and both layers of the MLPs give.
    cls : bool
        Whether there is a [CLS]; without one the mean of the patch tokens stands in its place.
    final_norm : bool
        Whether tokens are normalised after the last block.

    Raises
    ------
    ValueError
        If patches do not tile the grid, or heads do not divide dim.
    """

    name = "vit"

    def __init__(
        self,
        shape: Sequence[int],
        patch: Sequence[int],
        channels: int,
        dim: int,
        depth: int,
        heads: int,
        *,
        position: Position = "learned",
        drop_path: float = 0.0,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        cls: bool = True,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        check_tiles(shape, patch)
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide dim {dim}; choose a divisor")
        if int(mlp_ratio * dim) < 1:
            raise ValueError(f"mlp_ratio {mlp_ratio:g} leaves no features of {dim}; raise it")
        if position not in get_args(Position):
            kinds = ", ".join(map(repr, get_args(Position)))
            raise ValueError(f"position is {position!r}; give one of {kinds}")
        if position == "relative" and not cls:
            raise ValueError("relative positions need [CLS]; set cls to true or choose others")
        self.shape, self.patch = tuple(shape), tuple(patch)
        self.channels, self.dim, self.heads = channels, dim, heads
        self.position, self.drop_path = position, drop_path
        self.mlp_ratio, self.dropout = mlp_ratio, dropout
        self.patch_embed = PatchEmbed(patch, channels, dim)
        self.cls, self.final_norm = cls, final_norm
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if cls else None
        if self.embeds_positions:
            self.pos_embed = nn.Parameter(self._table(), requires_grad=position == "learned")
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads,
                rate,
                rel_pos=RelativeBias(self.counts, heads) if position == "relative" else None,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
            )
            for rate in rates
        )
        self.norm = transformer_norm(dim) if final_norm else nn.Identity()
        self._initialise()

    @property
    def has_cls(self) -> bool:
        """Whether the first token is a [CLS]."""
        return self.cls

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that rebuild this encoder, ready for JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "patch": list(self.patch),
            "channels": self.channels,
            "dim": self.dim,
            "depth": len(self.blocks),
            "heads": self.heads,
            "position": self.position,
            "drop_path": self.drop_path,
            "mlp_ratio": self.mlp_ratio,
            "dropout": self.dropout,
            "cls": self.cls,
            "final_norm": self.final_norm,
        }

    def layers(self) -> list[list[nn.Parameter]]:
        """Return [CLS], positions and patch embedding, then the blocks, then the norm.

        The layer ids of MAE's fine-tuning (facebookresearch/mae, ``lr_decay.py``).
        """
        above = [list(part.parameters()) for part in (*self.blocks, self.norm)]
        known = {id(parameter) for part in above for parameter in part}
        return [[p for p in self.parameters() if id(p) not in known], *above]

    def positions(self) -> list[nn.Parameter]:
        """Return the tables of learned or relative positions, if there are any."""
        if self.position == "relative":
            biases = (module for module in self.modules() if isinstance(module, RelativeBias))
            return [bias.relative_position_bias_table for bias in biases]
        return [self.pos_embed] if self.position == "learned" else []

    def not_decayed(self) -> list[nn.Parameter]:
        """Return [CLS] and the positions."""
        fixed = [self.pos_embed] if self.position == "sincos" else []
        own = [] if self.cls_token is None else [self.cls_token]
        return [*own, *fixed, *self.positions()]

    def forward(
        self,
        patches: Tensor,
        positions: Tensor | None = None,
        context: Tensor | None = None,
        *,
        unknown: Tensor | None = None,
    ) -> Tensor:
        """Encode patches, after the final norm; arguments and result as of ``Encoder.forward``.

        Raises
        ------
        ValueError
            If the patches are not the whole grid and no positions are given, or positions are
            given to an encoder that has none.
        """
        tokens = self.patch_embed(patches)
        cls: Tensor | None = self.cls_token
        offsets: Offsets = ()
        if self.position == "none":
            if positions is not None and not positions.isnan().all():
                raise ValueError("an encoder with position='none' takes no positions; give it none")
        else:
            if positions is None and patches.shape[1] != self.n_patches:
                raise ValueError(
                    f"{patches.shape[1]} patches are not the whole grid of {self.n_patches}; give "
                    "their positions (NaN for those without a hint)"
                )
            if self.position == "relative":
                offsets = self._offsets(positions, patches.device)
            else:
                tokens = tokens + self._embed(positions)
                if unknown is not None and positions is not None:
                    tokens = tokens + unknown * positions.isnan().any(-1, keepdim=True)
                cls = None if cls is None else cls + self.pos_embed[:, :1]
        if cls is not None:
            tokens = torch.cat(
                [cls.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1
            )
            context = None if context is None else F.pad(context, (1, 0), value=True)
        mask = None if context is None else context[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, mask, offsets)
        normed: Tensor = self.norm(tokens)
        if cls is None:
            normed = torch.cat([normed.mean(1, keepdim=True), normed], dim=1)
        return normed

    def maps(self, values: Tensor, count: int) -> list[Tensor]:
        """Return the maps after evenly spaced blocks (``evenly``), the last after the final norm.

        Arguments and result as of ``Encoder.maps``.
        """
        kept: list[Tensor] = []
        blocks = evenly(len(self.blocks), count)[:-1]
        hooks = [
            self.blocks[block].register_forward_hook(lambda _, __, tokens: kept.append(tokens))
            for block in blocks
        ]
        try:
            last = self.encode(values)
        finally:
            for hook in hooks:
                hook.remove()
        if self.cls_token is None:
            kept = [F.pad(tokens, (0, 0, 1, 0)) for tokens in kept]
        maps = [self.as_map(tokens, values) for tokens in (*kept, last)]
        return [maps[0]] * (count - len(maps)) + maps

    def _offsets(
        self, positions: Tensor | None, device: torch.device
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the relative positions of all pairs of patches."""
        if positions is None:
            return relative_offsets(
                row_major(self.counts).to(device)[None], self.counts, on_grid=True
            )
        return relative_offsets(positions / constant(self.patch, device), self.counts)

    def _embed(self, positions: Tensor | None) -> Tensor:
        """Return the position embedding of each patch, (B or 1, K, D)."""
        if positions is None:
            return self.pos_embed[:, 1:]
        known = ~positions.isnan().any(-1, keepdim=True)
        coordinates = torch.where(known, positions, 0) / constant(self.patch, positions.device)
        if self.position == "sincos":
            embedding = sincos(on_axes(coordinates, longer_axes(self.counts)), self.dim)
        else:
            embedding = interpolate(self.pos_embed[0, 1:], coordinates, self.counts)
        return embedding * known

    def _table(self) -> Tensor:
        """Return the initial position table (1, 1 + K, D); [CLS] has position zero."""
        if self.position == "learned":
            return nn.init.trunc_normal_(torch.empty(1, 1 + self.n_patches, self.dim), std=0.02)
        return sincos_table(self.counts, self.dim)

    def _initialise(self) -> None:
        """Initialise as MAE does: Xavier-uniform matrices, zero biases, [CLS] N(0, 0.02)."""
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
