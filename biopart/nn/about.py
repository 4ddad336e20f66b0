"""What weights say of themselves: what they were trained on, and what they take."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from biopart.recipe import Normalisation
from biopart.store.kinds import IMAGES, RECORDINGS, Kind
from biopart.store.seen import Seen


class About(BaseModel):
    """What weights were trained on, and what a grid must look like for them.

    Attributes
    ----------
    recipe : str
        Name of the recipe.
    seen : Seen
        Persons, or images, that the weights have learnt from.
    channels : tuple of str
        Names, in order.
    sfreq_hz, epoch_s : float, optional
        Sampling rate and epoch of recordings; None for images.
    label_names : tuple of str
        Names of the classes by code.
    normalise : "window", "recording", "imagenet" or "none"
        How stored integers are normalised.
    prepared : dict
        Keys of the card that decided the values of the store.
    card : dict, optional
        The whole card.
    simulated : bool
        Whether the recordings are simulated.
    temperature : float
        Logits are divided by it before they become probabilities (Guo et al., 2017).
    positions : bool, optional
        Whether patches are given their positions; None in older files.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    recipe: str = ""
    seen: Seen = Field(default_factory=Seen)
    channels: tuple[str, ...] = ()
    sfreq_hz: float | None = None
    epoch_s: float | None = None
    label_names: tuple[str, ...] = ()
    normalise: Normalisation = "window"
    prepared: dict[str, Any] = Field(default_factory=dict)
    card: dict[str, Any] | None = None
    simulated: bool = False
    temperature: float = 1.0
    positions: bool | None = None

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> "About":
        """Read the metadata of a file of weights; what is missing has its default."""
        return cls.model_validate({**metadata, "seen": Seen.from_json(metadata)})

    def to_json(self) -> dict[str, Any]:
        """Return it as the metadata of a file of weights."""
        return {**self.model_dump(mode="json", exclude={"seen"}), "seen": self.seen.to_json()}

    @property
    def by_recording(self) -> bool:
        """Whether a recording is normalised as a whole before its windows are cut."""
        return self.normalise == "recording"

    @property
    def kind(self) -> Kind:
        """Of the stores that the weights are of."""
        return IMAGES if self.sfreq_hz is None else RECORDINGS

    @property
    def dataset(self) -> str:
        """Name of the data set of the card; "" where it is not known."""
        return str((self.card or {}).get("name", ""))
