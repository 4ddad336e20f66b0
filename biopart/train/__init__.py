"""The training loop: pretraining, fine-tuning, detection and probes all run through ``fit``."""

from biopart.train.loggers import Logger, check_loggers, logging_to
from biopart.train.loop import fit
from biopart.train.measuring import measure, predict
from biopart.train.ranks import Ranks, check_processes, none_lost
from biopart.train.schedule import clip, learning_rate, parameter_groups
from biopart.train.stopping import Stop, Stopped
from biopart.train.training import Row, Training

__all__ = [
    "Logger",
    "Ranks",
    "Row",
    "Stop",
    "Stopped",
    "Training",
    "check_loggers",
    "check_processes",
    "clip",
    "fit",
    "learning_rate",
    "logging_to",
    "measure",
    "none_lost",
    "parameter_groups",
    "predict",
]
