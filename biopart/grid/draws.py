"""Random draws for the items of a batch, alike however many processes share the batch."""

import torch
from torch import Tensor


class BatchGenerator(torch.Generator):
    """A generator for a process that has some of the items of a batch.

    All processes seed it alike; each draws for the whole batch and keeps the rows of its own items,
    so that an item gets the same numbers whether one process trains on the batch or several.

    Attributes
    ----------
    first, total : int
        Number of this process's first item in the batch, and of all items; without a total the
        items of this process are the batch.
    """

    first: int = 0
    total: int | None = None


def rand(
    *shape: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw uniform numbers in [0, 1) for the items of a batch (items, ...).

    Parameters
    ----------
    shape : int
        Items of this process first.
    generator : torch.Generator, optional
        Source of randomness; a ``BatchGenerator`` draws for the whole batch.
    device, dtype : optional
        Device without a generator, which draws on its own; type of the numbers.

    Examples
    --------
    >>> whole, second = torch.Generator().manual_seed(0), BatchGenerator().manual_seed(0)
    >>> second.first, second.total = 1, 2
    >>> bool((rand(2, 3, generator=whole)[1:] == rand(1, 3, generator=second)).all())
    True
    """
    device = device if generator is None else generator.device
    if not isinstance(generator, BatchGenerator) or generator.total is None:
        return torch.rand(shape, generator=generator, device=device, dtype=dtype)
    count, *rest = shape
    whole = torch.rand((generator.total, *rest), generator=generator, device=device, dtype=dtype)
    return whole[generator.first : generator.first + count]


def randint(
    low: int,
    high: int,
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw whole numbers from low to below high for the items of a batch, as ``rand`` does.

    Examples
    --------
    >>> whole, second = torch.Generator().manual_seed(0), BatchGenerator().manual_seed(0)
    >>> second.first, second.total = 1, 2
    >>> bool((randint(0, 9, (2, 3), whole)[1:] == randint(0, 9, (1, 3), second)).all())
    True
    """
    device = None if generator is None else generator.device
    if not isinstance(generator, BatchGenerator) or generator.total is None:
        return torch.randint(low, high, shape, generator=generator, device=device)
    count, *rest = shape
    whole = torch.randint(low, high, (generator.total, *rest), generator=generator, device=device)
    return whole[generator.first : generator.first + count]
