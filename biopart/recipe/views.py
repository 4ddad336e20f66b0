"""The settings of augmentation and views, without torch; ``biopart.views`` makes them."""

from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from biopart.settings import Strict, no_effect


class ImageChanges(Strict):
    """How an image is changed before it is encoded; the defaults change nothing."""

    crop: tuple[float, float] = Field(
        (1.0, 1.0), description="smallest and largest share of the area to keep, resized back"
    )
    ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="smallest and largest ratio of a crop's width to its height"
    )
    pad: int = Field(0, ge=0, description="width of a black border before a crop of the old size")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a mirror image, left to right")

    randaugment: str | None = Field(
        None,
        pattern=r"^rand(-(m|n|p|mstd|mmax|inc)\d+(\.\d+)?)*$",
        description="timm's name of a policy, DeiT's is rand-m9-mstd0.5-inc1; colours only",
    )

    @model_validator(mode="after")
    def _check(self) -> "ImageChanges":
        (low, high), (narrow, wide) = self.crop, self.ratio
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop is {[low, high]}; give 0 < smallest <= largest <= 1")
        if not 0 < narrow <= wide:
            raise ValueError(f"ratio is {[narrow, wide]}; give 0 < smallest <= largest")
        if self.pad and low < 1:
            raise ValueError("pad and crop are two ways to shift an image; give one of them")
        return self


class AugmentSettings(ImageChanges):
    """How images and their labels are changed while a classifier trains."""

    erase: float = Field(0.0, ge=0, le=1, description="probability that a rectangle becomes noise")
    mixup: float = Field(0.0, ge=0, description="alpha of mixup; 0 = none")
    cutmix: float = Field(0.0, ge=0, description="alpha of cutmix; 0 = none; alternates with mixup")
    smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label spread over all classes"
    )


Share = Annotated[float, Field(ge=0, le=1)]


class ColourChanges(Strict):
    """How colours of views change; the defaults are those of BYOL and DINO."""

    jitter: float = Field(0.8, ge=0, le=1, description="probability of the four changes below")
    brightness: float = Field(0.4, ge=0, le=1, description="largest change of the factor 1")
    contrast: float = Field(0.4, ge=0, le=1, description="largest change of the factor 1")
    saturation: float = Field(0.2, ge=0, le=1, description="largest change of the factor 1")
    hue: float = Field(0.1, ge=0, le=0.5, description="up to this part of the colour circle")
    grey: float = Field(0.2, ge=0, le=1, description="probability of no colours")
    blur: tuple[Share, Share, Share] = Field(
        (1.0, 0.1, 0.5), description="probability of blur: first and second global view, local ones"
    )
    sigma: tuple[float, float] = Field((0.1, 2.0), description="its deviation in pixels, uniform")
    solarise: tuple[Share, Share, Share] = Field(
        (0.0, 0.2, 0.0), description="probability that bright colours are inverted, by view"
    )

    @model_validator(mode="after")
    def _check(self) -> "ColourChanges":
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"sigma is {list(self.sigma)}; give 0 < smallest <= largest")
        unused = self.changed("brightness", "contrast", "saturation", "hue")
        if not self.jitter and unused:
            raise ValueError(f"jitter is 0, so {no_effect(unused)}")
        return self

    def changes(self, number: int) -> bool:
        """Tell whether a view changes at all."""
        return bool(self.jitter or self.grey or self.blur[number] or self.solarise[number])


class MaskBox(NamedTuple):
    """A box that is masked: its share of a grid, and ratios of its sides."""

    crop: tuple[float, float]
    ratio: tuple[float, float]


class ValueChanges(Strict):
    """How normalised values of views change, on any number of axes; null = none of images."""

    scale: tuple[float, float] | None = Field(
        None, description="smallest and largest factor, log-uniform; null = 0.5 to 2 of signals"
    )
    sign: float = Field(0.0, ge=0, le=1, description="probability of the other sign")
    noise: float | None = Field(
        None,
        ge=0,
        description="largest deviation of Gaussian noise, in those of the values; null = 0.2 of "
        "signals",
    )
    mask: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="largest share of the grid that a box of zeros covers; null = 0.2 of signals",
    )

    def decided(self, *, images: bool) -> "Changes":
        """Return the changes with those of the kind of items where they are null."""
        scale, noise, mask = ((1.0, 1.0), 0.0, 0.0) if images else ((0.5, 2.0), 0.2, 0.2)
        return Changes(
            scale=scale if self.scale is None else self.scale,
            sign=self.sign,
            noise=noise if self.noise is None else self.noise,
            mask=mask if self.mask is None else self.mask,
        )

    @model_validator(mode="after")
    def _check(self) -> "ValueChanges":
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}; give 0 < smallest <= largest")
        return self


class Changes(NamedTuple):
    """Changes of normalised values that are all decided."""

    scale: tuple[float, float]
    sign: float
    noise: float
    mask: float

    @property
    def masks(self) -> MaskBox:
        """The boxes that are masked."""
        return MaskBox((0.0, self.mask), (3 / 4, 4 / 3))

    @property
    def any(self) -> bool:
        """Whether anything changes."""
        return self != Changes((1.0, 1.0), 0.0, 0.0, 0.0)


class WaveChanges(Strict):
    """How signals of views change; the defaults change nothing."""

    drop_channels: float = Field(
        0.0, ge=0, lt=1, description="probability that a channel is zero; one stays"
    )
    band_stop: float = Field(0.0, ge=0, le=1, description="probability that a band is removed")
    band_hz: float = Field(5.0, gt=0, description="width of that band in hertz")

    @model_validator(mode="after")
    def _check(self) -> "WaveChanges":
        if not self.band_stop and self.changed("band_hz"):
            raise ValueError(f"band_stop is 0, so {no_effect(['band_hz'])}")
        return self


class ViewsSettings(Strict):
    """Views of an item: two global ones, and small local ones that only a student sees."""

    crop: tuple[float, float] = Field(
        (0.25, 1.0), description="smallest and largest share that a global view shows, resized"
    )
    local_views: int = Field(0, ge=0, description="number of local views; DINO: 8")
    local_crop: tuple[float, float] = Field(
        (0.05, 0.25), description="smallest and largest share that a local view shows, resized"
    )
    global_size: list[int] | None = Field(
        None, description="extents of a global view in samples; null = the grid's"
    )
    local_size: list[int] | None = Field(
        None, description="extents of a local view in samples; null = 3/7 of the grid's (96 of 224)"
    )
    ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="smallest and largest ratio of a crop's sides"
    )
    resize: bool | None = Field(
        None,
        description="resize crops; false: views of their size are cut at a place at random, and "
        "crop, local_crop and ratio are not used; null = of images, not of signals, whose "
        "frequencies would change",
    )
    mirror: float | None = Field(
        None, ge=0, le=1, description="probability of a mirror image; null = 0.5 of images, else 0"
    )
    colour: ColourChanges = Field(ColourChanges(), description="changes of images")
    values: ValueChanges = Field(ValueChanges(), description="changes of normalised values")
    waves: WaveChanges = Field(WaveChanges(), description="changes of signals")

    @model_validator(mode="after")
    def _check(self) -> "ViewsSettings":
        for key in ("crop", "local_crop"):
            low, high = getattr(self, key)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{key} is {[low, high]}; give 0 < smallest <= largest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is {list(self.ratio)}; give 0 < smallest <= largest")
        if not self.local_views and (unused := self.changed("local_crop", "local_size")):
            raise ValueError(f"local_views is 0, so {no_effect(unused)}")
        return self
