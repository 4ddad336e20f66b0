"""Classify windows with their neighbours: a transformer over the embeddings of L windows."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, StepOutput
from biopart.nn import Classifier, ViT
from biopart.nn.classifier import Pool
from biopart.nn.sequence import SequenceClassifier
from biopart.settings import Strict

__all__ = ["Sequence", "SequenceSettings"]


class SequenceSettings(Strict):
    """Settings of classification with context."""

    name: Literal["sequence"] = Field("sequence", description="the objective")
    classes: int = Field(5, ge=2, description="number of classes")
    pool: Pool = Field("cls", description="embed a window by [CLS] or the mean of its tokens")
    context: int = Field(21, ge=2, description="number of windows L per decision")
    frozen: bool = Field(False, description="keep the encoder and the linear layer unchanged")
    depth: int = Field(2, ge=1, description="blocks of the transformer over windows")
    heads: int = Field(4, ge=1, description="attention heads of the transformer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the embeddings")


class Sequence(nn.Module):
    """Cross-entropy of every labelled window of a sequence.

    Parameters
    ----------
    encoder : ViT
        Embeds a window; trained unless frozen.
    settings : SequenceSettings
        Windows, transformer, classes.
    """

    def __init__(self, encoder: ViT, settings: SequenceSettings) -> None:
        super().__init__()
        self.settings = settings
        self.model = SequenceClassifier(
            Classifier.on(encoder, settings.classes, pool=settings.pool),
            settings.context,
            depth=settings.depth,
            heads=settings.heads,
            dropout=settings.dropout,
        )
        if settings.frozen:
            self.model.classifier.requires_grad_(False)

    @property
    def encoder(self) -> ViT:
        """The encoder of a window."""
        return self.model.classifier.encoder

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Classify normalised windows (B, L, C, *S), or their embeddings (B, L, D).

        Windows without a label do not count in the loss; those outside a recording are ignored.
        """
        if batch.context is None:
            raise ValueError("a sequence needs windows with their neighbours; give context=L")
        relate = self.model.relate if batch.values.dim() == 3 else self.model
        logits: Tensor = relate(batch.values, batch.context.present).float()
        label = batch.context.label
        loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), ignore_index=-1)
        centre = self.model.centre
        right = (logits[:, centre].argmax(-1) == batch.label).sum() / (batch.label >= 0).sum()
        return StepOutput(loss, {"accuracy": right})
