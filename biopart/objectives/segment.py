"""Segment: a class for every pixel of an image or every sample of a signal."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, DenseBatch, Metrics, StepOutput
from biopart.evaluation.dense import UNKNOWN
from biopart.nn import Encoder
from biopart.nn.fpn import LINEAR, SemanticFpn
from biopart.recipe import SegmentSettings

__all__ = ["Segment"]

MAPS = 4


class Segment(nn.Module):
    """Cross-entropy at every place; a class of -1 is ignored.

    Parameters
    ----------
    encoder : Encoder
        All its weights are trained.
    settings : SegmentSettings
        Classes and head.
    """

    def __init__(self, encoder: Encoder, settings: SegmentSettings) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.head: nn.Module
        if settings.head == "fpn":
            self.head = SemanticFpn(
                encoder.dim,
                encoder.counts,
                settings.classes,
                pyramid=settings.pyramid,
                channels=settings.channels,
            )
        else:
            self.head = nn.Linear(encoder.dim, settings.classes)

    def logits(self, values: Tensor) -> Tensor:
        """Return a score of each class at every place, (B, C, *S) -> (B, classes, *S)."""
        if isinstance(self.head, SemanticFpn):
            maps = self.encoder.maps(values, MAPS)
            coarse = self.head(maps)
        else:
            coarse = self.head(self.encoder.maps(values, 1)[0].movedim(1, -1)).movedim(-1, 1)
        mode = LINEAR[values.dim() - 3]
        return F.interpolate(coarse.float(), values.shape[2:], mode=mode, align_corners=False)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Classify every place of normalised values (B, C, *S)."""
        if not isinstance(batch, DenseBatch):
            raise ValueError("segmentation needs a class for every place; the batch has none")
        logits, target = self.logits(batch.values), batch.dense
        known = (target != UNKNOWN).sum()
        loss = F.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="sum")
        right = logits.detach().argmax(1)

        def metrics() -> dict[str, Tensor]:
            return {"accuracy": (right == target).sum() / known.clamp(min=1)}

        return StepOutput(loss / known.clamp(min=1), Metrics(metrics), known.float())
