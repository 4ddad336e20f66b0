"""The settings of every encoder, without torch; the encoders are in ``biopart.nn``."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from biopart.recipe.words import Position
from biopart.settings import Strict

Side = Annotated[int, Field(ge=1)]


class VitSettings(Strict):
    """A vision transformer over patches."""

    name: Literal["vit"] = Field("vit", description="the encoder")
    patch: list[Side] = Field([100], min_length=1, description="patch sides in samples, per axis")
    dim: int = Field(512, ge=2, description="width D")
    depth: int = Field(4, ge=1, description="blocks")
    heads: int = Field(8, ge=1, description="attention heads")
    position: Position = Field(
        "sincos", description="positions in pretraining: sincos, learned, relative or none"
    )
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth at the last block")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden features of the MLPs to dim")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="dropout of what attention and MLPs give, as MP3 has for speech",
    )
    cls: bool = Field(True, description="a [CLS] token; false: the mean of the tokens instead")
    final_norm: bool = Field(True, description="normalise tokens after the last block")

    @model_validator(mode="after")
    def _check(self) -> "VitSettings":
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} does not divide dim {self.dim}")
        return self

    def arguments(
        self, *, position: Position, drop_path: float | None, sfreq_hz: float | None
    ) -> dict[str, Any]:
        """Return the arguments of the encoder that do not depend on the data.

        Parameters
        ----------
        position : "learned", "sincos", "relative" or "none"
            Positions in place of the settings' own.
        drop_path : float, optional
            In place of the settings' own.
        sfreq_hz : float, optional
            Of signals.
        """
        chosen = self.drop_path if drop_path is None else drop_path
        return {**self.model_dump(), "position": position, "drop_path": chosen}


class ResnetSettings(Strict):
    """A ResNet whose receptive field can be chosen; without one it is ResNet-50 (arXiv 1512.03385).

    For methods that see whole views: dino, byol, moby, selfpatch and cossl.
    """

    name: Literal["rf_resnet"] = Field("rf_resnet", description="the encoder")
    patch: list[Side] = Field(
        [32, 32], min_length=1, description="stride of the network in samples, per axis"
    )
    width: int = Field(64, ge=1, description="inner channels of the first stage; D is 32 times it")
    receptive_field: int | None = Field(
        None, ge=1, description="samples that a place sees; null = all kernels are 3 wide"
    )
    receptive_field_s: float | None = Field(
        None, gt=0, description="seconds of a signal that a place sees, in place of samples"
    )
    depths: tuple[Side, Side, Side, Side] | None = Field(
        None, description="blocks of the stages; null = ResNet-50's, more where kernels are 1 wide"
    )

    @property
    def position(self) -> Position:
        """Positions: none."""
        return "none"

    @property
    def drop_path(self) -> float:
        """Stochastic depth: none."""
        return 0.0

    @model_validator(mode="after")
    def _check(self) -> "ResnetSettings":
        if self.receptive_field is not None and self.receptive_field_s is not None:
            raise ValueError("give receptive_field or receptive_field_s, not both")
        return self

    def arguments(
        self, *, position: Position, drop_path: float | None, sfreq_hz: float | None
    ) -> dict[str, Any]:
        """Return the arguments of the encoder, as in ``VitSettings.arguments``.

        Positions are left out. Raises ValueError for stochastic depth, and for seconds of images.
        """
        if drop_path:
            raise ValueError("encoder rf_resnet has no stochastic depth; leave drop_path out")
        values = self.model_dump(exclude={"receptive_field_s"})
        if self.receptive_field_s is not None:
            if sfreq_hz is None:
                raise ValueError("receptive_field_s is for signals; give receptive_field in pixels")
            values["receptive_field"] = round(self.receptive_field_s * sfreq_hz)
        return values


Encoder = Annotated[VitSettings | ResnetSettings, Field(discriminator="name")]
