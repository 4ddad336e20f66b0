"""DropPos: predict the dropped positions of visible patches (arXiv 2309.03576)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, StepOutput
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

    def __init__(self, encoder: Encoder, settings: DropPosSettings) -> None:
        super().__init__()
        if encoder.position == "none":
            raise ValueError("droppos needs an encoder with positions, e.g. position: sincos")
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
        target = smoothing(self.encoder.counts, sigma).to(logits.device)[dropped]
        weight = self._attention(patches, dropped) if self.settings.attentive else None
        loss = position_loss(logits, target, weight)
        right = (logits.argmax(-1) == dropped).float().mean()
        count = self.encoder.n_patches
        metrics = {
            "chance_loss": torch.full_like(loss, math.log(count)),
            "accuracy": right,
            "chance_accuracy": torch.full_like(loss, 1 / count),
        }
        return StepOutput(loss, {name: value.detach() for name, value in metrics.items()})

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
    places = row_major(counts)
    if sigma < 1e-6:  # sigma^2 would underflow in float32
        return torch.eye(len(places))
    square = (places[:, None] - places).square().sum(-1)
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
