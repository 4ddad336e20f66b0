"""The processes of a training: which items each has, and what only the first does.

Gradients are averaged by torch's DistributedDataParallel, which Lightning Fabric launches. What is
ours: the batch of a recipe is shared among the processes, whatever their number, and a fault on
one of them stops all with one sentence.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from biopart.grid import BatchGenerator
from biopart.recipe import Recipe
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
        By which the mean loss of the items is multiplied, so that the sum over the parts of a
        process, averaged over processes, is the mean loss of the batch.
    """

    items: NDArray[np.int64]
    first: int
    total: int
    weight: float


def shares(items: NDArray[np.int64], rank: int, processes: int, accumulate: int = 1) -> list[Share]:
    """Divide a batch among processes and their parts, as evenly as it goes; return a process's.

    A part for which no item is left gets the first one with weight 0.

    Examples
    --------
    >>> [part.items.tolist() for part in shares(np.arange(10, 15), 0, 2)]
    [[10, 11]]
    >>> [part.items.tolist() for part in shares(np.arange(10, 15), 1, 2, accumulate=2)]
    [[12, 13], [14]]
    """
    parts, total = [], len(items)
    for part in range(rank * accumulate, (rank + 1) * accumulate):
        first, last = (round(total * at / (processes * accumulate)) for at in (part, part + 1))
        if first < last:
            weight = processes * (last - first) / total
            parts.append(Share(items[first:last], first, total, weight))
        else:
            parts.append(Share(items[:1], 0, total, 0.0))
    return parts


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

    def shares(self, items: NDArray[np.int64], accumulate: int) -> list[Share]:
        """Return this process's items of a batch, in so many parts."""
        return shares(items, self.rank, self.count, accumulate)

    def place(self, generator: BatchGenerator, part: Share) -> None:
        """Let a generator draw for the whole batch, of which a part may be elsewhere."""
        whole = len(part.items) == part.total
        generator.first, generator.total = part.first, None if whole else part.total

    def loss(self, loss: Tensor, weight: Tensor | float, missing: Tensor) -> Tensor:
        """Weigh a loss; with missing samples its gradient is NaN, which reaches all processes.

        Parameters
        ----------
        loss : Tensor, 0-d
            Mean over a part of the items of this process.
        weight : Tensor, 0-d, or float
            Of the part.
        missing : Tensor (B,), bool
            Windows with missing samples.
        """
        if self.count == 1:
            return loss if isinstance(weight, float) and weight == 1 else loss * weight
        faulty = missing.any().to(loss.device, non_blocking=True)
        return loss * torch.where(faulty, math.nan, weight)

    def scale(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the factor that makes sums by these weights the mean over all processes."""
        total = torch.stack(list(weights)).double().sum()
        if self.count > 1:
            total = self.fabric.all_reduce(total, reduce_op="sum")
        scale: Tensor = self.count / total
        return scale

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Read 0-d tensors by name, averaged over the processes, in one copy from their device."""
        if self.count == 1:
            return numbers(values)
        own = torch.stack([value.detach().double() for value in values.values()])
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

    def enter(
        self, stack: ExitStack, context: Callable[[], AbstractContextManager[Value]]
    ) -> Value | None:
        """Enter a context in the first process, and raise in all what it raises there."""
        entered: list[Value] = []

        def enter_it() -> None:
            entered.append(stack.enter_context(context()))

        self.from_first(enter_it)
        return entered[0] if entered else None

    @contextmanager
    def temporary(self, parent: Path | None = None, prefix: str = "") -> Iterator[Path]:
        """Make a temporary folder, one for all processes, for as long as the context lasts."""
        with ExitStack() as stack:

            def made() -> str:
                return stack.enter_context(TemporaryDirectory(dir=parent, prefix=prefix))

            yield Path(self.from_first(made))
            self.fabric.barrier()  # no process needs it any more

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
                f"process {number} has a different {' and '.join(differing)} from process "
                f"{ranks.rank}; use the same for all"
            )


def check_processes(fabric: Fabric, recipe: Recipe, key: str, data: str) -> None:
    """Refuse processes that cannot share a training.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    recipe : Recipe
        Of this process.
    key : str
        Of its batch, such as ``pretrain.batch``.
    data : str
        A mark of the data that this process opened.

    Raises
    ------
    ValueError
        If the processes differ, or the batch does not divide among them; names the nearest.
    """
    ranks = Ranks(fabric)
    agree(
        ranks,
        {
            "version of biopart": version("biopart"),
            "recipe": recipe.to_yaml(),
            "store": data,
            "precision": str(fabric._precision.precision),
        },
    )
    settings: Any = recipe
    for part in key.split("."):
        settings = getattr(settings, part)
    batch = int(settings)
    if batch % ranks.count:
        below = batch // ranks.count * ranks.count
        near = [str(size) for size in (below, below + ranks.count) if size]
        raise ValueError(
            f"a batch of {batch} does not divide among {ranks.count} processes; set {key} "
            f"to {' or '.join(near)}"
        )
