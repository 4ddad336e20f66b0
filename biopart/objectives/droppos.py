"""DropPos: predict the dropped positions of visible patches (arXiv 2309.03576)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.grid import grid_boxes, patchify
from biopart.nn import Encoder
from biopart.nn.decoder import Decoder
from biopart.nn.masking import choose, part_of, random_order
from biopart.nn.positions import row_major
from biopart.recipe import DropPosSettings

__all__ = ["DropPos"]


class DropPos(nn.Module):
    """Classify the positions of visible patches that have one learnable token instead.

    Parameters
    ----------
    encoder : Encoder
        With positions.
    settings : DropPosSettings
        Ratios, decoder, smoothing.

    Raises
    ------
    ValueError
        If the encoder has no positions, or there is one patch.
    """

    starts: Tensor
    square: Tensor

    def __init__(self, encoder: Encoder, settings: DropPosSettings) -> None:
        super().__init__()
        if not encoder.embeds_positions:
            raise ValueError(
                "droppos drops position embeddings; give the encoder some, e.g. position: sincos"
            )
        if encoder.n_patches < 2:
            raise ValueError(
                f"a patch of {encoder.patch} on a grid of {encoder.shape} leaves only one "
                "position; choose smaller patches"
            )
        self.encoder, self.settings = encoder, settings
        self.visible = part_of(encoder.n_patches, 1 - settings.mask_ratio)
        self.kept = int(self.visible * (1 - settings.drop_ratio) + 1e-9)
        self.unknown = nn.Parameter(nn.init.normal_(torch.empty(encoder.dim), std=0.02))
        self.decoder = Decoder(
            encoder.dim,
            settings.decoder_dim,
            encoder.n_patches,
            depth=settings.decoder_depth,
            heads=settings.decoder_heads,
        )
        starts = grid_boxes(encoder.shape, encoder.patch).start.float()
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("square", squared_distances(encoder.counts), persistent=False)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Drop, encode, decode, classify; values of the batch are normalised (B, C, *S)."""
        patches = patchify(batch.values, self.encoder.patch)
        order = random_order(len(patches), patches.shape[1], generator, patches.device)
        seen, dropped = order[:, : self.visible], order[:, self.kept : self.visible]
        positions = self.starts[seen].clone()
        positions[:, self.kept :] = torch.nan
        tokens = self.encoder(choose(patches, seen), positions, unknown=self.unknown)
        logits = self.decoder(tokens)[:, 1 + self.kept :].float()
        sigma = self.settings.sigma * (1 - progress)
        target = smoothed(self.square, sigma)[dropped]
        weight = self._attention(patches, dropped) if self.settings.attentive else None
        loss = position_loss(logits, target, weight)
        logits = logits.detach()
        metrics = Metrics(lambda: self._metrics(logits, dropped))
        return StepOutput(loss, metrics, None if weight is None else weight.sum())

    def _metrics(self, logits: Tensor, dropped: Tensor) -> dict[str, Tensor]:
        """Return the accuracy of dropped positions beside chance."""
        right, count = (logits.argmax(-1) == dropped).float().mean(), self.encoder.n_patches
        return {
            "chance_loss": torch.full_like(right, math.log(count)),
            "accuracy": right,
            "chance_accuracy": torch.full_like(right, 1 / count),
        }

    @torch.no_grad()
    def _attention(self, patches: Tensor, dropped: Tensor) -> Tensor:
        """Return softmax(cos(cls, patch) / temperature) of dropped patches, all visible, (B, M)."""
        tokens = self.encoder(patches).float()
        likeness = F.cosine_similarity(tokens[:, :1], tokens[:, 1:], dim=-1)
        weight = (likeness / self.settings.attentive_temperature).softmax(-1)
        return weight.gather(1, dropped)


def smoothing(counts: Sequence[int], sigma: float) -> Tensor:
    """Return the target of each position: ``exp(-d^2 / sigma^2)``, rows summing to 1.

    d is the distance of two patches on the grid, in patches. Sigma 0 gives one-hot rows.

    Parameters
    ----------
    counts : sequence of int
        Patches per axis; K is their product.
    sigma : float
        In patches.

    Returns
    -------
    Tensor (K, K)

    Examples
    --------
    >>> smoothing((2,), 0.0).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return smoothed(squared_distances(counts), sigma)


def squared_distances(counts: Sequence[int]) -> Tensor:
    """Return the squared distance of every two patches of a grid, in patches, (K, K)."""
    places = row_major(counts)
    return (places[:, None] - places).square().sum(-1)


def smoothed(square: Tensor, sigma: float) -> Tensor:
    """Return the targets of ``smoothing`` from squared distances (K, K), on their device."""
    if sigma < 1e-6:  # sigma^2 would underflow in float32
        return torch.eye(len(square), device=square.device)
    return (-square / sigma**2).softmax(-1)


def position_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy with smoothed targets, (B, M, K) each.

    Parameters
    ----------
    logits, target : Tensor (B, M, K)
        For the dropped patches only; rows of the target sum to 1.
    weight : Tensor (B, M), optional
        Of each patch; the mean over them is weighted.
    """
    each = -(target * logits.log_softmax(-1)).sum(-1)
    return each.mean() if weight is None else (weight * each).sum() / weight.sum()
