"""Everything needed to resume, in one file."""

import torch
from torch import Tensor

from biopart.nn.shards import complete
from biopart.nn.weights import load_tensors, save_tensors
from biopart.run import Run
from biopart.train.live import Live


def save_checkpoint(
    run: Run | None, live: Live, optimiser: torch.optim.Optimizer, step: int
) -> None:
    """Write weights, their average, optimiser and step into one file, whole or not at all.

    Weights in shards are gathered, which all processes must take part in; one has a run to write.
    """
    if run is None and not live.in_shards:
        return
    tensors = live.state()
    for number, state in optimiser.state_dict()["state"].items():
        whole = complete(state)
        tensors |= {f"optimiser.{number}.{name}": value for name, value in whole.items()}
    if run is not None:
        save_tensors(run.checkpoint, tensors, {"step": step})


def restore(run: Run | None, live: Live, optimiser: torch.optim.Optimizer) -> int:
    """Load the checkpoint of a run, if there is one, and return its step."""
    if run is None or not run.checkpoint.is_file():
        return 0
    tensors, about = load_tensors(run.checkpoint)
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "optimiser":
            number, _, key = rest.partition(".")
            states.setdefault(int(number), {})[key] = value
    live.load(tensors)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": live.divide(states, optimiser), "param_groups": groups})
    return int(about["step"])
