"""The weights that take the steps: whole or in shards, with their moving average."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn

from biopart.nn.shards import complete, divided, shard


class Live:
    """The weights that take the steps, and their exponential moving average, if there is one.

    With one device, or a copy of the weights on each (DDP), they are the objective's own. In shards
    (FSDP) they are a copy of it, which ``settle`` and ``shown`` bring back; everything else, such
    as validation, deals with the whole objective alone.

    Attributes
    ----------
    objective : nn.Module
        Whole, on its device.
    module : nn.Module
        What takes the steps.
    model : nn.Module
        What computes them: the module as Fabric wraps it.
    in_shards : bool
        Whether the module's weights are divided among the processes. Then ``state``, ``shown`` and
        ``settle`` must be called by all of them.

    Parameters
    ----------
    objective : nn.Module
        The trained module, on its device.
    decay : float, optional
        Share of the average that a step keeps, lower at the start (1 - steps^(-2/3), so that a
        short training averages over its own length; timm's ModelEmaV3); None = no average.
    fabric : Fabric, optional
        Devices, precision and processes; None = the module is called as it is.
    """

    def __init__(
        self, objective: nn.Module, decay: float | None, fabric: Fabric | None = None
    ) -> None:
        self.objective = self.module = self.model = objective
        self._ema = None
        if decay is not None:
            from timm.utils import ModelEmaV3  # here, since few trainings need it

            self._ema = ModelEmaV3(objective, decay, use_warmup=True)
        strategy = None if fabric is None else fabric.strategy
        self.in_shards = isinstance(strategy, ModelParallelStrategy)
        if isinstance(strategy, ModelParallelStrategy):
            self.module = copy.deepcopy(objective)
            if self._ema is not None:
                shard(self._ema.module, strategy.device_mesh["data_parallel"])
        if fabric is not None:
            self.model = fabric.setup_module(self.module)

    def after_step(self, step: int) -> None:
        """Update the average after a number of steps."""
        if self._ema is not None:
            self._ema.update(self.module, step)

    def state(self) -> dict[str, Tensor]:
        """Return the complete weights as ``objective.NAME``, their average as ``average.NAME``."""
        state = {f"objective.{k}": v for k, v in complete(self.module.state_dict()).items()}
        if self._ema is not None:
            averaged = complete(self._ema.module.state_dict())
            state |= {f"average.{name}": value for name, value in averaged.items()}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load what ``state`` returned."""
        places = {"objective.": self.module}
        if self._ema is not None:
            places["average."] = self._ema.module
        for start, module in places.items():
            own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            module.load_state_dict(divided(own, module.state_dict()))

    def settle(self) -> None:
        """Let the objective have the weights to be judged and saved: averaged and whole."""
        if self.in_shards or self._ema is not None:
            judged = self.module if self._ema is None else self._ema.module
            self.objective.load_state_dict(complete(judged.state_dict()))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the objective have the weights to be judged while the context is open."""
        if self.in_shards or self._ema is None:
            self.settle()
            yield
            return
        own = {name: value.clone() for name, value in self.objective.state_dict().items()}
        self.settle()
        try:
            yield
        finally:
            self.objective.load_state_dict(own)

    def divide(
        self, states: Mapping[int, Mapping[str, Tensor]], optimiser: torch.optim.Optimizer
    ) -> dict[int, dict[str, Tensor]]:
        """Return states of an optimiser by parameter, complete before, as its parameters are."""
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        return {
            number: divided(state, dict.fromkeys(state, parameters[number]))
            for number, state in states.items()
        }
