"""The processes of a training: which items each has, and what only the first does.

Gradients are averaged by torch's DistributedDataParallel, which Lightning Fabric launches. What is
ours: the batch of a recipe is shared among the processes, whatever their number, and a fault on
one of them stops all with one sentence.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from biopart.grid import BatchGenerator
from biopart.train.measuring import numbers

Value = TypeVar("Value")
_LOST = re.compile("gloo|nccl|connection (closed|reset)|broken pipe", re.IGNORECASE)


@dataclass(frozen=True)
class Share:
    """The items of a batch that a process has.

    Attributes
    ----------
    items : int64 (own,)
        Their numbers.
    first, total : int
        Place of the first of them in the batch, and items of the batch.
    weight : float
        By which the mean loss of the items is multiplied, so that its mean over processes is the
        mean loss of the batch.
    """

    items: NDArray[np.int64]
    first: int
    total: int
    weight: float


def share(items: NDArray[np.int64], rank: int, processes: int) -> Share:
    """Divide a batch among processes, as evenly as it goes.

    A process for which no item is left gets the first one with weight 0.

    Examples
    --------
    >>> [share(np.arange(10, 15), rank, 2).items.tolist() for rank in (0, 1)]
    [[10, 11], [12, 13, 14]]
    """
    bounds = [round(len(items) * part / processes) for part in (rank, rank + 1)]
    own = items[bounds[0] : bounds[1]]
    if not len(own):
        return Share(items[:1], 0, len(items), 0.0)
    return Share(own, bounds[0], len(items), processes * len(own) / len(items))


class Ranks:
    """The processes of a training, as one of them sees them.

    Parameters
    ----------
    fabric : Fabric
        Launched, if there are several.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.count, self.rank = fabric.world_size, fabric.global_rank
        self.first = self.rank == 0

    def share(self, items: NDArray[np.int64]) -> Share:
        """Return this process's items of a batch."""
        return share(items, self.rank, self.count)

    def place(self, generator: BatchGenerator, part: Share) -> None:
        """Let a generator draw for the whole batch, if others have items of it."""
        if self.count > 1:
            generator.first, generator.total = part.first, part.total

    def loss(self, loss: Tensor, part: Share, missing: Tensor) -> Tensor:
        """Weigh a loss; with missing samples its gradient is NaN, which reaches all processes.

        Parameters
        ----------
        loss : Tensor, 0-d
            Mean over the items of this process.
        part : Share
            These items.
        missing : Tensor (B,), bool
            Windows with missing samples.
        """
        if self.count == 1:
            return loss
        faulty = missing.any().to(loss.device, non_blocking=True)
        return loss * torch.where(faulty, math.nan, part.weight)

    def mean(self, values: Mapping[str, Tensor], weight: float) -> dict[str, float]:
        """Read 0-d tensors by name, averaged over the processes, in one copy from their device.

        The weight is that of this process's share of the batch.
        """
        if self.count == 1:
            return numbers(values)
        own = weight * torch.stack([value.detach().double() for value in values.values()])
        mean = self.fabric.all_reduce(own, reduce_op="mean")
        return dict(zip(values, mean.tolist(), strict=True))

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """Let the first process compute a value that all get, or raise what all raise."""
        if self.count == 1:
            return compute()
        result: tuple[Any, Exception | None] = (None, None)
        if self.first:
            try:
                result = (compute(), None)
            except (ValueError, OSError, RuntimeError) as error:
                result = (None, error)
        value, fault = self.fabric.broadcast(result)
        if fault is not None:
            raise fault
        found: Value = value
        return found

    def any(self, flag: bool) -> bool:
        """Tell whether the flag of any process is set."""
        if self.count == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum"))

    def gather(self, value: Value) -> list[Value]:
        """Return the value of every process, in order."""
        if self.count == 1:
            return [value]
        values: list[Value] = [value] * self.count
        torch.distributed.all_gather_object(values, value)
        return values


@contextmanager
def none_lost(ranks: Ranks, remedy: str) -> Iterator[None]:
    """Turn the end of another process into a ValueError with a remedy.

    Of gloo and NCCL it is a RuntimeError about a connection.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.count == 1 or not _LOST.search(str(error)):
            raise
        raise ValueError(
            f"another of the {ranks.count} processes of this training has stopped; {remedy}"
        ) from error


def agree(ranks: Ranks, what: Mapping[str, str]) -> None:
    """Refuse processes that differ in something, such as their recipe; ValueError names it."""
    for number, other in enumerate(ranks.gather(dict(what))):
        differing = [name for name, value in what.items() if other.get(name) != value]
        if differing:
            raise ValueError(
                f"process {number} has another {' and '.join(differing)} than process "
                f"{ranks.rank}; start all processes with the same"
            )
