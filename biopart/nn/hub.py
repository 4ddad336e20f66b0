"""A model on unnormalised values, in the layout of the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from biopart.grid import patchify
from biopart.nn.building import build_encoder
from biopart.nn.classifier import Classifier
from biopart.nn.normalise import Normalise
from biopart.recipe import Normalisation, Pool


class HubModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="biopart",
    tags=["self-supervised-learning", "vision-transformer"],
):
    """Normalise, encode and, if there are classes, classify.

    ``HubModel.from_pretrained(FOLDER)`` reads the output of ``biopart export --to hub``.

    Parameters
    ----------
    encoder : mapping
        Arguments of the encoder, with its name.
    normalise : "window", "imagenet" or "none"
        Normalisation of the values.
    classes : sequence of str
        Names of the classes; none = the model returns tokens.
    pool : "cls" or "mean"
        What to classify.
    channels : sequence of str
        Names of the channels, in order.
    sfreq_hz : float, optional
        Sampling rate of a signal.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        normalise: Normalisation,
        *,
        classes: Sequence[str] = (),
        pool: Pool = "cls",
        channels: Sequence[str] = (),
        sfreq_hz: float | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.sfreq_hz = tuple(classes), tuple(channels), sfreq_hz
        self.normalise = Normalise(normalise)
        net = build_encoder(encoder)
        self.net: nn.Module = Classifier.on(net, len(classes), pool=pool) if classes else net

    def forward(self, values: Tensor) -> Tensor:
        """Return logits (B, classes), or tokens (B, 1 + K, D) with [CLS] first.

        Values (B, C, *S) are integers as stored or floats in any scale, NaN = missing.
        """
        normalised = self.normalise(values)
        if not self.classes:
            normalised = patchify(normalised, self.net.patch)  # type: ignore[arg-type]
        found: Tensor = self.net(normalised)
        return found
