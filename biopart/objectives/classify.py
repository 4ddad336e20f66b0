"""Classify windows: fine-tuning and the supervised baseline."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Classifier, Encoder
from biopart.recipe import ClassifySettings

__all__ = ["Classify"]


class Classify(nn.Module):
    """Cross-entropy of a linear layer on the encoder; label -1 is ignored.

    Parameters
    ----------
    encoder : Encoder
        All its weights are trained.
    settings : ClassifySettings
        Classes, pooling, weights.
    """

    weight: Tensor | None

    def __init__(self, encoder: Encoder, settings: ClassifySettings) -> None:
        super().__init__()
        weights = settings.class_weights
        if weights is not None and len(weights) != settings.classes:
            raise ValueError(
                f"{len(weights)} class weights for {settings.classes} classes; give one each"
            )
        self.settings = settings
        self.model = Classifier.on(
            encoder, settings.classes, pool=settings.pool, head_std=settings.head_std
        )
        weight = None if weights is None else torch.tensor(weights)
        self.register_buffer("weight", weight, persistent=False)

    @property
    def encoder(self) -> Encoder:
        """The encoder under the linear layer."""
        return self.model.encoder

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Classify normalised values (B, C, *S); mixed images by their shares of classes."""
        logits: Tensor = self.model(batch.values).float()
        if batch.soft is None:
            smoothing = self.settings.smoothing if self.training else 0.0
            loss = F.cross_entropy(
                logits,
                batch.label,
                weight=self.weight,
                ignore_index=-1,
                label_smoothing=smoothing,
            )
        else:
            loss = F.cross_entropy(logits, batch.soft, weight=self.weight)
        logits, weight = logits.detach(), None
        if batch.soft is None and self.weight is not None:
            weight = (self.weight[batch.label.clamp(min=0)] * (batch.label >= 0)).sum()
        return StepOutput(
            loss, Metrics(lambda: {"accuracy": accuracy(logits, batch.label)}), weight
        )


def accuracy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the share of known labels (B,) that logits (B, classes) have as their largest."""
    return (logits.argmax(-1) == label).sum() / (label >= 0).sum()
