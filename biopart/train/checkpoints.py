"""Everything needed to resume, in one file."""

import torch
from torch import Tensor

from biopart.nn.weights import load_tensors, save_tensors
from biopart.run import Run
from biopart.train.averaging import Average


def save_checkpoint(
    run: Run | None, average: Average, optimiser: torch.optim.Optimizer, step: int
) -> None:
    """Write weights, their average, optimiser and step into one file, whole or not at all."""
    if run is None:
        return
    tensors = {f"objective.{k}": v for k, v in average.objective.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    save_tensors(run.checkpoint, tensors, {"step": step})


def restore(run: Run | None, average: Average, optimiser: torch.optim.Optimizer) -> int:
    """Load the checkpoint of a run, if there is one, and return its step."""
    if run is None or not run.checkpoint.is_file():
        return 0
    tensors, about = load_tensors(run.checkpoint)
    weights: dict[str, dict[str, Tensor]] = {"objective": {}, "average": {}}
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part in weights:
            weights[part][rest] = value
        else:
            number, _, key = rest.partition(".")
            states.setdefault(int(number), {})[key] = value
    average.objective.load_state_dict(weights["objective"])
    average.load(weights["average"])
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    return int(about["step"])
