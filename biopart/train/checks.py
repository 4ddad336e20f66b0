"""Refusing missing samples and losses that are not finite, without a step that waits for a GPU."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from biopart.codes import MISSING
from biopart.data import Batch


@dataclass
class Begun:
    """What a step left to be looked at: flags on their way to the host, and whose they are."""

    flags: Tensor
    keys: list[str]
    loss: Tensor
    norm: Tensor
    copied: torch.cuda.Event | None = None


class Checks:
    """Look at the values, the loss and the gradient of every step.

    On a CPU before the weights change. On a GPU, which must not wait, one step later: the weights
    may have taken the step, but no checkpoint is written and no validation run before ``settle``.

    Raises
    ------
    ValueError
        From ``add`` or ``settle``: names the windows with missing samples, or the records of a
        batch whose loss or gradient is not finite. Of several processes all raise the same.

    Parameters
    ----------
    gather : callable, optional
        Returns what every process gives it; by default there is one.
    """

    def __init__(self, gather: Callable[[str], list[str]] = lambda text: [text]) -> None:
        self._begun: Begun | None = None
        self._gather = gather

    def add(self, missing: Tensor, loss: Tensor, norm: Tensor, keys: list[str]) -> None:
        """Look at a step (or the one before it, on a GPU), ``missing`` bool (B,) by window."""
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        flags = torch.cat([missing.to(finite.device), ~finite.reshape(1)])
        step = Begun(flags, keys, loss.detach(), norm)
        if flags.device.type == "cpu":
            self._refuse(step)
            return
        step.flags = flags.to("cpu", non_blocking=True)
        step.copied = torch.cuda.current_stream(flags.device).record_event()
        self.settle()
        self._begun = step

    def clean(self) -> bool:
        """Tell whether nothing is wrong with what is still to be looked at; raises nothing."""
        step = self._begun
        if step is None:
            return True
        if step.copied is not None:
            step.copied.synchronize()
        return not bool(step.flags.any())

    def settle(self) -> None:
        """Look at what is still to be looked at."""
        step, self._begun = self._begun, None
        if step is not None:
            if step.copied is not None:
                step.copied.synchronize()
            self._refuse(step)

    def _refuse(self, step: Begun) -> None:
        """Raise ValueError where the flags of a step say so, here or on another process."""
        if not bool(step.flags.any()):
            return
        # The gradient is shared, so that all processes come here in the same step.
        faults = self._gather(fault_of(step))
        raise ValueError(next(filter(None, faults), no_step(step)))


def missing_windows(batch: Batch) -> Tensor:
    """Tell which windows have missing samples, bool (B,); neighbouring windows may have some."""
    values = batch.values
    if values.dtype != torch.int16:
        return torch.zeros(len(values), dtype=torch.bool, device=values.device)
    if batch.context is not None:
        values = values[:, (values.shape[1] - 1) // 2]
    return (values == MISSING).flatten(1).any(1)


def fault_of(step: Begun) -> str:
    """Say what is wrong with the windows of this process; empty where another's are to blame."""
    missing = step.flags[:-1].nonzero().flatten().tolist()
    if missing:
        return (
            f"windows {', '.join(step.keys[index] for index in missing)} have missing samples "
            "(NaN); find them with: biopart check STORE"
        )
    return "" if bool(torch.isfinite(step.loss)) else no_step(step)


def no_step(step: Begun) -> str:
    """Say that a step cannot be made."""
    records = sorted({key.partition(":")[0] for key in step.keys})
    return (
        f"the loss is {step.loss.item()} and its gradient {step.norm.item()} on windows of "
        f"{', '.join(records)}; lower lr, or inspect these recordings with: biopart check STORE"
    )
