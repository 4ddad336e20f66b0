"""Positions of patches anywhere on a grid with N axes, as embeddings or as a bias of attention."""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def row_major(counts: Sequence[int]) -> Tensor:
    """Return the grid coordinates of row-major patches: counts per axis -> (K, N) float.

    Examples
    --------
    >>> row_major((2, 2)).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    return torch.cartesian_prod(*[torch.arange(float(n)) for n in counts]).reshape(-1, len(counts))


def longer_axes(counts: Sequence[int]) -> list[int]:
    """Return the axes with more than one patch: only they need positions.

    So an image of height 1 has the positions of the equivalent signal.

    Examples
    --------
    >>> longer_axes((1, 30)), longer_axes((14, 14)), longer_axes((1,))
    ([1], [0, 1], [0])
    """
    return [axis for axis, count in enumerate(counts) if count > 1] or [0]


def sincos(coordinates: Tensor, dim: int) -> Tensor:
    """Return fixed sine-cosine embeddings of continuous coordinates.

    D splits evenly over the axes, each ``[sin | cos]`` of ``coordinate * 10000^(-k / (D' / 2))``
    with D' = D / N (MAE, arXiv 2111.06377; facebookresearch/mae ``util/pos_embed.py``, which puts
    the last axis first; here axes keep the grid's order).

    Parameters
    ----------
    coordinates : Tensor (..., N)
        In patch sizes from the first patch.
    dim : int
        D, a multiple of 2 N.

    Returns
    -------
    Tensor (..., D), float32

    Raises
    ------
    ValueError
        If D is not a multiple of 2 N.

    Examples
    --------
    >>> sincos(torch.zeros(1, 1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    axes = coordinates.shape[-1]
    if dim % (2 * axes):
        raise ValueError(
            f"sine-cosine positions on {axes} axes need a dim that is a multiple of {2 * axes}; "
            f"{dim} is not"
        )
    half = dim // axes // 2
    steps = torch.arange(half, dtype=torch.float64, device=coordinates.device)
    angle = coordinates[..., None].double() * 10000.0 ** (-steps / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


def sincos_table(counts: Sequence[int], dim: int) -> Tensor:
    """Return the table of a grid, [CLS] with position zero first: (1, 1 + K, D).

    Examples
    --------
    >>> sincos_table((2,), 2)[0].round(decimals=2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [0.8399999737739563, 0.5400000214576721]]
    """
    places = row_major(counts)[:, longer_axes(counts)]
    return F.pad(sincos(places, dim), (0, 0, 1, 0))[None]


def interpolate(table: Tensor, coordinates: Tensor, counts: Sequence[int]) -> Tensor:
    """Read a learned table between its entries, linearly in every axis.

    Coordinates beyond the first or last patch take the nearest entry.

    Parameters
    ----------
    table : Tensor (K, D)
        One row per row-major patch.
    coordinates : Tensor (B, M, N)
        In patch sizes from the first patch.
    counts : sequence of int
        Patches per axis; their product is K.

    Returns
    -------
    Tensor (B, M, D)

    Examples
    --------
    >>> interpolate(torch.tensor([[0.0], [10.0]]), torch.tensor([[[0.25], [7.0]]]), (2,)).tolist()
    [[[2.5], [10.0]]]
    """
    weight = torch.ones(*coordinates.shape[:2], 1, device=coordinates.device)
    for axis, count in enumerate(counts):
        place = coordinates[..., axis, None].clamp(0, count - 1)
        entry = torch.arange(count, device=coordinates.device)
        hat = (1 - (place - entry).abs()).clamp(min=0)
        weight = (weight[..., None] * hat[..., None, :]).flatten(-2)
    return weight.to(table.dtype) @ table


Offsets = Sequence[tuple[Tensor, Tensor]]
"""Entries of a table of relative positions and their weights, see ``relative_offsets``."""


def is_position(name: str) -> bool:
    """Tell whether a weight of that name is a table of positions.

    Examples
    --------
    >>> is_position("pos_embed"), is_position("blocks.0.attn.rel_pos.relative_position_bias_table")
    (True, True)
    """
    return name == "pos_embed" or name.endswith("relative_position_bias_table")


class RelativeBias(nn.Module):
    """What attention adds for the relative position of query and key, a table per head.

    The table has timm's name and order (``RelPosBias`` with one prefix token; BEiT, arXiv
    2106.08254): query minus key, row-major, then [CLS] to patches, patches to [CLS], [CLS] to
    itself. It starts at 0, so that weights without positions mean the same with it.

    Parameters
    ----------
    counts : sequence of int
        Patches per axis.
    heads : int
        Attention heads.
    """

    def __init__(self, counts: Sequence[int], heads: int) -> None:
        super().__init__()
        entries = prod(2 * count - 1 for count in counts)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(entries + 3, heads))

    def forward(self, offsets: Offsets) -> Tensor:
        """Return the bias (B or 1, heads, 1 + K, 1 + K) of ``relative_offsets``."""
        table = self.relative_position_bias_table
        bias = sum(table[entry] * weight[..., None] for entry, weight in offsets)
        assert isinstance(bias, Tensor)
        to_patch, to_cls, cls = table[-3:]
        count = bias.shape[1]
        column = to_cls.expand(len(bias), count, 1, -1)
        row = torch.cat([cls.expand(1, 1, -1), to_patch.expand(1, count, -1)], 1)
        whole = torch.cat([row.expand(len(bias), 1, -1, -1), torch.cat([column, bias], 2)], dim=1)
        return whole.permute(0, 3, 1, 2)


def relative_offsets(
    coordinates: Tensor, counts: Sequence[int], *, on_grid: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Return which entries of a table of relative positions belong to pairs, and their weights.

    Between entries a table is read linearly in every axis; offsets beyond it take the outermost.
    Pairs with an unknown position have weight 0.

    Parameters
    ----------
    coordinates : Tensor (B, K, N)
        In patch sizes; NaN = unknown.
    counts : sequence of int
        Patches per axis of the table's grid.
    on_grid : bool
        All coordinates are whole numbers: one entry per pair is enough.

    Returns
    -------
    list of (entry int64 (B, K, K), weight float (B, K, K)); first K the query, then the key

    Examples
    --------
    >>> [(entry, weight)] = relative_offsets(row_major((2,))[None], (2,), on_grid=True)
    >>> entry.tolist(), weight.tolist()
    ([[[1, 0], [2, 1]]], [[[1.0, 1.0], [1.0, 1.0]]])
    """
    offset = coordinates[:, :, None] - coordinates[:, None]
    known = ~offset.isnan().any(-1)
    sides = [2 * count - 1 for count in counts]
    largest = torch.tensor(sides, device=offset.device) - 1
    place = (offset.nan_to_num() + largest / 2).clamp(min=0).minimum(largest.to(offset.dtype))
    low = place.floor()
    share = place - low
    corners = []
    for corner in [(0,) * len(sides)] if on_grid else product((0, 1), repeat=len(sides)):
        entry, weight = torch.zeros_like(known, dtype=torch.int64), known.to(offset.dtype)
        for axis, (step, side) in enumerate(zip(corner, sides, strict=True)):
            entry = entry * side + (low[..., axis].long() + step).clamp(max=side - 1)
            weight = weight * (share[..., axis] if step else 1 - share[..., axis])
        corners.append((entry, weight))
    return corners
