"""Position embeddings for patches at any position of a grid with N axes."""

from collections.abc import Sequence

import torch
from torch import Tensor
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
