"""The settings of trainings: pace and optimiser, pretraining, fine-tuning, context."""

from collections.abc import Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from biopart.recipe.objectives import Objective, PartSettings
from biopart.recipe.protocol import Protocol
from biopart.recipe.views import AugmentSettings, ImageChanges
from biopart.recipe.words import Pool, Position
from biopart.settings import Strict, apply_change, checked, combinations, no_effect


class Schedule(Strict):
    """AdamW with a linear warm-up and a cosine, without what depends on the method."""

    epochs: int = Field(100, ge=1, description="passes over the windows")
    steps: int | None = Field(None, ge=1, description="steps instead of epochs")
    batch: int = Field(256, ge=1, description="windows per step")
    lr: float = Field(1e-3, gt=0, description="highest learning rate, as used")
    final_lr: float = Field(0.0, ge=0, description="learning rate at the end of the cosine")
    decay_at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [], description="shares of the training from which lr is a tenth, instead of the cosine"
    )
    warmup_epochs: float = Field(5.0, ge=0, description="epochs of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="not on biases, norms, positions, [CLS]")
    final_weight_decay: float | None = Field(
        None,
        ge=0,
        description="weight decay at the end of a cosine, which DINO raises from 0.04 to 0.4; null "
        "= it stays",
    )
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null = none")
    clip_each: bool = Field(
        False, description="clip every tensor by itself, as DropPos does at 5.0"
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights, which is kept"
    )
    repeats: int = Field(
        1, ge=1, description="times an image comes in an epoch of the same length, augmented anew"
    )
    accumulate: int = Field(
        1, ge=1, description="parts of a batch that a process computes one after the other"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.accumulate > self.batch:
            raise ValueError(
                f"accumulate {self.accumulate} is larger than batch {self.batch}; lower it"
            )
        return self

    @model_validator(mode="after")
    def _check_clip(self) -> Self:
        if self.clip is None and (unused := self.changed("clip_each")):
            raise ValueError(f"clip is null, so {no_effect(unused)}")
        return self

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if self.decay_at and self.changed("final_lr"):
            raise ValueError(
                "decay_at replaces the cosine, so final_lr has no effect; leave one of them out"
            )
        if self.final_lr > self.lr:
            raise ValueError(
                f"final_lr {self.final_lr:g} is larger than lr {self.lr:g}; lower final_lr or "
                "raise lr"
            )
        return self

    def optimisation(self, betas: tuple[float, float], layer_decay: float = 1.0) -> "Optimisation":
        """Return the settings of the loop, with those of the method."""
        shared = {key: getattr(self, key) for key in Schedule.model_fields}
        return Optimisation(**shared, betas=betas, layer_decay=layer_decay)


class Optimisation(Schedule):
    """AdamW with a linear warm-up and a cosine."""

    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="AdamW's decay of the mean gradient and of its square"
    )
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor of lr per layer from the top")


class PretrainSettings(Schedule):
    """Pretraining."""

    dropped = ("layer_decay",)

    objective: Objective = Field(PartSettings(), description="what is learnt")
    augment: ImageChanges = Field(
        ImageChanges(), description="crops, mirror images and RandAugment; images only"
    )
    validation_windows: int = Field(1024, ge=1, description="windows of held-out persons measured")
    probe_every: int | None = Field(
        None,
        ge=1,
        description="epochs between linear probes of the encoder, scored on validation persons, "
        "with the effective rank and the spread of its features; null = none",
    )
    probe_windows: int = Field(
        2048, ge=2, description="labelled windows that a probe is fitted on, and scored on, at most"
    )
    collapse_rank: float = Field(
        2.0,
        ge=0,
        description="effective rank of features below which a warning says that they have "
        "collapsed; of methods with a teacher, and of probes",
    )
    betas: tuple[float, float] | None = Field(
        None,
        description="AdamW's decay of the mean gradient and of its square; null = the method's: "
        "[0.9, 0.999] of part and mp3, [0.9, 0.95] of mae and droppos",
    )
    window_s: float | None = Field(
        None, gt=0, description="window of pretraining in seconds; null = data.window_s"
    )
    drop_path: float | None = Field(
        None, ge=0, lt=1, description="stochastic depth at the last block; null = encoder.drop_path"
    )

    @property
    def loop_settings(self) -> Optimisation:
        """The settings of the loop, with the method's betas where they are left open."""
        return self.optimisation(self.betas or self.objective.betas)


class ContextSettings(Optimisation):
    """The transformer over neighbouring windows, trained after the classifier of one window."""

    epochs: int = Field(20, ge=1, description="passes over the labelled windows")
    batch: int = Field(32, ge=1, description="sequences per step")
    lr: float = Field(5e-4, gt=0, description="highest learning rate, as used")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    frozen: bool = Field(True, description="train the transformer alone; false = the encoder too")
    depth: int = Field(2, ge=1, description="blocks of the transformer over windows")
    heads: int = Field(4, ge=1, description="attention heads of it")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the windows' embeddings")
    patience: int | None = Field(5, ge=1, description="validations without gain before stopping")


class FinetuneSettings(Schedule):
    """Fine-tuning and the supervised baseline.

    Keys that are null are what the authors of the pretraining's method chose
    (``biopart.recipe.protocol``); training from scratch takes DeiT's.
    """

    subjects: int = Field(10, ge=1, description="labelled persons, or images per class")
    context: int = Field(1, ge=1, description="windows that a decision looks at; 21 is usual")
    sequence: ContextSettings = Field(
        ContextSettings(), description="how neighbours are looked at where context is above 1"
    )
    betas: tuple[float, float] | None = Field(
        None,
        description="AdamW's decay of the mean gradient and of its square; null = [0.9, 0.999]",
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="factor of lr per layer from the top; null = 0.75 of mae and droppos, else 1; "
        "new positions always have the whole rate",
    )
    position: Position | None = Field(
        None,
        description="positions: learned, sincos, relative (a bias of the attention, starting at 0) "
        "or none; null = learned",
    )
    search: dict[str, list[Any]] = Field(
        {},
        description="values of keys of this section to try, every combination, e.g. {lr: [1e-3, "
        "3e-4]}; validation persons choose one, which alone is kept and scored",
    )
    weights: str | None = Field(
        None,
        description="start from these in place of the run's encoder: another run, a file in timm's "
        "names, or the name of a timm model",
    )
    keep_positions: bool | None = Field(
        None,
        description="start from the pretrained positions, of images interpolated; null = of mae "
        "and droppos",
    )
    pool: Pool | None = Field(
        None,
        description="classify [CLS] or the mean of the patch tokens; null = mean of mae and "
        "droppos, else cls",
    )
    head_std: float | None = Field(
        None,
        gt=0,
        description="deviation of the weights that the linear layer starts with; null = 2e-5 of "
        "mae and droppos, else 0.01",
    )
    augment: AugmentSettings = Field(
        AugmentSettings(),
        description="changes of images and labels; recordings take smoothing alone",
    )
    drop_path: float | None = Field(
        None, ge=0, lt=1, description="stochastic depth at the last block; null = encoder.drop_path"
    )
    class_weights: bool = Field(False, description="weigh classes by their inverse frequency")
    patience: int | None = Field(
        20,
        ge=1,
        description="validations without gain before stopping; null = none",
    )

    @field_validator("search")
    @classmethod
    def _searched(cls, values: dict[str, list[Any]]) -> dict[str, list[Any]]:
        check_search(values, cls.model_fields)
        return values

    @model_validator(mode="after")
    def _each_searched(self) -> Self:
        """Refuse a search with a value that no fine-tuning could have; ValueError."""
        if self.search:
            fixed = self.model_dump(mode="json", exclude={"search"})
            for chosen, changes in combinations(self.search):
                values = deepcopy(fixed)
                for change in changes:
                    apply_change(values, change)
                tried = ", ".join(f"{key} {value}" for key, value in chosen.items())
                checked(FinetuneSettings, values, f"search tries {tried}")
        return self

    def of_method(self, protocol: Protocol) -> "FineTuning":
        """Return the settings with those of a method where they are null."""
        values = {key: getattr(self, key) for key in type(self).model_fields}
        chosen = {k: v for k, v in asdict(protocol).items() if values[k] is None}
        if self.position == "none" and self.keep_positions is None:
            chosen["keep_positions"] = False
        return FineTuning.model_construct(**(values | chosen))


class FineTuning(FinetuneSettings):
    """Settings of a fine-tuning that are all decided."""

    betas: tuple[float, float]
    layer_decay: float
    position: Position
    keep_positions: bool
    pool: Pool
    head_std: float

    @property
    def loop_settings(self) -> Optimisation:
        """The settings of the loop."""
        return self.optimisation(self.betas, self.layer_decay)


def without_section(values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return ``finetune.lr`` and the like as keys of the section.

    Examples
    --------
    >>> without_section({"finetune.lr": [0.1]})
    {'lr': [0.1]}
    """
    return {key.removeprefix("finetune."): list(tried) for key, tried in values.items()}


def check_search(values: Mapping[str, Sequence[Any]], fields: Container[str]) -> None:
    """Refuse keys that a search over fine-tunings cannot try; ValueError."""
    for key, tried in values.items():
        section = key.partition(".")[0]
        if section not in fields or section in ("subjects", "context", "sequence", "search"):
            raise ValueError(
                f"{key} cannot be searched; give keys of finetune such as lr, but not subjects, "
                "context or sequence"
            )
        if len({str(value) for value in tried}) < len(tried):
            raise ValueError(f"{key} has a value twice; name each value to try once")
        if not tried:
            raise ValueError(f"{key} has no values to try; give a list such as [1e-3, 3e-4]")
