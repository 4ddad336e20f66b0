"""Transformer blocks with timm's names, so that weights pass between the two unchanged.

timm's own block does the same; importing it takes longer than staging a night's windows does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.nn.positions import Offsets, RelativeBias

EPSILON = 1e-6  # of the norms, as in timm's vision transformers
WIDER = 4.0  # hidden features of the MLP to those of a token


class Attention(nn.Module):
    """Self-attention of tokens (B, T, D), with a bias by relative positions where there is one."""

    def __init__(
        self, dim: int, heads: int, rel_pos: RelativeBias | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.rel_pos = rel_pos
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        tokens: Tensor,
        attn_mask: Tensor | None = None,
        offsets: Offsets = (),
    ) -> Tensor:
        """Attend, masked by bool (B, 1 or heads, T or 1, T): True = may be attended to."""
        if self.rel_pos is not None:
            bias = self.rel_pos(offsets).to(tokens.dtype)
            attn_mask = bias if attn_mask is None else bias.masked_fill(~attn_mask, -torch.inf)
        batch, count, dim = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, dim))
        return F.dropout(projected, self.dropout, self.training)


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, ratio: float = WIDER, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc1 = nn.Linear(dim, int(ratio * dim))
        self.fc2 = nn.Linear(self.fc1.out_features, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token (B, T, D)."""
        hidden = F.dropout(F.gelu(self.fc1(tokens)), self.dropout, self.training)
        return F.dropout(self.fc2(hidden), self.dropout, self.training)


class DropPath(nn.Module):
    """Stochastic depth: leave out a residual branch of some samples (arXiv 1603.09382).

    Parameters
    ----------
    rate : float
        Probability in training; what is kept is divided by 1 - rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Leave out samples of a branch (B, ...)."""
        if not self.rate or not self.training:
            return branch
        kept = branch.new_empty(len(branch), *[1] * (branch.dim() - 1)).bernoulli_(1 - self.rate)
        return branch * kept.div_(1 - self.rate)


class Block(nn.Module):
    """Pre-norm block (arXiv 2010.11929).

    Parameters
    ----------
    dim, heads : int
        Features D of a token; attention heads.
    drop_path : float
        Stochastic depth.
    rel_pos : RelativeBias, optional
        Bias of the attention.
    mlp_ratio : float
        Hidden features of the MLP to those of a token.
    dropout : float
        Of what attention and both layers of the MLP give.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        drop_path: float = 0.0,
        *,
        rel_pos: RelativeBias | None = None,
        mlp_ratio: float = WIDER,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attn = Attention(dim, heads, rel_pos, dropout)
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = Mlp(dim, mlp_ratio, dropout)
        self.drop_path2 = DropPath(drop_path)

    def forward(
        self,
        tokens: Tensor,
        attn_mask: Tensor | None = None,
        offsets: Offsets = (),
    ) -> Tensor:
        """Transform tokens (B, T, D); mask and offsets are as of ``Attention``."""
        tokens = tokens + self.drop_path1(self.attn(self.norm1(tokens), attn_mask, offsets))
        changed: Tensor = tokens + self.drop_path2(self.mlp(self.norm2(tokens)))
        return changed


def transformer_norm(dim: int) -> nn.LayerNorm:
    """Build a norm, like those of the blocks."""
    return nn.LayerNorm(dim, eps=EPSILON)
