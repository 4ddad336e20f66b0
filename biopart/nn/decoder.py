"""Decoders: blocks with their own width on an encoder's tokens, then one linear layer."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from biopart.nn.block import Block, transformer_norm
from biopart.nn.positions import longer_axes, row_major, sincos


class Decoder(nn.Module):
    """Linear layer to its width, pre-norm blocks, norm, linear layer to the outputs of each token.

    MAE's decoder (arXiv 2111.06377) and DropPos's, which has no positions (arXiv 2309.03576).
    Xavier-uniform matrices and zero biases as in facebookresearch/mae, except in the last layer:
    ``start_at_chance``.

    Parameters
    ----------
    dim, width, outputs : int
        Features D of the encoder, of the decoder, and outputs per token.
    depth, heads : int
        Blocks and attention heads.

    Raises
    ------
    ValueError
        If heads do not divide the width.
    """

    def __init__(self, dim: int, width: int, outputs: int, *, depth: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"decoder_heads {heads} does not divide decoder_dim {width}; choose a divisor"
            )
        self.embed = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = transformer_norm(width)
        self.head = nn.Linear(width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        start_at_chance(self.head)

    def forward(self, tokens: Tensor) -> Tensor:
        """Decode tokens (B, T, D) -> (B, T, outputs)."""
        return self.decode(self.embed(tokens))

    def decode(self, embedded: Tensor) -> Tensor:
        """Decode tokens that are already embedded, (B, T, width) -> (B, T, outputs)."""
        for block in self.blocks:
            embedded = block(embedded)
        outputs: Tensor = self.head(self.norm(embedded))
        return outputs


def decoder_positions(counts: Sequence[int], width: int) -> Tensor:
    """Return fixed sine-cosine positions of [CLS] and all patches for a decoder, (1 + K, width).

    [CLS] has position 0. If 2 N does not divide the width, the remaining features stay 0; N
    counts the axes with more than one patch.

    Examples
    --------
    >>> decoder_positions((2, 2, 2), 8).shape, decoder_positions((1,), 3).tolist()
    (torch.Size([9, 8]), [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    """
    axes = longer_axes(counts)
    used = width - width % (2 * len(axes))
    return F.pad(sincos(row_major(counts)[:, axes], used), (0, width - used, 1, 0))


def start_at_chance(layer: nn.Linear) -> None:
    """Initialise a last layer with outputs that deviate by 0.1 on normalised tokens.

    A cross-entropy then starts at ln K and a normalised reconstruction at 1, to within a
    hundredth; any lower loss is learnt. (Xavier-uniform, as released for MAE, starts 0.8 to 1.7
    above.)
    """
    nn.init.normal_(layer.weight, std=0.1 / layer.in_features**0.5)
    nn.init.zeros_(layer.bias)
