"""The moving average of an objective's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from timm.utils import ModelEmaV3
from torch import Tensor, nn


class Average:
    """Exponential moving average of an objective's weights by timm, or none.

    Parameters
    ----------
    objective : nn.Module
        What is trained, on its device.
    decay : float, optional
        Share of the average that a step keeps, lower at the beginning
        (1 - steps^(-2/3), so that a short training averages over its own length); None = none.
    """

    def __init__(self, objective: nn.Module, decay: float | None) -> None:
        self.objective = objective
        self._ema = None if decay is None else ModelEmaV3(objective, decay, use_warmup=True)

    def after_step(self, step: int) -> None:
        """Take up the weights after so many steps."""
        if self._ema is not None:
            self._ema.update(self.objective, step)

    def state(self) -> dict[str, Tensor]:
        """Return the averaged weights; nothing where there is no average."""
        return {} if self._ema is None else dict(self._ema.module.state_dict())

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up averaged weights."""
        if self._ema is not None:
            self._ema.module.load_state_dict(dict(state))

    def settle(self) -> None:
        """Give the objective the averaged weights for good."""
        if self._ema is not None:
            self.objective.load_state_dict(self.state())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give the objective the averaged weights while something looks at it."""
        if self._ema is None:
            yield
            return
        own = {name: value.clone() for name, value in self.objective.state_dict().items()}
        self.settle()
        try:
            yield
        finally:
            self.objective.load_state_dict(own)
