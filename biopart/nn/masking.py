"""Random subsets of patches, one per grid."""

import torch
from torch import Tensor

from biopart.grid import rand
from biopart.nn.relative import take


def random_order(
    batch: int,
    count: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw an order of K patches for each grid by sorting uniform noise.

    The first k of it are a uniform subset of size k (facebookresearch/mae, ``random_masking``).

    Parameters
    ----------
    batch, count : int
        Grids B and patches K.
    generator : torch.Generator, optional
        Source of the noise, which is drawn on its device.
    device : torch.device or str, optional
        Device of the order; default: the generator's.

    Returns
    -------
    Tensor (B, K), int64

    Examples
    --------
    >>> random_order(2, 5, torch.Generator().manual_seed(0)).sort(1).values.tolist()
    [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    """
    source = device if generator is None else generator.device
    noise = rand(batch, count, generator=generator, device=source)
    return noise.argsort(1).to(source if device is None else device)


def choose(patches: Tensor, index: Tensor) -> Tensor:
    """Select patches (B, K, C, *P) by number (B, M) -> (B, M, C, *P).

    Examples
    --------
    >>> choose(torch.arange(3.0).reshape(1, 3, 1, 1), torch.tensor([[2, 0]])).flatten().tolist()
    [2.0, 0.0]
    """
    return take(patches.flatten(2), index).reshape(*index.shape, *patches.shape[2:])


def part_of(count: int, share: float) -> int:
    """Return a share of K patches, rounded down, at least 1.

    Examples
    --------
    >>> part_of(196, 0.25), part_of(49, 0.25), part_of(10, 1 - 0.9), part_of(3, 0.25)
    (49, 12, 1, 1)
    """
    return max(1, int(count * share + 1e-9))
