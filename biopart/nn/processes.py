"""Sums and rows of all processes of a training, for statistics of a whole batch."""

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


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
    total: Tensor = all_reduce(values.contiguous())  # type: ignore[no-untyped-call]
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
