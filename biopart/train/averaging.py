"""The moving average of an objective's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


class Average:
    """Exponential moving average of an objective's weights by timm, or none.

    Parameters
    ----------
    objective : nn.Module
        The trained module, on its device.
    decay : float, optional
        Share of the average that a step keeps, lower at the start (1 - steps^(-2/3), so that a
        short training averages over its own length); None = no average.
    """

    def __init__(self, objective: nn.Module, decay: float | None) -> None:
        self.objective = objective
        self._ema = None
        if decay is not None:
            from timm.utils import ModelEmaV3  # here, since few trainings need it

            self._ema = ModelEmaV3(objective, decay, use_warmup=True)

    def after_step(self, step: int) -> None:
        """Update the average after a number of steps."""
        if self._ema is not None:
            self._ema.update(self.objective, step)

    def state(self) -> dict[str, Tensor]:
        """Return the averaged weights; empty without an average."""
        return {} if self._ema is None else dict(self._ema.module.state_dict())

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load averaged weights."""
        if self._ema is not None:
            self._ema.module.load_state_dict(dict(state))

    def settle(self) -> None:
        """Replace the objective's weights by the averaged ones permanently."""
        if self._ema is not None:
            self.objective.load_state_dict(self.state())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Use the averaged weights while the context is open."""
        if self._ema is None:
            yield
            return
        own = {name: value.clone() for name, value in self.objective.state_dict().items()}
        self.settle()
        try:
            yield
        finally:
            self.objective.load_state_dict(own)
