"""SelfPatch's aggregation of tokens by class attention, and which patches are neighbours."""

from functools import cache
from itertools import product

import torch
from torch import Tensor, nn

from biopart.nn.block import EPSILON, WIDER
from biopart.nn.positions import longer_axes, row_major


class ClassAttention(nn.Module):
    """A block in which a query attends to itself and a set of tokens (CaiT, arXiv 2103.17239)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=EPSILON) for _ in range(2))
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        hidden = int(WIDER * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, query: Tensor, tokens: Tensor, sets: "Sets | None") -> Tensor:
        """Update queries (B, Q, D) by tokens (B, K, D); of each query by its own set."""
        own, others = self.norm1(query), self.norm1(tokens)
        q = self._split(self.q(own))  # (B, Q, H, d)
        keys, values = (
            self._gather(part(own), part(others), sets) for part in (self.k, self.v)
        )  # (B, Q, 1 + k, H, d)
        scores = (q[:, :, None] * keys).sum(-1) * q.shape[-1] ** -0.5
        if sets is not None:
            absent = torch.nn.functional.pad(~sets.present, (1, 0), value=False)
            scores = scores.masked_fill(absent[..., None], -torch.inf)
        mixed = (scores.softmax(2)[..., None] * values).sum(2).flatten(2)
        query = query + self.proj(mixed)
        updated: Tensor = query + self.mlp(self.norm2(query))
        return updated

    def _split(self, values: Tensor) -> Tensor:
        """Divide features among heads, (..., D) -> (..., H, d)."""
        return values.view(*values.shape[:-1], self.heads, -1)

    def _gather(self, own: Tensor, others: Tensor, sets: "Sets | None") -> Tensor:
        """Return the query's own vector and those of its set, (B, Q, 1 + k, H, d)."""
        if sets is None:
            around = others[:, None].expand(-1, own.shape[1], -1, -1)
        else:
            rows = sets.index.flatten(1)[..., None].expand(-1, -1, others.shape[-1])
            around = others.gather(1, rows).view(*sets.index.shape, -1)
        return self._split(torch.cat([own[:, :, None], around], 2))


class Sets:
    """Which tokens belong to each query.

    Parameters
    ----------
    index : Tensor (B, Q, k), int64
        Numbers of tokens.
    present : Tensor (B, Q, k), bool
        Which of them count.
    """

    def __init__(self, index: Tensor, present: Tensor) -> None:
        self.index, self.present = index, present


class Aggregation(nn.Module):
    """Summarise tokens in one vector by a learned query and blocks of class attention.

    SelfPatch (arXiv 2206.07990, section 3.2; alinlab/SelfPatch): two blocks without LayerScale, and
    one LayerNorm for the vector and for single tokens.

    Parameters
    ----------
    dim, heads, depth : int
        Features, attention heads, blocks.
    """

    def __init__(self, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        self.blocks = nn.ModuleList(ClassAttention(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Summarise all patches of a view: tokens (B, 1 + K, D), [CLS] unused -> (B, D)."""
        return self.summary(tokens[:, 1:])[:, 0]

    def summary(self, tokens: Tensor, sets: Sets | None = None) -> Tensor:
        """Summarise tokens (B, K, D): all of them, (B, 1, D), or sets of them, (B, Q, D)."""
        count = 1 if sets is None else sets.index.shape[1]
        query = self.query.to(tokens.dtype).expand(len(tokens), count, -1)
        for block in self.blocks:
            query = block(query, tokens, sets)
        normed: Tensor = self.norm(query)
        return normed


@cache
def neighbours(counts: tuple[int, ...], *, wrap: bool = False) -> tuple[Tensor, Tensor]:
    """Return the patches around each patch of a grid, diagonals included.

    Parameters
    ----------
    counts : tuple of int
        Patches per axis.
    wrap : bool
        The first and the last patch of an axis are neighbours, as in SelfPatch's released code.

    Returns
    -------
    index : Tensor (K, 3^n - 1), int64
        Row-major numbers, n the axes with more than one patch.
    present : Tensor (K, 3^n - 1), bool
        Whether there is such a neighbour. Both are shared, so they must not be written to.

    Examples
    --------
    >>> index, present = neighbours((3,))
    >>> index.tolist(), present.tolist()
    ([[0, 1], [0, 2], [1, 2]], [[False, True], [True, True], [True, False]])
    """
    axes = longer_axes(counts)
    places = row_major(counts).long()
    limits = torch.tensor(counts)
    strides = torch.tensor([int(limits[axis + 1 :].prod()) for axis in range(len(counts))])
    index, present = [], []
    for step in product((-1, 0, 1), repeat=len(axes)):
        if not any(step):
            continue
        moved = places.clone()
        moved[:, axes] += torch.tensor(step)
        inside = ((moved >= 0) & (moved < limits)).all(1)
        moved = moved % limits if wrap else moved.clamp(min=0).minimum(limits - 1)
        number = (moved * strides).sum(1)
        own = number == torch.arange(len(places))  # an axis of one or two patches wraps to itself
        index.append(number)
        present.append((inside | wrap) & ~own)
    numbers, there = torch.stack(index, 1), torch.stack(present, 1)
    for column in range(1, numbers.shape[1]):  # a short axis that wraps names a patch twice
        again = (numbers[:, :column] == numbers[:, column : column + 1]) & there[:, :column]
        there[:, column] &= ~again.any(1)
    return numbers, there
