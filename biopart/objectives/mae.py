"""MAE: reconstruct masked patches (arXiv 2111.06377; facebookresearch/mae)."""

import math

import torch
from torch import Tensor, nn

from biopart.data import Batch, Metrics, StepOutput
from biopart.grid import grid_boxes, patchify
from biopart.nn import Encoder
from biopart.nn.decoder import Decoder, decoder_positions
from biopart.nn.masking import choose, part_of, random_order
from biopart.nn.relative import take
from biopart.recipe import MaeSettings

__all__ = ["Mae"]


class Mae(nn.Module):
    """Encode only the visible patches, and predict the values of the hidden ones.

    Parameters
    ----------
    encoder : Encoder
        With positions.
    settings : MaeSettings
        Mask ratio, decoder, targets.

    Raises
    ------
    ValueError
        If the encoder has no positions or no patch would be hidden.
    """

    starts: Tensor
    places: Tensor

    def __init__(self, encoder: Encoder, settings: MaeSettings) -> None:
        super().__init__()
        if encoder.position == "none":
            raise ValueError("mae needs an encoder with positions, e.g. position: sincos")
        self.encoder, self.settings = encoder, settings
        self.visible = part_of(encoder.n_patches, 1 - settings.mask_ratio)
        if self.visible >= encoder.n_patches:
            raise ValueError(
                f"a mask_ratio of {settings.mask_ratio:g} hides none of {encoder.n_patches} "
                "patches; raise it or choose smaller patches"
            )
        values = encoder.channels * math.prod(encoder.patch)
        if settings.normalise_target and values < 2:
            raise ValueError("a patch of one value has no variance; set normalise_target: false")
        width = settings.decoder_dim
        self.decoder = Decoder(
            encoder.dim,
            width,
            values,
            depth=settings.decoder_depth,
            heads=settings.decoder_heads,
        )
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        table = decoder_positions(encoder.counts, width)
        self.register_buffer("places", table, persistent=False)
        starts = grid_boxes(encoder.shape, encoder.patch).start.float()
        self.register_buffer("starts", starts, persistent=False)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Hide, encode, decode and compare; values of the batch are normalised (B, C, *S)."""
        patches = patchify(batch.values, self.encoder.patch)
        order = random_order(len(patches), patches.shape[1], generator, patches.device)
        kept, hidden = order[:, : self.visible], order[:, self.visible :]
        tokens = self.encoder(choose(patches, kept), self.starts[kept])
        predicted = take(self.reconstruct(tokens, order).float(), hidden)
        target = choose(patches, hidden).flatten(2).float()
        if self.settings.normalise_target:
            target = normalised(target)
        loss = reconstruction_loss(predicted, target)
        return StepOutput(loss, Metrics(lambda: self._metrics(loss.detach(), target)))

    def _metrics(self, loss: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return R2 and the loss of predicting the mean of each patch."""
        chance, n = target.square().mean(), target.shape[-1]
        expected = (
            torch.full_like(chance, (n - 1) / n) if self.settings.normalise_target else chance
        )
        return {"chance_loss": expected, "r2": 1 - loss / chance}

    def reconstruct(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Predict the values of all patches from the visible ones.

        Parameters
        ----------
        tokens : Tensor (B, 1 + V, D)
            [CLS] and the visible patches, as encoded.
        order : Tensor (B, K), int64
            Patch numbers: the V visible ones, then the hidden ones.

        Returns
        -------
        Tensor (B, K, C * prod(P))
            In the grid's order.
        """
        embedded = self.decoder.embed(tokens)
        hidden = order.shape[1] + 1 - tokens.shape[1]
        masks = self.mask_token.to(embedded.dtype).expand(len(tokens), hidden, -1)
        patches = take(torch.cat([embedded[:, 1:], masks], dim=1), order.argsort(1))
        full = torch.cat([embedded[:, :1], patches], dim=1) + self.places
        return self.decoder.decode(full)[:, 1:]


def normalised(target: Tensor) -> Tensor:
    """Normalise each patch (..., values) by its mean and unbiased variance + 1e-6.

    ``norm_pix_loss`` of facebookresearch/mae, all channels of a patch together.

    Examples
    --------
    >>> normalised(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [-0.9999995231628418, 0.0, 0.9999995231628418]
    """
    mean = target.mean(-1, keepdim=True)
    return (target - mean) / (target.var(-1, keepdim=True, unbiased=True) + 1e-6).sqrt()


def reconstruction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of hidden patches, (B, M, values) each.

    All patches have one size, so the mean over a patch and then over patches is the total mean.
    """
    return (predicted - target).square().mean()
