"""The settings of augmentation, without torch; it is done by ``biopart.data.augment``."""

from pydantic import Field, model_validator

from biopart.settings import Strict


class ViewSettings(Strict):
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
    def _check(self) -> "ViewSettings":
        (low, high), (narrow, wide) = self.crop, self.ratio
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop is {[low, high]}; give 0 < smallest <= largest <= 1")
        if not 0 < narrow <= wide:
            raise ValueError(f"ratio is {[narrow, wide]}; give 0 < smallest <= largest")
        if self.pad and low < 1:
            raise ValueError("pad and crop are two ways to shift an image; give one of them")
        return self


class AugmentSettings(ViewSettings):
    """How images and their labels are changed while a classifier trains."""

    erase: float = Field(0.0, ge=0, le=1, description="probability that a rectangle becomes noise")
    mixup: float = Field(0.0, ge=0, description="alpha of mixup; 0 = none")
    cutmix: float = Field(0.0, ge=0, description="alpha of cutmix; 0 = none; alternates with mixup")
    smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label spread over all classes"
    )
