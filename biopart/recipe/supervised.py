"""The settings of supervised objectives, without torch: classes, sequences, objects."""

from typing import Literal

from pydantic import Field, model_validator

from biopart.recipe.protocol import HEAD_STD
from biopart.recipe.words import Pool
from biopart.settings import Strict, no_effect


class ClassifySettings(Strict):
    """Settings of classification."""

    name: Literal["classify"] = Field("classify", description="the objective")
    classes: int = Field(5, ge=2, description="number of classes")
    pool: Pool = Field("cls", description="classify [CLS] or the mean of the patch tokens")
    class_weights: tuple[float, ...] | None = Field(
        None, description="weight of each class in the loss"
    )
    smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label spread over all classes"
    )
    head_std: float = Field(
        HEAD_STD, gt=0, description="deviation of the weights that the linear layer starts with"
    )


class SequenceSettings(Strict):
    """Settings of classification with context."""

    name: Literal["sequence"] = Field("sequence", description="the objective")
    classes: int = Field(5, ge=2, description="number of classes")
    pool: Pool = Field("cls", description="embed a window by [CLS] or the mean of its tokens")
    context: int = Field(21, ge=2, description="number of windows L per decision")
    frozen: bool = Field(False, description="keep the encoder and the linear layer unchanged")
    depth: int = Field(2, ge=1, description="blocks of the transformer over windows")
    heads: int = Field(4, ge=1, description="attention heads of the transformer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the embeddings")


class SegmentSettings(Strict):
    """Settings of segmentation: a class at every place."""

    name: Literal["segment"] = Field("segment", description="the objective")
    classes: int = Field(150, ge=2, description="number of classes, as the data set has")
    head: Literal["fpn", "linear"] = Field(
        "fpn", description="Semantic FPN on four blocks, or a linear layer on the last tokens"
    )
    pyramid: int = Field(256, ge=4, description="channels of the levels of the pyramid")
    channels: int = Field(128, ge=4, description="channels of the head on the pyramid")

    @model_validator(mode="after")
    def _check(self) -> "SegmentSettings":
        unused = [key for key in ("pyramid", "channels") if self.changed(key)]
        if self.head == "linear" and unused:
            raise ValueError(f"head is linear, so {no_effect(unused)}")
        return self


class DetectSettings(Strict):
    """Settings of the detector."""

    name: Literal["detect"] = Field("detect", description="the objective")
    classes: int = Field(80, ge=1, description="classes of objects")
    window: int = Field(14, ge=1, description="side of an attention window in patches")
    global_blocks: list[int] | None = Field(
        None, description="blocks that attend to the whole canvas; null = evenly spaced, four"
    )
    channels: int = Field(256, ge=8, description="channels of every level of the pyramid")
    box_dim: int = Field(1024, ge=8, description="width of the layers that classify a box")
    proposals: int = Field(512, ge=4, description="number of proposals per image in training")
    anchor: int = Field(32, ge=1, description="side in pixels of the anchors at stride 4; doubles")
