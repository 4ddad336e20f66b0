"""Self-supervised pretraining on biosignals and images by relative translations."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biopart import objectives
    from biopart.data import open_cohort
    from biopart.estimators import Embedder, SleepStager
    from biopart.nn.model import Model, load
    from biopart.recipe import load_recipe
    from biopart.signals.hypnogram import to_annotations, to_yasa
    from biopart.studies.compare.study import compare
    from biopart.verbs.evaluate import evaluate
    from biopart.verbs.finetune import finetune
    from biopart.verbs.pretrain import pretrain
    from biopart.verbs.stage import stage_night

__version__ = "0.1.0"
__all__ = [
    "Embedder",
    "Model",
    "SleepStager",
    "__version__",
    "compare",
    "evaluate",
    "finetune",
    "load",
    "load_recipe",
    "objectives",
    "open_cohort",
    "pretrain",
    "stage_night",
    "to_annotations",
    "to_yasa",
]

_HOMES = {
    "Embedder": "biopart.estimators",
    "Model": "biopart.nn.model",
    "SleepStager": "biopart.estimators",
    "compare": "biopart.studies.compare.study",
    "evaluate": "biopart.verbs.evaluate",
    "finetune": "biopart.verbs.finetune",
    "load": "biopart.nn.model",
    "load_recipe": "biopart.recipe",
    "open_cohort": "biopart.data",
    "pretrain": "biopart.verbs.pretrain",
    "stage_night": "biopart.verbs.stage",
    "to_annotations": "biopart.signals.hypnogram",
    "to_yasa": "biopart.signals.hypnogram",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "objectives":
        return import_module("biopart.objectives")
    if name not in _HOMES:
        raise AttributeError(f"module 'biopart' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
