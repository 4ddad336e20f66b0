"""A recipe: the whole schema of an experiment in one strict YAML file; never imports torch."""

from biopart.recipe.objectives import (
    ClassifySettings,
    DetectSettings,
    DropPosSettings,
    MaeSettings,
    Mp3Settings,
    Objective,
    PartSettings,
    SequenceSettings,
)
from biopart.recipe.protocol import MASKED, SUPERVISED, Protocol
from biopart.recipe.schema import (
    ComputeSettings,
    CurveSettings,
    DataSettings,
    DetectionSettings,
    EncoderSettings,
    Recipe,
    ScenesSettings,
    SplitSettings,
    SweepSettings,
    as_recipe,
    load_recipe,
    resolve,
)
from biopart.recipe.training import (
    ContextSettings,
    FinetuneSettings,
    FineTuning,
    Optimisation,
    PretrainSettings,
)
from biopart.recipe.views import AugmentSettings, ViewSettings
from biopart.recipe.words import Head, Method, Normalisation, Pool, Position

__all__ = [
    "MASKED",
    "SUPERVISED",
    "AugmentSettings",
    "ClassifySettings",
    "ComputeSettings",
    "ContextSettings",
    "CurveSettings",
    "DataSettings",
    "DetectSettings",
    "DetectionSettings",
    "DropPosSettings",
    "EncoderSettings",
    "FineTuning",
    "FinetuneSettings",
    "Head",
    "MaeSettings",
    "Method",
    "Mp3Settings",
    "Normalisation",
    "Objective",
    "Optimisation",
    "PartSettings",
    "Pool",
    "Position",
    "PretrainSettings",
    "Protocol",
    "Recipe",
    "ScenesSettings",
    "SequenceSettings",
    "SplitSettings",
    "SweepSettings",
    "ViewSettings",
    "as_recipe",
    "load_recipe",
    "resolve",
]
