"""The settings of methods with several views and a teacher, without torch."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from biopart.recipe.protocol import KEPT, Protocol
from biopart.recipe.views import ViewsSettings
from biopart.recipe.words import Pool
from biopart.settings import Strict, no_effect


class TeacherSettings(Strict):
    """What all of them share."""

    protocol: ClassVar[Protocol] = KEPT
    cuts_patches: ClassVar[bool] = False
    sees_items: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    @property
    def uses_positions(self) -> bool:
        """Whether patches have their positions in pretraining."""
        return True

    @field_validator("views", mode="before", check_fields=False)
    @classmethod
    def _own_views(cls, given: Any) -> Any:
        """Let views that are given in part keep the method's own for the rest."""
        return merged(cls.model_fields["views"].default, given)


def merged(default: Strict, given: Any) -> Any:
    """Return given settings, completed by those of a default that differ from its class's.

    Examples
    --------
    >>> merged(ViewsSettings(local_views=8), {"mirror": 0.1})
    {'local_views': 8, 'mirror': 0.1}
    """
    if not isinstance(given, Mapping):
        return given
    values = default.model_dump(exclude_defaults=True)
    for key, value in given.items():
        inner = getattr(default, key, None)
        values[key] = merged(inner, value) if isinstance(inner, Strict) else value
    return values


def completed(given: Any, *defaults: Strict) -> Any:
    """Return settings of a method, completed by the default of its name, the first without one."""
    if not isinstance(given, Mapping):
        return given
    known = {str(getattr(default, "name", "")): default for default in defaults}
    name = str(given.get("name", next(iter(known))))
    return {"name": name, **(merged(known[name], given) if name in known else given)}


Positive = Annotated[float, Field(gt=0)]


class DinoSettings(TeacherSettings):
    """DINO matches a teacher's soft assignment of another view; the defaults are the paper's."""

    name: Literal["dino"] = Field("dino", description="the objective")
    views: ViewsSettings = Field(ViewsSettings(local_views=8), description="views of an item")
    pool: Pool = Field("cls", description="represent a view by [CLS] or the mean of its tokens")
    prototypes: int = Field(65536, ge=2, description="outputs of the head")
    hidden: int = Field(2048, ge=2, description="hidden features of the head")
    bottleneck: int = Field(256, ge=2, description="features of the unit vector in the head")
    student_temperature: float = Field(0.1, gt=0, description="temperature of the student")
    teacher_temperature: tuple[Positive, Positive] = Field(
        (0.04, 0.07), description="temperature of the teacher at first and after the warm-up"
    )
    temperature_until: float = Field(
        0.3, gt=0, le=1, description="part of the training over which it changes, linearly"
    )
    centre_momentum: float = Field(
        0.9, ge=0, lt=1, description="of the mean of the teacher's outputs, which is subtracted"
    )
    momentum: float = Field(0.996, ge=0, lt=1, description="of the teacher at first; rises to 1")
    frozen_last: float = Field(
        0.01, ge=0, lt=1, description="part of the training in which the last layer stays as it is"
    )


class ByolSettings(TeacherSettings):
    """BYOL predicts a teacher's projection of another view; the defaults are the paper's."""

    name: Literal["byol"] = Field("byol", description="the objective")
    views: ViewsSettings = Field(ViewsSettings(crop=(0.08, 1.0)), description="views of an item")
    pool: Pool = Field("cls", description="represent a view by [CLS] or the mean of its tokens")
    hidden: int = Field(4096, ge=2, description="hidden features of projector and predictor")
    out: int = Field(256, ge=2, description="features of a projection")
    momentum: float = Field(0.996, ge=0, lt=1, description="of the teacher at first; rises to 1")


class MobySettings(TeacherSettings):
    """MoBY: BYOL's networks with MoCo's contrast to a queue (arXiv 2105.04553).

    Asymmetric drop path is ``pretrain.drop_path``: the teacher has none.
    """

    name: Literal["moby"] = Field("moby", description="the objective")
    views: ViewsSettings = Field(ViewsSettings(crop=(0.08, 1.0)), description="views of an item")
    pool: Pool = Field("cls", description="represent a view by [CLS] or the mean of its tokens")
    hidden: int = Field(4096, ge=2, description="hidden features of projector and predictor")
    out: int = Field(256, ge=2, description="features of a projection")
    queue: int = Field(4096, ge=1, description="keys of earlier items, for each global view")
    temperature: float = Field(0.2, gt=0, description="temperature of the contrast")
    momentum: float = Field(0.99, ge=0, lt=1, description="of the teacher at first; rises to 1")


class SelfpatchSettings(TeacherSettings):
    """SelfPatch: a patch predicts its most similar neighbours, beside DINO or MoBY.

    As published, the encoder has neither [CLS] nor a final norm: ``encoder.cls: false`` and
    ``encoder.final_norm: false``.
    """

    name: Literal["selfpatch"] = Field("selfpatch", description="the objective")
    image: Annotated[DinoSettings | MobySettings, Field(discriminator="name")] = Field(
        DinoSettings(teacher_temperature=(0.04, 0.04)), description="the method on whole views"
    )
    weight: float = Field(0.1, ge=0, description="weight of the patches' loss")
    neighbours: int | None = Field(
        None,
        ge=1,
        description="most similar neighbours k; null = half of them: 4 of 8, in signals 1 of 2",
    )
    wrap: bool = Field(False, description="neighbours across the border, as in the released code")
    depth: int = Field(2, ge=1, description="blocks of class attention that aggregate")
    heads: int = Field(4, ge=1, description="attention heads of them")
    prototypes: int = Field(4096, ge=2, description="outputs of the patches' head, of dino")
    negatives: bool = Field(
        False, description="contrast patches with a queue of other patches, of moby"
    )

    @field_validator("image", mode="before")
    @classmethod
    def _own_image(cls, given: Any) -> Any:
        """Let a method that is given in part keep the published values for the rest."""
        return completed(given, cls.model_fields["image"].default)

    @model_validator(mode="after")
    def _check(self) -> "SelfpatchSettings":
        other = "prototypes" if self.image.name == "moby" else "negatives"
        if self.changed(other):
            raise ValueError(f"image is {self.image.name}, so {no_effect([other])}")
        if self.image.changed("pool"):
            raise ValueError(f"class attention pools, so {no_effect(['image.pool'])}")
        return self

    @property
    def views(self) -> ViewsSettings:
        """Views of an item."""
        return self.image.views


class CosslSettings(TeacherSettings):
    """CO-SSL pulls local representations to the teacher's global one of another view."""

    name: Literal["cossl"] = Field("cossl", description="the objective")
    image: Annotated[ByolSettings | DinoSettings, Field(discriminator="name")] = Field(
        ByolSettings(views=ViewsSettings(crop=(0.2, 1.0))),
        description="the method on whole views: byol for CO-BYOL, dino for CO-DINO",
    )
    weight: float = Field(0.3, ge=0, description="w_s, weight of the local loss: 0.2 to 0.5")
    places: int | None = Field(
        None, ge=1, description="places n per axis that the map is averaged to; null = all"
    )

    @field_validator("image", mode="before")
    @classmethod
    def _own_image(cls, given: Any) -> Any:
        """Let a method that is given in part keep the published values for the rest."""
        dino = DinoSettings(
            views=ViewsSettings(crop=(0.2, 1.0), local_views=8, local_crop=(0.05, 0.2))
        )
        return completed(given, cls.model_fields["image"].default, dino)

    @property
    def views(self) -> ViewsSettings:
        """Views of an item."""
        return self.image.views
