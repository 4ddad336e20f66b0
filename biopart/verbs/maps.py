"""What an encoder attends to, and how alike its local representations are, in held-out items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from biopart.data import Source
from biopart.experiment import Experiment, open_experiment, stored_recipe
from biopart.nn import Encoder, Model, ViT
from biopart.nn.block import Block
from biopart.run import Run


@dataclass(frozen=True)
class Maps:
    """Local representations of held-out items.

    Attributes
    ----------
    values : Tensor (W, C, *S)
        As stored.
    names : list of str
        Which windows or images.
    counts : tuple of int
        Places per axis, K in all.
    similarity : Tensor (W, K, K)
        Cosine between the places of an item.
    attention : Tensor (W, heads, K), optional
        Of [CLS] to the patches in the last block, without what it pays to itself; None of encoders
        without [CLS].
    """

    values: Tensor
    names: list[str]
    counts: tuple[int, ...]
    similarity: Tensor
    attention: Tensor | None

    @property
    def alike(self) -> float:
        """Mean cosine between different places of an item."""
        places = self.similarity.shape[1]
        off = self.similarity.sum((1, 2)) - places
        return float((off / max(places * (places - 1), 1)).mean())


@dataclass(frozen=True)
class MapRun:
    """A run whose encoder is looked at: its model and its held-out items."""

    run: Run
    experiment: Experiment
    model: Model
    source: Source

    def items(self, count: int) -> list[int]:
        """Return the indices of ``count`` items, spread evenly over the held-out ones."""
        return [int(item) for item in self.source.evenly(count)]

    @torch.no_grad()
    def maps(self, items: Sequence[int]) -> Maps:
        """Encode items."""
        batch, encoder = self.source.__getitems__(items), self.model.encoder
        attention = None
        if has_attention(encoder):
            assert isinstance(encoder, ViT)
            last = encoder.blocks[-1]
            assert isinstance(last, Block)
            seen: list[Tensor] = []
            hook = last.attn.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            tokens = self.model.tokens(batch.values)
            hook.remove()
            attention = attention_of(last, seen[0])
        else:
            tokens = self.model.tokens(batch.values)
        unit = F.normalize(tokens[:, 1:].float(), dim=-1)
        return Maps(batch.values, batch.key, encoder.counts, unit @ unit.mT, attention)


def has_attention(encoder: Encoder) -> bool:
    """Tell whether an encoder has a [CLS] whose attention can be drawn."""
    return isinstance(encoder, ViT) and encoder.cls and encoder.position != "relative"


def attention_of(block: Block, tokens: Tensor) -> Tensor:
    """Return the attention of [CLS] to the patches, (B, heads, K), rows of sum 1.

    Parameters
    ----------
    block : Block
        Without a bias by relative positions.
    tokens : Tensor (B, 1 + K, D)
        What its attention sees.
    """
    attn = block.attn
    query, key, _ = attn.qkv(tokens).unflatten(-1, (3, attn.heads, -1)).unbind(2)
    scores = (query[:, :1] * key[:, 1:]).sum(-1) * query.shape[-1] ** -0.5  # (B, K, heads)
    shares: Tensor = scores.softmax(1).transpose(1, 2)
    return shares


def open_map_run(run: Run, store: Path | None = None) -> MapRun:
    """Open a run to be looked at, on validation persons or, if there are none, test persons.

    Raises FileNotFoundError if it has no weights yet.
    """
    origin = run.pretrained()
    model = Model.load(origin)
    experiment = open_experiment(stored_recipe(origin, store=store)).pretraining
    persons = experiment.split.validation or experiment.split.test
    return MapRun(origin, experiment, model, experiment.source(persons))
