"""Relative encoders: from embeddings of K patches to relations of M pairs (arXiv 2506.03682).

All take tokens (B, K, D) and index pairs (B, M, 2) = (reference, target), and return (B, M, O)
relations. A linear layer on the joined pair, ``W [z_r ; z_t] = W_r z_r + W_t z_t``, is
computed as two projections of the K tokens, added per pair: its cost does not grow with M.
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.recipe import Head


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Select tokens (B, K, D) by index (B, M) -> (B, M, D).

    Examples
    --------
    >>> take(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[1, 1, 0]])).flatten().tolist()
    [2.0, 2.0, 1.0]
    """
    batch, count, dim = tokens.shape
    # Whole rows of the flattened tokens: on a CPU many times faster than gather and its backward.
    rows = index + torch.arange(batch, device=index.device)[:, None] * count
    return tokens.reshape(-1, dim).index_select(0, rows.reshape(-1)).reshape(batch, -1, dim)


class PairProjection(nn.Module):
    """Linear(2 D -> D_out) on joined pairs [z_r ; z_t], at the cost of K tokens."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.out = out
        self.project = nn.Linear(dim, 2 * out, bias=False)
        self.bias = nn.Parameter(torch.zeros(out))
        # Xavier's bound for the joined layer, which has 2 D inputs and `out` outputs.
        bound = (6 / (2 * dim + out)) ** 0.5
        nn.init.uniform_(self.project.weight, -bound, bound)

    def halves(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project tokens as references, bias included, and as targets, each (B, K, D_out)."""
        reference, target = self.project(tokens).split(self.out, dim=-1)
        return reference + self.bias, target

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Project pairs: tokens (B, K, D), pairs (B, M, 2) -> (B, M, D_out)."""
        reference, target = self.halves(tokens)
        return take(reference, pairs[..., 0]) + take(target, pairs[..., 1])


class FoldedLinear(NamedTuple):
    """A linear layer that is a part of a larger one's parameters."""

    weight: Tensor
    bias: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """Apply the layer."""
        return F.linear(tokens, self.weight, self.bias)


def attend_pairs(
    halves: Sequence[Tensor], key: Tensor, values: Tensor, pairs: Tensor, *, heads: int
) -> Tensor:
    """Let the queries of pairs attend over all patches, at the cost of K tokens.

    Scores are linear in the query, and a query is the sum of its reference's and its target's
    half; so scores are computed per token and added per pair.

    Parameters
    ----------
    halves : two Tensors (B, K, D)
        Queries of each patch as reference and as target.
    key : Tensor (B, K, D)
        Keys of the patches.
    values : Tensor (B, heads * K, O)
        Values of the patches, head by head, to which all later linear layers have been applied.
    pairs : Tensor (B, M, 2)
        Reference and target.
    heads : int
        Attention heads.

    Returns
    -------
    Tensor (B, M, O)
    """
    batch, count, dim = key.shape
    keys, scale = _heads(key, heads).mT, (dim // heads) ** -0.5
    scores = [
        (_heads(half, heads) * scale @ keys).transpose(1, 2).reshape(batch, count, -1)
        for half in halves
    ]
    chosen = take(scores[0], pairs[..., 0]) + take(scores[1], pairs[..., 1])
    weight = chosen.reshape(batch, -1, heads, count).softmax(-1)
    return torch.bmm(weight.flatten(2).to(values.dtype), values)


def fold_values(tokens: Tensor, value: nn.Linear | FoldedLinear, out: Tensor, heads: int) -> Tensor:
    """Apply a value layer and then a linear one, out (O, D), to tokens: (B, heads * K, O).

    A mean of values to which the last layer is then applied is the mean of what it gives of each.
    """
    dim = out.shape[1]
    split = out.reshape(-1, heads, dim // heads)
    joined = torch.einsum("ohd,hdi->hoi", split, value.weight.reshape(heads, dim // heads, dim))
    bias = torch.einsum("ohd,hd->ho", split, value.bias.reshape(heads, -1))
    values = F.linear(tokens, joined.flatten(0, 1), bias.flatten())
    return _heads(values, heads).flatten(1, 2)


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """Split features into heads: (B, K, D) -> (B, heads, K, D / heads)."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


class Attention(nn.Module):
    """Queries from pairs attend over all K patches, as in PART's released code.

    A linear layer makes a query of the joined pair; PyTorch's multi-head attention with all its
    projections and one head; a linear layer. No norm, no residual. The result is that of calling
    ``attend``, at the cost of K tokens instead of M pairs.
    """

    def __init__(self, dim: int, outputs: int, heads: int = 1) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.query = PairProjection(dim, dim)
        self.attend = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.out = nn.Linear(dim, outputs)
        _start_near_zero(self.out)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Predict relations: tokens (B, K, D), pairs (B, M, 2) -> (B, M, O)."""
        query, key, value = (
            FoldedLinear(weight, bias)
            for weight, bias in zip(
                self.attend.in_proj_weight.chunk(3), self.attend.in_proj_bias.chunk(3), strict=True
            )
        )
        reference, target = self.query.halves(tokens)
        halves = query(reference), F.linear(target, query.weight)
        last, project = self.out.weight, self.attend.out_proj
        values = fold_values(tokens, value, last @ project.weight, self.heads)
        mixed = attend_pairs(halves, key(tokens), values, pairs, heads=self.heads)
        relations: Tensor = mixed + last @ project.bias + self.out.bias
        return relations


class CrossAttention(nn.Module):
    """Queries from pairs attend over all K patches, with a norm before and several heads.

    No residual on the query, and one linear layer from the joined heads to the relations: the
    output projection of usual attention would be a second linear layer before it. ``Attention`` is
    the form of the released code.
    """

    def __init__(self, dim: int, outputs: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = PairProjection(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, outputs)
        for layer in (self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        _start_near_zero(self.out)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Predict relations: tokens (B, K, D), pairs (B, M, 2) -> (B, M, O)."""
        tokens = self.norm(tokens)
        key, halves = self.key(tokens), self.query.halves(tokens)
        values = fold_values(tokens, self.value, self.out.weight, self.heads)
        mixed = attend_pairs(halves, key, values, pairs, heads=self.heads)
        relations: Tensor = mixed + self.out.bias
        return relations


class Pairwise(nn.Module):
    """One linear layer on the joined pair, as in PART's released code (table 5 of the paper)."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.out = PairProjection(dim, outputs)
        nn.init.trunc_normal_(self.out.project.weight, std=_deviation(2 * dim))

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Predict relations: tokens (B, K, D), pairs (B, M, 2) -> (B, M, O)."""
        relations: Tensor = self.out(tokens, pairs)
        return relations


class PairwiseMlp(nn.Module):
    """One hidden layer on the joined pair, without access to the other patches."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = PairProjection(dim, dim)
        self.out = nn.Linear(dim, outputs)
        _start_near_zero(self.out)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Predict relations: tokens (B, K, D), pairs (B, M, 2) -> (B, M, O)."""
        relations: Tensor = self.out(F.gelu(self.hidden(self.norm(tokens), pairs)))
        return relations


class Joint(nn.Module):
    """One linear layer on all K embeddings joined, as in PART's released code (table 5)."""

    def __init__(self, dim: int, outputs: int, patches: int) -> None:
        super().__init__()
        self.patches, self.outputs = patches, outputs
        self.out = nn.Linear(patches * dim, patches * patches * outputs)
        _start_near_zero(self.out)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Predict relations: tokens (B, K, D), pairs (B, M, 2) -> (B, M, O)."""
        check_patches(tokens, self.patches)
        return every_pair(self.out(tokens.flatten(1)), pairs, self.patches)


class JointMlp(nn.Module):
    """One hidden layer on all K embeddings joined, giving every relation at once."""

    def __init__(self, dim: int, outputs: int, patches: int) -> None:
        super().__init__()
        self.patches, self.outputs = patches, outputs
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(patches * dim, dim)
        self.out = nn.Linear(dim, patches * patches * outputs)
        _start_near_zero(self.out)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Predict relations: tokens (B, K, D), pairs (B, M, 2) -> (B, M, O)."""
        check_patches(tokens, self.patches)
        every = self.out(F.gelu(self.hidden(self.norm(tokens).flatten(1))))
        return every_pair(every, pairs, self.patches)


def every_pair(relations: Tensor, pairs: Tensor, patches: int) -> Tensor:
    """Select pairs (B, M, 2) of all relations (B, K * K * O) -> (B, M, O)."""
    every = relations.reshape(len(relations), patches**2, -1)
    return take(every, pairs[..., 0] * patches + pairs[..., 1])


def check_patches(tokens: Tensor, patches: int) -> None:
    """Refuse another number of patches than a head on all of them was built for."""
    if tokens.shape[1] != patches:
        raise ValueError(
            f"the joint head was built for {patches} patches but got {tokens.shape[1]}; "
            "the other relative encoders take any number"
        )


def check_heads(dim: int, heads: int) -> None:
    """Refuse attention heads that do not divide the width."""
    if dim % heads:
        raise ValueError(f"{heads} heads do not divide dim {dim}; choose a divisor")


def relative_encoder(
    name: Head, dim: int, outputs: int, *, patches: int, heads: int | None = None
) -> nn.Module:
    """Build a relative encoder by its name.

    Parameters
    ----------
    name : Head
        "attention", "pairwise" and "joint" are those of PART's released code; "cross_attention" has
        a norm and several heads, "pairwise_mlp" and "joint_mlp" a norm and a hidden layer.
    dim, outputs : int
        D of the tokens and values O per pair (N, or 2 N with sizes).
    patches : int
        Number of patches K, for the joint heads.
    heads : int, optional
        Attention heads; by default 1 of "attention", dim / 64 of "cross_attention".

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name == "attention":
        return Attention(dim, outputs, heads or 1)
    if name == "cross_attention":
        return CrossAttention(dim, outputs, heads or max(1, dim // 64))
    if name in ("pairwise", "pairwise_mlp"):
        return (Pairwise if name == "pairwise" else PairwiseMlp)(dim, outputs)
    if name in ("joint", "joint_mlp"):
        return (Joint if name == "joint" else JointMlp)(dim, outputs, patches)
    raise ValueError(
        f"there is no relative encoder {name!r}; choose one of {', '.join(get_args(Head))}"
    )


def _start_near_zero(layer: nn.Linear) -> None:
    """Start with predictions of some hundredths at any width, so that the loss starts at chance.

    Scaled targets deviate by about 0.4 (1/6 is their variance). Weights that deviate by 0.02
    at any width start at 1.1 to 3.3 times chance for dim 512.
    """
    nn.init.trunc_normal_(layer.weight, std=_deviation(layer.in_features))
    nn.init.zeros_(layer.bias)


def _deviation(inputs: int) -> float:
    """Return the deviation of such weights."""
    return float(0.03 / inputs**0.5)
