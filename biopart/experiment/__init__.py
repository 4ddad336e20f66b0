"""A recipe with its data opened: persons divided, encoder started, who was seen."""

from biopart.experiment.experiment import Experiment, open_experiment
from biopart.experiment.plan import Plan
from biopart.experiment.stored import build_objective, load_objective, load_part, stored_recipe
from biopart.experiment.weights import Weights, read_weights, start_encoder

__all__ = [
    "Experiment",
    "Plan",
    "Weights",
    "build_objective",
    "load_objective",
    "load_part",
    "open_experiment",
    "read_weights",
    "start_encoder",
    "stored_recipe",
]
