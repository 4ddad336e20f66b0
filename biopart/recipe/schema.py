"""A recipe: the whole of an experiment in one strict YAML file.

Every key has a default and a description (``biopart info --schema``); a wrong one is refused with
the allowed ones. ``lr`` is the value used, nothing scales it in secret.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from biopart.recipe.encoders import Encoder, VitSettings
from biopart.recipe.objectives import Objective
from biopart.recipe.supervised import DetectSettings, SegmentSettings
from biopart.recipe.training import (
    FinetuneSettings,
    Optimisation,
    PretrainSettings,
    check_search,
    without_section,
)
from biopart.recipe.words import COMPARED, Method, Normalisation, StorePlace
from biopart.settings import (
    Strict,
    UserPath,
    apply_change,
    checked,
    dump_yaml,
    find,
    no_effect,
    read_yaml,
)


class DataSettings(Strict):
    """Which windows, and what is done to them on the device."""

    card: str | None = Field(None, description="card that the store must have been made by")
    store: StorePlace = Field(
        Path("data/store.zarr"),
        description="prepared store: a folder, or an address such as s3://bucket/store.zarr",
    )
    channels: list[str] | None = Field(None, description="channels in order; null = the store's")
    window_s: float | None = Field(None, gt=0, description="window in seconds; null = the epoch")
    normalise: Normalisation = Field(
        "window",
        description="window: each window or image by itself; recording: by the median and the "
        "interquartile range of what the store has of a recording; imagenet: colours by its mean "
        "and deviation; none",
    )


class SplitSettings(Strict):
    """How many persons take which part; test persons depend on the seed alone.

    Of images, each counts as a person.
    """

    test_persons: int = Field(200, ge=1, description="labelled persons for the final test")
    test_part: str | None = Field(
        None, description="part of a store of images that is the whole test; null = drawn"
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="folds of a cross-validation over the labelled persons; each fold is the "
        "test once, a curve or a sweep runs them all; null = a fixed test of test_persons",
    )
    fold: int = Field(0, ge=0, description="the fold that is the test, from 0")
    validation_persons: int = Field(100, ge=0, description="labelled persons for early stopping")
    pretrain_persons: int | None = Field(None, ge=1, description="null = all that are left")
    finetune_persons: int | None = Field(None, ge=1, description="null = all labelled ones left")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the split")

    @model_validator(mode="after")
    def _check(self) -> "SplitSettings":
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold is {self.fold}; {self.folds} folds are 0 to {self.folds - 1}")
        if self.folds is not None and self.test_part is not None:
            raise ValueError("folds and test_part are two ways to choose the test; give one")
        return self


class ScenesSettings(Strict):
    """Images with objects in COCO's form, under the folder given by --images."""

    annotations: UserPath = Field(
        Path("annotations/instances_train2017.json"), description="JSON of the objects"
    )
    images: UserPath = Field(Path("train2017"), description="folder of the images")

    dropped = ("keypoints",)


class TrunkSettings(Optimisation):
    """A task at every place, on an encoder that it may start from."""

    weights: str | None = Field(
        None,
        description="encoder to start from: a run, a file in timm's names, or the name of a timm "
        "model; null = a new one",
    )
    keep_positions: bool | None = Field(
        None,
        description="start from the pretrained positions, interpolated; null = where there are "
        "any, but of part and mp3, which are pretrained without",
    )


class DetectionSettings(TrunkSettings):
    """Mask R-CNN on the encoder."""

    root: UserPath = Field(Path("data/coco"), description="folder that the files below lie in")
    train: ScenesSettings = Field(ScenesSettings(), description="what is learnt from")
    test: ScenesSettings = Field(
        ScenesSettings(
            annotations=Path("annotations/instances_val2017.json"), images=Path("val2017")
        ),
        description="what is scored, once, at the end",
    )
    max_bad: int = Field(
        20, ge=0, description="images and objects of a part that may be left out; one more stops"
    )
    canvas: int = Field(1024, ge=32, multiple_of=32, description="side of the square canvas")
    jitter: tuple[float, float] = Field(
        (0.1, 2.0), description="large-scale jitter: factors of the size of a scene; [1, 1] = none"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    model: DetectSettings = Field(DetectSettings(), description="the detector")

    @field_validator("jitter")
    @classmethod
    def _range(cls, factors: tuple[float, float]) -> tuple[float, float]:
        if not 0 < factors[0] <= factors[1]:
            raise ValueError(f"jitter is {list(factors)}; give 0 < smallest <= largest")
        return factors


class SegmentationSettings(TrunkSettings):
    """A class for every pixel of annotated images, or for every sample of recordings with events.

    Without ``card`` the recording's events are segmented, of the recipe's store and persons.
    """

    card: str | None = Field(None, description="card of annotated images; null = events")
    raw: UserPath | None = Field(None, description="folder of those images")
    canvas: int = Field(512, ge=8, description="side of the square crops that are learnt from")
    scale: tuple[float, float] = Field(
        (0.5, 2.0), description="factors of an image whose shorter side is the canvas"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    model: SegmentSettings = Field(SegmentSettings(), description="the head")

    @model_validator(mode="after")
    def _check_images(self) -> "SegmentationSettings":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}; give 0 < smallest <= largest")
        keys = [key for key in ("raw", "canvas", "scale", "flip") if self.changed(key)]
        if self.card is None and keys:
            raise ValueError(f"card is null: there are no images, so {no_effect(keys)}")
        return self


class CurveSettings(Strict):
    """The sample-efficiency curve: which methods, how many labelled persons, how often."""

    methods: list[Method] = Field(
        list(COMPARED), min_length=1, description="pretrainings and supervised baselines"
    )
    sizes: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 5, 10], min_length=1, description="labelled persons, or images per class"
    )
    lengths: list[Annotated[int, Field(ge=1)]] = Field(
        [],
        description="steps of pretraining to compare, e.g. [600, 3000]: every method is pretrained "
        "for each; [] = pretrain.steps or epochs alone",
    )
    repeats: int = Field(
        5, ge=1, description="seeds; each draws subset, pretraining and fine-tuning anew"
    )
    objectives: list[Objective] = Field(
        [], description="settings of compared objectives that differ from their defaults"
    )
    search: dict[str, list[Any]] = Field(
        {},
        description="values of finetune keys to try in every fine-tuning, e.g. {finetune.lr: "
        "[1e-3, 3e-4]}; validation persons choose",
    )
    changes: dict[Method, dict[str, Any]] = Field(
        {},
        description="settings of single methods, e.g. {mp3: {pretrain.drop_path: 0.1}}, which "
        "replace the recipe's",
    )
    published: dict[str, dict[int, float]] = Field(
        {}, description="kappas of the paper by method and size, where the task is the paper's"
    )

    dropped = ("unit",)  # persons or images per class: the store decides

    @field_validator("search")
    @classmethod
    def _searched(cls, values: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key in values:
            if not key.startswith("finetune."):
                raise ValueError(f"{key} cannot be searched; give keys such as finetune.lr")
        check_search(without_section(values), FinetuneSettings.model_fields)
        return values

    @field_validator("changes")
    @classmethod
    def _own(cls, values: dict[Method, dict[str, Any]]) -> dict[Method, dict[str, Any]]:
        for method, changes in values.items():
            for key in changes:
                section, _, rest = key.partition(".")
                shared = key in ("finetune.subjects", "finetune.context")
                if section not in ("encoder", "pretrain", "finetune") or not rest or shared:
                    raise ValueError(
                        f"{key} of {method} cannot be changed: all methods share persons and "
                        "windows; change keys under encoder, pretrain or finetune"
                    )
        return values

    @field_validator("methods", "sizes", "lengths")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        return list(dict.fromkeys(values))

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        own = {"pretrain.steps", "pretrain.epochs"}
        for method, changes in self.changes.items():
            if self.lengths and (both := own & changes.keys()):
                raise ValueError(
                    f"lengths and {min(both)} of {method} in changes both say how long it is "
                    "pretrained; leave one of them out"
                )
        if self.lengths and all(method.startswith("supervised") for method in self.methods):
            raise ValueError(
                "lengths compare pretrainings, and no method of the curve is pretrained; add one "
                "to methods or leave lengths out"
            )
        return self


class SweepSettings(Strict):
    """Values of keys that are tried in turn, all else equal."""

    over: dict[str, list[Any]] = Field(
        {}, description="dotted key of the recipe -> its values; several keys: every combination"
    )
    repeats: int = Field(
        3, ge=1, description="seeds; each draws subset, pretraining and fine-tuning anew"
    )


def known_device(name: str) -> str:
    """Return the name of a device; ValueError for another text."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    return name


class ComputeSettings(Strict):
    """The machine; what every auto chose stands in provenance.json."""

    device: Annotated[str, AfterValidator(known_device)] = Field(
        "auto", description="auto, cpu, cuda or cuda:N"
    )
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="devices of this machine that share a training, a process each: GPUs, or "
        "processes on the CPU; auto = all GPUs",
    )
    nodes: int = Field(1, ge=1, description="machines that share a training")
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="what each device has: ddp = all weights, fsdp = a share of weights, gradients "
        "and optimiser, for encoders that do not fit",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto measures both once and takes the faster"
    )
    resident: Literal["auto"] | bool = Field("auto", description="hold the cohort on the device")
    compile: bool = Field(False, description="torch.compile the encoder")
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="CPU threads; auto = all cores, at most OMP_NUM_THREADS"
    )
    loggers: list[Literal["tensorboard", "mlflow"]] = Field(
        [],
        description="where logged values go beside metrics.jsonl: tensorboard (the run's folder), "
        "mlflow (MLFLOW_TRACKING_URI)",
    )


class Recipe(Strict):
    """One experiment."""

    name: str = Field("experiment", pattern=r"^[\w.-]+$", description="name of the runs' folder")
    data: DataSettings = Field(DataSettings(), description="which windows")
    split: SplitSettings = Field(SplitSettings(), description="which persons")
    encoder: Encoder = Field(VitSettings(), description="the network")
    pretrain: PretrainSettings = Field(PretrainSettings(), description="pretraining")
    finetune: FinetuneSettings = Field(FinetuneSettings(), description="fine-tuning")
    detect: DetectionSettings = Field(
        DetectionSettings(), description="detection of objects in images"
    )
    segment: SegmentationSettings = Field(
        SegmentationSettings(), description="a class at every place"
    )
    curve: CurveSettings = Field(CurveSettings(), description="the sample-efficiency curve")
    sweep: SweepSettings = Field(SweepSettings(), description="an ablation")
    compute: ComputeSettings = Field(ComputeSettings(), description="the machine")
    seed: int = Field(
        0, ge=0, le=2**32 - 1, description="seed of weights, order, patches and subsets"
    )

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, encoder: Any) -> Any:
        """Let an encoder without a name be a vision transformer."""
        return {"name": "vit"} | encoder if isinstance(encoder, dict) else encoder

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        """Refuse a curve's search with a value that no fine-tuning could have."""
        if self.curve.search:
            values = self.finetune.model_dump(mode="json")
            values["search"] = without_section(self.curve.search)
            checked(FinetuneSettings, values, "curve.search")
        return self

    def to_yaml(self) -> str:
        """Return the recipe as resolved: every key of the sections that it uses.

        What is not used is left out: a section of a task, curve or sweep without a change.
        """
        values = self.model_dump(mode="json")
        for section in ("detect", "segment", "curve", "sweep"):
            if getattr(self, section) == type(getattr(self, section))():
                del values[section]
        return dump_yaml(values)


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Load a recipe by its path or by the name of a shipped one.

    Parameters
    ----------
    name : str or Path
        ``recipes/physionet_sleep.yaml`` or ``physionet_sleep``.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.

    Raises
    ------
    FileNotFoundError
        If there is no such recipe.
    ValueError
        If a key is unknown or a value has the wrong type.
    """
    path = find(name, "recipes")
    return resolve(read_yaml(path), changes, f"recipe {path.name}")


def as_recipe(recipe: Recipe | Path | str) -> Recipe:
    """Return a recipe given as itself, by its path or by the name of a shipped one."""
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def resolve(values: dict[str, Any], changes: Sequence[str], what: str) -> Recipe:
    """Apply ``a.b=value`` settings to a recipe's values and check them."""
    for change in changes:
        apply_change(values, change)
    return checked(Recipe, values, what)
