"""Relative encoders: from embeddings of K patches to relations of M pairs (arXiv 2506.03682).

All three take tokens (B, K, D) and index pairs (B, M, 2) = (reference, target), and return
(B, M, O) relations. A linear layer on the joined pair, ``W [z_r ; z_t] = W_r z_r + W_t z_t``, is
computed as two projections of the K tokens, added per pair: its cost does not grow with M.
"""

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


class CrossAttention(nn.Module):
    """Queries from pairs attend over all K patches; the paper's relative encoder.

    Pre-norm, no residual on the query, and one linear layer from the joined heads to the
    relations: the output projection of usual attention would be a second linear layer before it.
    The paper does not state norm, heads and residual.

    Two more steps are linear and therefore computed per token instead of per pair, with the same
    result: the scores of a query are the sum of its reference's and its target's, and the
    relations are a mean of values to which the last layer has already been applied.
    """

    def __init__(self, dim: int, outputs: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide dim {dim}; choose a divisor")
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
        batch, count, dim = tokens.shape
        key = self._heads(self.key(tokens)).mT
        scale = (dim // self.heads) ** -0.5
        scores = [
            (self._heads(half) * scale @ key).transpose(1, 2).reshape(batch, count, -1)
            for half in self.query.halves(tokens)
        ]
        chosen = take(scores[0], pairs[..., 0]) + take(scores[1], pairs[..., 1])
        weight = chosen.reshape(batch, -1, self.heads, count).softmax(-1)
        mixed = torch.bmm(weight.flatten(2).to(tokens.dtype), self._values(tokens))
        relations: Tensor = mixed + self.out.bias
        return relations

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split features into heads: (B, K, D) -> (B, heads, K, D / heads)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)

    def _values(self, tokens: Tensor) -> Tensor:
        """Apply the value and the last layer to tokens, head by head: (B, heads * K, O)."""
        dim, heads = self.out.in_features, self.heads
        weight = self.out.weight.reshape(-1, heads, dim // heads)
        value = self.value.weight.reshape(heads, dim // heads, dim)
        joined = torch.einsum("ohd,hdi->hoi", weight, value).flatten(0, 1)
        bias = torch.einsum("ohd,hd->ho", weight, self.value.bias.reshape(heads, -1))
        values = F.linear(tokens, joined, bias.flatten())
        values = values.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)
        return values.flatten(1, 2)


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
        if tokens.shape[1] != self.patches:
            raise ValueError(
                f"the joint MLP was built for {self.patches} patches but got {tokens.shape[1]}; "
                "the other relative encoders take any number"
            )
        every = self.out(F.gelu(self.hidden(self.norm(tokens).flatten(1))))
        every = every.reshape(-1, self.patches**2, self.outputs)
        return take(every, pairs[..., 0] * self.patches + pairs[..., 1])


def relative_encoder(name: Head, dim: int, outputs: int, *, heads: int, patches: int) -> nn.Module:
    """Build a relative encoder by its name.

    Parameters
    ----------
    name : "cross_attention", "pairwise_mlp" or "joint_mlp"
        The paper's choice and the two alternatives it compares.
    dim, outputs : int
        D of the tokens and values O per pair (N, or 2 N with sizes).
    heads, patches : int
        Attention heads; number of patches K for the joint MLP.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name == "cross_attention":
        return CrossAttention(dim, outputs, heads)
    if name == "pairwise_mlp":
        return PairwiseMlp(dim, outputs)
    if name == "joint_mlp":
        return JointMlp(dim, outputs, patches)
    raise ValueError(
        f"there is no relative encoder {name!r}; choose cross_attention, pairwise_mlp or joint_mlp"
    )


def _start_near_zero(layer: nn.Linear) -> None:
    """Start with predictions of some hundredths at any width, so that the loss starts at chance.

    Scaled targets deviate by about 0.4 (1/6 is their variance). Weights that deviate by 0.02
    at any width start at 1.1 to 3.3 times chance for dim 512.
    """
    nn.init.trunc_normal_(layer.weight, std=0.03 / layer.in_features**0.5)
    nn.init.zeros_(layer.bias)
