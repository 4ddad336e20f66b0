"""Linear and attentive classifiers on frozen features, trained by SGD as published."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Optimisation:
    """How a probe is trained: SGD with momentum 0.9, no weight decay (Zhu et al., TMLR 2024).

    Attributes
    ----------
    lr : float
        At first; falls to 0 along a half cosine.
    epochs, batch : int
        Passes over the items, and items of a step.
    """

    lr: float
    epochs: int = 90
    batch: int = 1024


LINEAR, ATTENTIVE = Optimisation(0.4), Optimisation(0.04)


class LinearProbe(nn.Module):
    """One linear layer on vectors (B, D), standardised by batch normalisation without parameters.

    The normalisation adds nothing that the layer cannot express, but without it the scale of an
    encoder's features decides how far SGD comes: with 30 epochs on heart beats the encoder of PART
    had a third of the F1 of an untrained one, with it the same.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.head = nn.Linear(dim, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Classify features, (B, D) -> (B, classes)."""
        logits: Tensor = self.head(self.norm(features))
        return logits


class AttentiveProbe(nn.Module):
    """Cross-attention of one learned query, batch normalisation without parameters, linear.

    As in the released code of CAE (arXiv 2202.03026), which the evaluation takes: layer
    normalisation of query, keys and values, and the encoder's number of heads. Statistics of the
    training are used at the test, so that the prediction of an item does not depend on the items
    beside it.

    Parameters
    ----------
    dim, classes : int
        Features D of a token, number of classes.
    heads : int, optional
        Attention heads, the encoder's; of one without any the nearest divisor to D / 64.
    marked : bool
        Whether a last feature says which tokens take part (``tokens.Covered``).
    """

    def __init__(
        self, dim: int, classes: int, heads: int | None = None, *, marked: bool = False
    ) -> None:
        super().__init__()
        self.marked = marked
        wanted = heads or max(1, dim // 64)
        heads = max(h for h in range(1, wanted + 1) if dim % h == 0)
        self.query = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.head = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify tokens, (B, K, D), with a mark (B, K, D + 1), -> (B, classes)."""
        query, keys, values = self.norms
        absent = None
        if self.marked:
            tokens, absent = tokens[..., :-1], tokens[..., -1] == 0
        own = query(self.query).expand(len(tokens), -1, -1)
        pooled, _ = self.attention(
            own, keys(tokens), values(tokens), key_padding_mask=absent, need_weights=False
        )
        logits: Tensor = self.head(self.norm(pooled[:, 0]))
        return logits


class DenseProbe(LinearProbe):
    """One 1 x 1 convolution on the map of tokens: a linear layer at every place."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the outputs of every place, (B, K, D) -> (B, outputs, K)."""
        outputs = super().forward(tokens.flatten(0, 1))
        return outputs.reshape(*tokens.shape[:2], -1).transpose(1, 2)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let weights be drawn from a seed, and leave torch's own randomness as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


Loss = Callable[[Tensor, NDArray[np.int64]], Tensor]
Train = Callable[[], nn.Module]
Keep = Callable[[nn.Module, Train], nn.Module]
"""A probe and what trains it -> the trained probe, which may be kept from an earlier call."""


class Features(Protocol):
    """Features of items, of which batches are read: an array, a memory map, or made from one."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, items: Any, /) -> NDArray[np.float32]:
        """Return the features of items, given by their numbers or a slice."""


def train_always(probe: nn.Module, train: Train) -> nn.Module:
    """Train a probe."""
    return train()


def train_probe(
    probe: nn.Module,
    features: Features,
    loss: Loss,
    how: Optimisation,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train a probe on fixed features and return it in evaluation mode.

    Parameters
    ----------
    probe : nn.Module
        On features of a batch.
    features : float32 (items, ...)
        An array or a memory map, of which batches are read.
    loss : callable
        Outputs of a batch and its items -> loss.
    how : Optimisation
        Rate, epochs, batch.
    seed : int
        Of the order of the items.
    device : torch.device
        That computes.

    Raises
    ------
    ValueError
        If there are fewer than two items.
    """
    if len(features) < 2:
        raise ValueError(f"a probe needs two training items or more; there are {len(features)}")
    probe = probe.to(device).train()
    optimiser = torch.optim.SGD(probe.parameters(), lr=how.lr, momentum=0.9)
    rng = np.random.default_rng(seed)
    steps = how.epochs * math.ceil(len(features) / how.batch)
    step = 0
    for _ in range(how.epochs):
        order = rng.permutation(len(features))
        for items in np.array_split(order, math.ceil(len(order) / how.batch)):
            for group in optimiser.param_groups:
                group["lr"] = how.lr * (1 + math.cos(math.pi * step / steps)) / 2
            picked = np.sort(items)  # a memory map is read in order
            batch = torch.tensor(features[picked], device=device)
            value = loss(probe(batch), picked)
            optimiser.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
    return probe.eval()


@torch.no_grad()
def outputs_of(probe: nn.Module, features: Features, *, batch: int = 1024) -> Tensor:
    """Return a probe's outputs for all items, on the CPU."""
    device = next(probe.parameters()).device
    if not len(features):
        return torch.zeros(0)
    parts = [
        probe(torch.tensor(features[start : start + batch], device=device)).cpu()
        for start in range(0, len(features), batch)
    ]
    return torch.cat(parts)


def classify(
    probe: nn.Module,
    train: Features,
    labels: NDArray[np.int64],
    test: Features,
    *,
    how: Optimisation,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: Keep = train_always,
) -> NDArray[np.int64]:
    """Train a classifier on features and predict the classes of others, (items,)."""
    targets = torch.from_numpy(np.asarray(labels, np.int64))

    def loss(logits: Tensor, items: NDArray[np.int64]) -> Tensor:
        return F.cross_entropy(logits, targets[items].to(logits.device))

    trained = keep(
        probe, lambda: train_probe(probe, train, loss, how, seed=seed, device=device)
    ).to(device)
    predicted: NDArray[np.int64] = outputs_of(trained, test).argmax(1).numpy()
    return predicted
