"""MP3: predict the position of each patch, with some of them as context (arXiv 2207.07611)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.grid import grid_boxes, patchify
from biopart.nn import Encoder
from biopart.nn.decoder import start_at_chance
from biopart.nn.masking import part_of, random_order
from biopart.recipe import Mp3Settings

__all__ = ["Mp3"]


class Mp3(nn.Module):
    """Classify the position of every patch of the grid.

    In every layer queries come from all tokens, keys and values only from the context patches and
    [CLS] (the paper does not say whether [CLS] is a key; it is one here).

    Parameters
    ----------
    encoder : Encoder
        Positions are used for hints only.
    settings : Mp3Settings
        Share outside the context, hints.

    Raises
    ------
    ValueError
        If hints are requested for an encoder without positions, or there is one patch.
    """

    starts: Tensor

    def __init__(self, encoder: Encoder, settings: Mp3Settings) -> None:
        super().__init__()
        if settings.position_hint > 0 and not encoder.embeds_positions:
            raise ValueError("position_hint needs position embeddings, e.g. position: sincos")
        if encoder.n_patches < 2:
            raise ValueError(
                f"a patch of {encoder.patch} on a grid of {encoder.shape} leaves only one "
                "position; choose smaller patches"
            )
        self.encoder, self.settings = encoder, settings
        self.context = part_of(encoder.n_patches, 1 - settings.masked)
        self.head = nn.Linear(encoder.dim, encoder.n_patches)
        start_at_chance(self.head)
        starts = grid_boxes(encoder.shape, encoder.patch).start.float()
        self.register_buffer("starts", starts, persistent=False)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Draw a context, encode, classify; values of the batch are normalised (B, C, *S)."""
        patches = patchify(batch.values, self.encoder.patch)
        batch_size, count = patches.shape[:2]
        hints = round(self.settings.position_hint * count)
        context = random_order(batch_size, count, generator, patches.device) < self.context
        hinted = random_order(batch_size, count, generator, patches.device) < hints
        logits = self.head(self.tokens(patches, context, hinted)).float()
        truth = torch.arange(count, device=patches.device).expand(batch_size, -1)
        loss = F.cross_entropy(logits.transpose(1, 2), truth)
        logits = logits.detach()
        return StepOutput(loss, Metrics(lambda: self._metrics(logits, truth, context)))

    def _metrics(self, logits: Tensor, truth: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Return accuracies, also of patches inside and outside the context."""
        right, count = (logits.argmax(-1) == truth).float(), truth.shape[1]
        mean = right.mean()
        metrics = {
            "chance_loss": torch.full_like(mean, math.log(count)),
            "accuracy": mean,
            "chance_accuracy": torch.full_like(mean, 1 / count),
            "accuracy_context": (right * context).sum() / context.sum(),
        }
        if self.context < count:
            metrics["accuracy_other"] = (right * ~context).sum() / (~context).sum()
        return metrics

    def tokens(self, patches: Tensor, context: Tensor, hinted: Tensor) -> Tensor:
        """Encode patches (B, K, C, *P) with context and hints bool (B, K) -> (B, K, D)."""
        positions = None
        if self.encoder.position != "none":
            positions = self.starts.masked_fill(~hinted[..., None], torch.nan)
        encoded: Tensor = self.encoder(patches, positions, context)[:, 1:]
        return encoded
