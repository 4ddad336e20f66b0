"""The training loop: pretraining, fine-tuning, detection and probes all run through ``fit``."""

from biopart.train.loop import fit
from biopart.train.measuring import measure, predict
from biopart.train.schedule import clip, learning_rate, parameter_groups
from biopart.train.training import Row, Training

__all__ = [
    "Row",
    "Training",
    "clip",
    "fit",
    "learning_rate",
    "measure",
    "parameter_groups",
    "predict",
]
