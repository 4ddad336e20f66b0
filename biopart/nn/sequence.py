"""A transformer over neighbouring windows, which classifies a window with its context."""

from typing import Any

import torch
from torch import Tensor, nn

from biopart.nn.block import Block, transformer_norm
from biopart.nn.classifier import Classifier
from biopart.nn.encoder import Encoder


class SequenceClassifier(nn.Module):
    """Classify each window of a sequence from itself and its neighbours.

    The logits of a window are those of ``classifier``, which sees only this window, plus the output
    of a transformer over the embeddings of all L windows; that starts near 0, so an untrained
    context changes almost nothing.

    Parameters
    ----------
    classifier : Classifier
        Used directly, not copied.
    context : int
        Windows L.
    depth, heads : int
        Blocks and attention heads of the transformer; it is as wide as the encoder.
    dropout : float
        Dropout of embeddings, in training.
    """

    def __init__(
        self,
        classifier: Classifier,
        context: int,
        *,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        dim = classifier.encoder.dim
        if dim % heads:
            raise ValueError(
                f"{heads} heads do not divide the encoder's dim {dim}; choose a divisor"
            )
        self.classifier, self.context, self.heads, self.dropout = (
            classifier,
            context,
            heads,
            dropout,
        )
        self.enter = nn.Sequential(transformer_norm(dim), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.place = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, context, dim), std=0.02))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = transformer_norm(dim)
        self.leave = nn.Linear(dim, classifier.final_layer.out_features)
        nn.init.trunc_normal_(self.leave.weight, std=1e-3)
        nn.init.zeros_(self.leave.bias)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that rebuild the transformer, ready for JSON."""
        return {"depth": len(self.blocks), "heads": self.heads, "dropout": self.dropout}

    @property
    def centre(self) -> int:
        """Number of the window whose neighbours the others are."""
        return (self.context - 1) // 2

    def forward(self, values: Tensor, present: Tensor | None = None) -> Tensor:
        """Classify normalised windows (B, L, C, *S) -> logits (B, L, classes)."""
        embeddings: Tensor = self.classifier.embed(values.flatten(0, 1))
        return self.relate(embeddings.reshape(*values.shape[:2], -1), present)

    def classify(
        self, embeddings: Tensor, rows: Tensor, present: Tensor, *, batch: int = 256
    ) -> Tensor:
        """Classify windows by the embeddings of themselves and their neighbours.

        Parameters
        ----------
        embeddings : Tensor (W, D)
            Of all windows, as returned by ``classifier.embed``.
        rows : Tensor (M, L), int64
            Which of them surround each of M windows; any number where there is none.
        present : Tensor (M, L), bool
            Whether there is one.
        batch : int
            Windows at a time.

        Returns
        -------
        Tensor (M, classes)
        """
        parts = []
        for start in range(0, len(rows), batch):
            here = present[start : start + batch].to(embeddings.device)
            given = embeddings[rows[start : start + batch].to(embeddings.device)] * here[..., None]
            parts.append(self.relate(given, here)[:, self.centre].float())
        return torch.cat(parts)

    @property
    def encoder(self) -> Encoder:
        """The encoder of single windows."""
        return self.classifier.encoder

    def relate(self, embeddings: Tensor, present: Tensor | None = None) -> Tensor:
        """Classify windows by their embeddings.

        Parameters
        ----------
        embeddings : Tensor (B, L, D)
            As returned by ``classifier.embed``.
        present : Tensor (B, L), bool, optional
            Windows that exist; the others are not attended to. Default: all.

        Returns
        -------
        Tensor (B, L, classes)

        Raises
        ------
        ValueError
            If there are not L windows.
        """
        if embeddings.shape[1] != self.context:
            raise ValueError(
                f"{embeddings.shape[1]} windows were given, but the model needs {self.context}; "
                "give each window with its neighbours"
            )
        alone: Tensor = self.classifier.final_layer(embeddings)
        tokens = self.enter(embeddings) + self.place
        mask = None if present is None else present[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, attn_mask=mask)
        added: Tensor = self.leave(self.norm(tokens))
        return alone + added
