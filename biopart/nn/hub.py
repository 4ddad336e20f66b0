"""A model in the layout of the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import PyTorchModelHubMixin

from biopart.nn.about import About
from biopart.nn.model import Model, build_net
from biopart.recipe import Normalisation, Pool


class HubModel(
    Model,
    PyTorchModelHubMixin,
    library_name="biopart",
    tags=["self-supervised-learning", "vision-transformer"],
):
    """A model that ``HubModel.from_pretrained(FOLDER)`` reads from ``biopart export --to hub``.

    Parameters
    ----------
    encoder : mapping
        Arguments of the encoder, with its name.
    normalise : "window", "recording", "imagenet" or "none"
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
        structure: dict[str, Any] = {"encoder": encoder, "pool": pool}
        structure |= {"n_outputs": len(classes)} if classes else {}
        about = About(
            normalise=normalise,
            label_names=tuple(classes),
            channels=tuple(channels),
            sfreq_hz=sfreq_hz,
        )
        super().__init__(build_net(structure), about)
