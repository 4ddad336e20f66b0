"""Pairs of patches: which of the K * K relations of a grid are asked for."""

from functools import partial

import torch
from torch import Tensor

from biopart.grid.boxes import Boxes
from biopart.grid.draws import rand, randint

_FAR = 1e-6  # weight of a pair that is too far, so that a grid without near pairs still has some


def draw_pairs(
    batch: int,
    count: int,
    pairs: int | None,
    generator: torch.Generator | None = None,
    *,
    replacement: bool = True,
    self_pairs: bool = False,
    shared: bool = False,
) -> Tensor:
    """Draw index pairs of patches, uniform over all of them.

    Parameters
    ----------
    batch, count : int
        Grids B and patches K of each.
    pairs : int, optional
        Pairs M of each grid; None = all of them, without a draw.
    generator : torch.Generator, optional
        Source of randomness; the pairs are on its device.
    replacement : bool
        Whether a pair may be drawn twice.
    self_pairs : bool
        Whether a patch may be paired with itself (PART's released code has such pairs; the paper
        does not say).
    shared : bool
        Whether all grids of the batch have the same pairs, as in PART's released code.

    Returns
    -------
    Tensor (B, M, 2), int64
        Reference and target.

    Raises
    ------
    ValueError
        If more pairs are to be drawn without replacement than there are.

    Examples
    --------
    >>> pairs = draw_pairs(3, 4, 50, torch.Generator().manual_seed(0))
    >>> pairs.shape, bool((pairs[..., 0] == pairs[..., 1]).any())
    (torch.Size([3, 50, 2]), False)
    >>> draw_pairs(1, 2, None, self_pairs=True).tolist()
    [[[0, 0], [0, 1], [1, 1], [1, 0]]]
    """
    device = generator.device if generator is not None else None
    draws = 1 if shared or pairs is None else batch
    steps = count if self_pairs else count - 1  # targets of a reference
    first = 0 if self_pairs else 1
    if pairs is None:
        index = torch.arange(count * steps, device=device)[None]
        reference, step = index // steps, index % steps + first
    elif replacement:
        draw = partial(torch.randint, device=device) if shared else randint
        reference = draw(0, count, (draws, pairs), generator=generator)
        step = draw(first, count, (draws, pairs), generator=generator)
    else:
        check_pairs(count, pairs, self_pairs=self_pairs)
        uniform = partial(torch.rand, device=device) if shared else rand
        noise = uniform(draws, count * steps, generator=generator)
        index = noise.argsort(1)[:, :pairs]
        reference, step = index // steps, index % steps + first
    return torch.stack([reference, (reference + step) % count], dim=-1).expand(batch, -1, -1)


def draw_near_pairs(
    boxes: Boxes,
    size: Tensor,
    *,
    near: float,
    pairs: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw index pairs of two different patches whose centres are close to each other.

    Uniform over the pairs whose centres lie at most ``near`` patch sizes apart on every axis, with
    replacement; in a grid that has no such pair, uniform over all.

    Parameters
    ----------
    boxes : Boxes (B, K, N)
        The patches.
    size : Tensor (N,)
        Patch size P in samples.
    near : float
        Largest distance of two centres, in patch sizes.
    pairs : int
        Pairs M of each grid.
    generator : torch.Generator, optional
        Source of randomness, on whose device the draw is made.

    Returns
    -------
    Tensor (B, M, 2), int64
        Reference and target, on the device of the boxes.
    """
    centre = boxes.centre
    distance = ((centre[:, :, None] - centre[:, None]) / size).abs().amax(-1)
    weight = torch.where(distance <= near, 1.0, _FAR)
    weight.diagonal(dim1=1, dim2=2).zero_()
    if generator is not None:
        weight = weight.to(generator.device)
    count = weight.shape[1]
    rising = weight.flatten(1).double().cumsum(1)
    drawn = rand(len(weight), pairs, generator=generator, device=weight.device, dtype=torch.float64)
    index = torch.searchsorted(rising, drawn * rising[:, -1:], right=True)
    # Rounding may put a draw behind the last pair; pairs of a patch with itself have no weight.
    index = index.clamp(max=weight[0].numel() - 2)
    return torch.stack([index // count, index % count], dim=-1).to(centre.device)


def check_pairs(count: int, pairs: int, *, self_pairs: bool) -> None:
    """Raise ValueError where K patches have fewer pairs than are to be drawn without replacement.

    Examples
    --------
    >>> check_pairs(3, 6, self_pairs=False)
    """
    most = count * (count if self_pairs else count - 1)
    if pairs > most:
        raise ValueError(
            f"{count} patches have {most} pairs, fewer than {pairs}; lower pairs, or draw them "
            "with replacement"
        )


def pick(boxes: Boxes, index: Tensor) -> Boxes:
    """Select boxes (B, K, N) by index (B, M) -> (B, M, N)."""
    every = index[..., None].expand(-1, -1, boxes.start.shape[-1])
    return Boxes(boxes.start.gather(1, every), boxes.size.gather(1, every))


def overlap(reference: Boxes, target: Boxes) -> Tensor:
    """Tell which pairs of boxes share a sample, (..., N) -> bool (...)."""
    first = torch.maximum(reference.start, target.start)
    last = torch.minimum(reference.start + reference.size, target.start + target.size)
    return (first < last).all(-1)
