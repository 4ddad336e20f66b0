"""An encoder with a linear layer on top, for grids with any number of axes."""

from torch import Tensor, nn

from biopart.nn.encoder import Encoder
from biopart.nn.vit import ViT
from biopart.recipe import Pool, Position
from biopart.recipe.protocol import HEAD_STD


class Classifier(nn.Module):
    """Classify windows; arguments and ``final_layer`` follow braindecode's models.

    Parameters
    ----------
    n_chans, n_outputs, n_times : int
        Channels C, classes, samples T of a window.
    sfreq : float
        Sampling rate in hertz; gives the patch its length.
    patch_s : float
        Length of a patch in seconds; ``patch_s * sfreq`` must divide ``n_times``.
    dim, depth, heads : int
        Size of the encoder.
    position : "learned", "sincos", "relative" or "none"
        Position embedding of the encoder.
    """

    def __init__(
        self,
        n_chans: int,
        n_outputs: int,
        n_times: int,
        sfreq: float,
        *,
        patch_s: float = 1.0,
        dim: int = 512,
        depth: int = 4,
        heads: int = 8,
        position: Position = "learned",
    ) -> None:
        super().__init__()
        patch = (round(patch_s * sfreq),)
        self._build(
            ViT((n_times,), patch, n_chans, dim, depth, heads, position=position), n_outputs
        )

    @classmethod
    def on(
        cls, encoder: Encoder, n_outputs: int, *, pool: Pool = "cls", head_std: float = HEAD_STD
    ) -> "Classifier":
        """Put a new linear layer on an encoder with any number of axes.

        Parameters
        ----------
        encoder : Encoder
            Used directly, not copied.
        n_outputs : int
            Number of classes.
        pool : "cls" or "mean"
            Classify [CLS] or the mean of the patch tokens.
        head_std : float
            Deviation of the weights that the linear layer starts with.
        """
        classifier = cls.__new__(cls)
        nn.Module.__init__(classifier)
        classifier._build(encoder, n_outputs, pool, head_std)
        return classifier

    def _build(
        self, encoder: Encoder, n_outputs: int, pool: Pool = "cls", head_std: float = HEAD_STD
    ) -> None:
        """Set the encoder and a linear layer that starts near zero."""
        self.encoder, self.pool = encoder, pool
        self.final_layer = nn.Linear(encoder.dim, n_outputs)
        nn.init.trunc_normal_(self.final_layer.weight, std=head_std)
        nn.init.zeros_(self.final_layer.bias)

    def embed(self, values: Tensor) -> Tensor:
        """Encode grids (B, C, *S) to one vector each, (B, D)."""
        tokens = self.encoder.encode(values)
        return tokens[:, 0] if self.pool == "cls" else tokens[:, 1:].mean(1)

    def forward(self, values: Tensor) -> Tensor:
        """Return logits: normalised grids (B, C, *S) -> (B, n_outputs)."""
        logits: Tensor = self.final_layer(self.embed(values))
        return logits
