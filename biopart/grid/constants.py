"""Small tensors that never change, made once per device: a new one would make the device wait."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


@cache
def _made(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


def constant(values: Sequence[float], device: torch.device | str) -> Tensor:
    """Return numbers as a tensor (n,) on a device; it is shared, so it must not be written to.

    Examples
    --------
    >>> constant((3000, 8), "cpu").tolist()
    [3000, 8]
    """
    return _made(tuple(values), torch.device(device))


def on_axes(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Select axes of coordinates (..., N) -> (..., axes); all of them are returned as they are.

    Examples
    --------
    >>> on_axes(torch.tensor([[1, 2, 3]]), [0, 2]).tolist()
    [[1, 3]]
    """
    if list(axes) == list(range(values.shape[-1])):
        return values
    return torch.stack([values[..., axis] for axis in axes], dim=-1)
