"""Classify windows with their neighbours: a transformer over the embeddings of L windows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Classifier, Encoder
from biopart.nn.sequence import SequenceClassifier
from biopart.objectives.classify import accuracy
from biopart.recipe import SequenceSettings

__all__ = ["Sequence"]


class Sequence(nn.Module):
    """Cross-entropy of every labelled window of a sequence.

    Parameters
    ----------
    encoder : Encoder
        Embeds a window; trained unless frozen.
    settings : SequenceSettings
        Windows, transformer, classes.
    """

    def __init__(self, encoder: Encoder, settings: SequenceSettings) -> None:
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
    def encoder(self) -> Encoder:
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
        middle = logits[:, self.model.centre].detach()
        metrics = Metrics(lambda: {"accuracy": accuracy(middle, batch.label)})
        return StepOutput(loss, metrics, (label >= 0).sum())
