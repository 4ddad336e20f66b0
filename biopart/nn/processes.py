"""Sums and rows of all processes of a training, for statistics of a whole batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_COUNTED = ContextVar("counted", default=True)


@contextmanager
def counting(items: bool) -> Iterator[None]:
    """Let statistics of the batch take in the items of this process, or leave them out.

    A process for which no item is left computes one that another has, so that all take part.
    """
    token = _COUNTED.set(items)
    try:
        yield
    finally:
        _COUNTED.reset(token)


def counts() -> bool:
    """Tell whether the items of this process count."""
    return _COUNTED.get()


def several() -> bool:
    """Tell whether other processes have a part of the batch."""
    distributed = torch.distributed
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def summed(values: Tensor) -> Tensor:
    """Add up a tensor over all processes; gradients reach the values of each."""
    if not several():
        return values
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """Sum over processes; the gradient of a value is the sum of the gradients of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Add up."""
        total = values.detach().clone().contiguous()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Add up the gradients."""
        total = gradients[0].clone().contiguous()
        torch.distributed.all_reduce(total)
        return total


@torch.no_grad()
def gathered(rows: Tensor) -> Tensor:
    """Return the rows (n, D) of all processes in their order; n may differ between them."""
    if not several():
        return rows
    world = torch.distributed.get_world_size()
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(own) for _ in range(world)]
    torch.distributed.all_gather(counts, own)
    most = max(int(count) for count in counts)
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
