"""The settings of every objective, without torch; the objectives are in ``biopart.objectives``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from biopart.recipe.protocol import MASKED, SUPERVISED, Protocol
from biopart.recipe.teachers import (
    ByolSettings,
    CosslSettings,
    DinoSettings,
    MobySettings,
    SelfpatchSettings,
)
from biopart.recipe.views import ViewsSettings
from biopart.recipe.words import Head
from biopart.settings import Strict, no_effect


class PartSettings(Strict):
    """PART predicts where patches lie relative to each other; (?) = not stated in the paper.

    (c) = as an option in its released code (qczeck/msc_thesis, folder PART).
    """

    protocol: ClassVar[Protocol] = SUPERVISED
    cuts_patches: ClassVar[bool] = True
    sees_items: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    name: Literal["part"] = Field("part", description="the objective")
    patches: int = Field(40, ge=2, description="patches K cut from each grid")
    pairs: int | None = Field(
        160, ge=1, description="pairs M drawn from each grid (?); null = all of them"
    )
    replacement: bool = Field(
        True, description="a pair may be drawn twice; false: M different pairs (c)"
    )
    self_pairs: bool = Field(False, description="pairs of a patch with itself among them (c)")
    shared_pairs: bool = Field(False, description="the same pairs for a whole batch (c)")
    near: float | None = Field(
        None,
        gt=0,
        description="pairs whose centres lie at most this many patch sizes apart; null = any",
    )
    head: Head = Field(
        "cross_attention",
        description="relative encoder; attention, pairwise and joint are those of the released "
        "code, the others have norms and hidden layers of our own",
    )
    heads: int | None = Field(
        None,
        ge=1,
        description="attention heads; null = 1 of attention (c), dim / 64 of cross_attention",
    )
    masked: float = Field(
        0.0, ge=0, lt=1, description="share of patches that no other can attend to, as in MP3 (c)"
    )
    position_hint: float = Field(
        0.0, ge=0, le=1, description="share of patches that keep their true position"
    )
    hint_until: float | None = Field(
        None,
        gt=0,
        le=1,
        description="part of the training over which hints fall to none, linearly; null = they "
        "stay",
    )
    on_grid: bool = Field(False, description="use all patches of the tiling (PART-grid)")
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="smallest and largest side, in patch sizes, drawn per axis"
    )
    sides: Literal["log", "uniform"] = Field(
        "log", description="log-uniform sides (?), or uniform start and end points (c)"
    )
    size_target: Literal["log", "ratio"] = Field(
        "log", description="relative sizes as logarithms (?) or as ratios (c)"
    )
    focus: Literal["none", "energy"] = Field(
        "none", description="draw patches uniformly, or in proportion to the energy they cover"
    )
    target: Literal["linear", "capped", "log"] = Field(
        "linear",
        description="translations as they are (paper), clamped to target_cap, or sign times log of "
        "1 + size",
    )
    target_cap: float = Field(3.0, gt=0, description="limit of a capped target, in patch sizes")
    loss: Literal["mse", "l1", "huber"] = Field(
        "mse",
        description="mean squared error (paper), absolute (c), or Huber's, which bends at 1 unit "
        "of the target (c)",
    )
    distance_weight: Literal["none", "linear"] = Field(
        "none", description="weight of a pair: 1, or falling to 0 at the largest distance (c)"
    )
    symmetry: float = Field(
        0.0, ge=0, description="weight of the squared sum of a pair's two predictions (c)"
    )

    @property
    def uses_positions(self) -> bool:
        """Whether patches have their positions at the end of pretraining."""
        return self.position_hint > 0 and self.hint_until is None

    def hint_share(self, progress: float = 1.0) -> float:
        """Return the share of patches that keep their position at a point of the training.

        Examples
        --------
        >>> settings = PartSettings(position_hint=0.8, hint_until=0.5)
        >>> settings.hint_share(0.0), settings.hint_share(0.25), settings.hint_share()
        (0.8, 0.4, 0.0)
        """
        left = 1.0 if self.hint_until is None else max(0.0, 1 - progress / self.hint_until)
        return self.position_hint * left

    @model_validator(mode="after")
    def _check(self) -> "PartSettings":
        low, high = self.scale
        if not (0 < low < high or low == high == 1):
            raise ValueError(
                f"scale is {list(self.scale)}; give [1, 1] for one size or 0 < smallest < largest"
            )
        if self.focus != "none" and (self.on_grid or low != high):
            raise ValueError(
                f"focus {self.focus} draws patches of one size off the grid; keep on_grid false "
                "and scale [1, 1]"
            )
        if self.masked and self.head in ("joint", "joint_mlp"):
            raise ValueError(
                f"head {self.head} reads all patches at once, so masked must be 0; choose another "
                "head to mask patches"
            )
        if self.hint_until is not None and not self.position_hint:
            raise ValueError("hint_until needs hints to take away; set position_hint above 0")
        if self.symmetry and self.target == "capped" and low != high:
            raise ValueError(
                "patches of several sizes with a capped target contradict each other on the way "
                "back; set symmetry to 0 or choose another target"
            )
        self._check_pairs()
        self._check_unused()
        return self

    def _check_unused(self) -> None:
        """Refuse keys that the others leave without effect."""
        for what, without, keys in (
            ("pairs null takes every pair", self.pairs is None, ("replacement", "shared_pairs")),
            (
                f"scale {list(self.scale)} gives patches of one size",
                self.scale[0] == self.scale[1],
                ("sides", "size_target"),
            ),
            (
                f"head {self.head} has no attention heads",
                self.head not in ("attention", "cross_attention"),
                ("heads",),
            ),
            (f"target is {self.target}", self.target != "capped", ("target_cap",)),
        ):
            if without and (unused := self.changed(*keys)):
                raise ValueError(f"{what}, so {no_effect(unused)}")

    def _check_pairs(self) -> None:
        """Refuse ways to draw pairs that contradict each other."""
        drawn_freely = self.replacement and not self.self_pairs and not self.shared_pairs
        if self.near is not None and (self.pairs is None or not drawn_freely):
            raise ValueError(
                "near draws different patches of each grid with replacement: give a number of "
                "pairs, and leave out replacement, self_pairs and shared_pairs"
            )


class MaeSettings(Strict):
    """MAE reconstructs hidden patches; the defaults are the paper's."""

    protocol: ClassVar[Protocol] = MASKED
    cuts_patches: ClassVar[bool] = True
    sees_items: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.9, 0.95)

    name: Literal["mae"] = Field("mae", description="the objective")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of patches that are hidden")
    decoder_dim: int = Field(512, ge=2, description="width of the decoder")
    decoder_depth: int = Field(8, ge=1, description="blocks of the decoder")
    decoder_heads: int = Field(16, ge=1, description="attention heads of the decoder")
    normalise_target: bool = Field(
        True, description="normalise each target patch, as in the paper; released code: off"
    )

    @property
    def uses_positions(self) -> bool:
        """Whether patches have their positions in pretraining."""
        return True


class Mp3Settings(Strict):
    """MP3 classifies the position of every patch from a few context patches.

    The paper's three kinds of positions in fine-tuning are ``finetune.position`` learned, none, and
    relative, a bias that starts at zero.
    """

    protocol: ClassVar[Protocol] = SUPERVISED
    cuts_patches: ClassVar[bool] = True
    sees_items: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    name: Literal["mp3"] = Field("mp3", description="the objective")
    masked: float = Field(
        0.75,
        ge=0,
        lt=1,
        description="eta, share of patches outside the context: 0.5 CIFAR-100, 0.75 ImageNet",
    )
    position_hint: float = Field(
        0.0, ge=0, le=1, description="share of patches given their position (speech: 0.05)"
    )

    @property
    def uses_positions(self) -> bool:
        """Whether patches have their positions in pretraining."""
        return self.position_hint > 0


class DropPosSettings(Strict):
    """DropPos finds the lost positions of visible patches; the defaults are the paper's.

    The released code (Haochen-Wang409/DropPos) smooths over a 16 x 16 map for any grid and
    normalises over the wrong axis; this implementation does neither. Sigma falls with every step,
    in the paper with every epoch. Its clipping is set in the recipe: ``clip: 5.0``,
    ``clip_each: true``.
    """

    protocol: ClassVar[Protocol] = MASKED
    cuts_patches: ClassVar[bool] = True
    sees_items: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.9, 0.95)

    name: Literal["droppos"] = Field("droppos", description="the objective")
    mask_ratio: float = Field(0.75, ge=0, lt=1, description="share of patches that are hidden")
    drop_ratio: float = Field(
        0.75, gt=0, le=1, description="share of visible patches that lose their position"
    )
    decoder_dim: int = Field(512, ge=2, description="width of the decoder")
    decoder_depth: int = Field(2, ge=1, description="blocks of the decoder")
    decoder_heads: int = Field(16, ge=1, description="attention heads of the decoder")
    sigma: float = Field(
        1.0, ge=0, description="smoothing of positions at the start, in patches; falls to 0"
    )
    attentive: bool = Field(
        False, description="weight patches by their similarity to [CLS]: attentive reconstruction"
    )
    attentive_temperature: float = Field(
        0.1, gt=0, description="temperature of that similarity in the softmax over patches"
    )

    @model_validator(mode="after")
    def _check(self) -> "DropPosSettings":
        if not self.attentive and (unused := self.changed("attentive_temperature")):
            raise ValueError(f"attentive is false, so {no_effect(unused)}")
        return self

    @property
    def uses_positions(self) -> bool:
        """Whether patches have their positions in pretraining."""
        return True


Single = Annotated[
    PartSettings
    | MaeSettings
    | Mp3Settings
    | DropPosSettings
    | DinoSettings
    | ByolSettings
    | MobySettings
    | SelfpatchSettings
    | CosslSettings,
    Field(discriminator="name"),
]


class SumPart(Strict):
    """An objective of a sum, and its weight."""

    objective: Single = Field(PartSettings(), description="the objective")
    weight: float = Field(1.0, gt=0, description="weight of its loss")


class SumSettings(Strict):
    """A weighted sum of objectives on one encoder, which share their views."""

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    name: Literal["sum"] = Field("sum", description="the objective")
    parts: list[SumPart] = Field(
        [
            SumPart(objective=PartSettings()),
            SumPart(objective=ByolSettings()),
        ],
        min_length=2,
        description="objectives and weights; the first decides which encoder is saved and how it "
        "is fine-tuned",
    )

    @property
    def sees_items(self) -> bool:
        """Whether an objective sees the items themselves, beside views of them."""
        return any(part.objective.sees_items for part in self.parts)

    @property
    def cuts_patches(self) -> bool:
        """Whether an objective hides patches, moves them or cuts them off the grid."""
        return any(part.objective.cuts_patches for part in self.parts)

    @property
    def protocol(self) -> Protocol:
        """How the first objective's authors fine-tune."""
        return self.parts[0].objective.protocol

    @property
    def uses_positions(self) -> bool:
        """Whether patches have their positions at the end of pretraining, of the first one."""
        return self.parts[0].objective.uses_positions

    @property
    def views(self) -> ViewsSettings | None:
        """The views that all objectives share that need some."""
        found = [views for part in self.parts if (views := views_of(part.objective)) is not None]
        return found[0] if found else None

    @model_validator(mode="after")
    def _check(self) -> "SumSettings":
        names = [part.objective.name for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"parts are {', '.join(names)}; name each objective once")
        found = [views_of(part.objective) for part in self.parts]
        several = [views for views in found if views is not None]
        if any(views != several[0] for views in several):
            raise ValueError(
                "the objectives of a sum share their views; give the same views to all of them"
            )
        return self


Objective = Annotated[Single | SumSettings, Field(discriminator="name")]

PRETRAINING = (
    PartSettings,
    MaeSettings,
    Mp3Settings,
    DropPosSettings,
    DinoSettings,
    ByolSettings,
    MobySettings,
    SelfpatchSettings,
    CosslSettings,
    SumSettings,
)
"""The settings of every pretraining objective."""


def views_of(objective: Strict) -> ViewsSettings | None:
    """Return the views that an objective compares; None of one that sees the items themselves."""
    views: ViewsSettings | None = getattr(objective, "views", None)
    return views
