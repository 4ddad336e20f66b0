"""Relative positions of parts of a grid, and positions from relations."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from biopart.grid.boxes import Boxes, check_fit


def translation(reference: Boxes, target: Boxes) -> Tensor:
    """Return the translation from reference to target, in sizes of the reference.

    ``(c_t - c_r) / s_r`` per axis, float32 (..., N); PART's target (arXiv 2506.03682). Positive
    means that the target comes later on the axis.

    Examples
    --------
    >>> reference = Boxes(torch.tensor([0]), torch.tensor([10]))
    >>> translation(reference, Boxes(torch.tensor([25]), torch.tensor([10]))).tolist()
    [2.5]
    """
    return ((target.centre - reference.centre) / reference.size).float()


def log_scale(reference: Boxes, target: Boxes) -> Tensor:
    """Return the relative size of the target: ``log(s_t / s_r)`` per axis, float32 (..., N).

    The paper gives relative sizes without a formula; the logarithm is our choice.

    Examples
    --------
    >>> reference = Boxes(torch.tensor([0]), torch.tensor([10]))
    >>> round(log_scale(reference, Boxes(torch.tensor([0]), torch.tensor([20]))).item(), 4)
    0.6931
    """
    return torch.log(target.size / reference.size).float()


def chance_mse(shape: Sequence[int], size: Sequence[int], *, on_grid: bool = False) -> Tensor:
    """Return the mean squared error of predicting 0 for every translation.

    Off the grid both starts are uniform over S - P + 1 positions, so their difference has variance
    ((S - P + 1)^2 - 1) / 6. On the grid a pair is two different patches of the tiling.

    Parameters
    ----------
    shape, size : sequence of int
        Extents S and patch size P in samples, one per axis.
    on_grid : bool
        Patches from the tiling instead of any position.

    Returns
    -------
    Tensor (N,), float32
        Per axis, in squared patch sizes.

    Examples
    --------
    >>> chance_mse((224, 224), (16, 16)).tolist()
    [28.4375, 28.4375]
    """
    check_fit(shape, size)
    extent = torch.tensor(tuple(shape), dtype=torch.float64)
    side = torch.tensor(tuple(size), dtype=torch.float64)
    if not on_grid:
        off_grid: Tensor = ((extent - side + 1).square() - 1) / (6 * side.square())
        return off_grid.float()
    per_axis = torch.div(extent, side, rounding_mode="floor")
    count = prod(per_axis.tolist())
    # Over all ordered pairs the variance of an axis is (G^2 - 1) / 6; the K pairs of a patch
    # with itself add nothing to it and are excluded from the pairs.
    tiled: Tensor = (per_axis.square() - 1) / 6 * count / max(count - 1, 1)
    return tiled.float()


def place(relations: Tensor, reference: int | None = None, size: Tensor | None = None) -> Tensor:
    """Return positions of patches from their pairwise translations.

    Parameters
    ----------
    relations : Tensor (B, K, K, N)
        ``relations[b, r, t]`` = translation(r, t); the diagonal is not read.
    reference : int, optional
        Position of every patch relative to this one, which is at 0. Otherwise the positions whose
        translations agree best with all pairs (least squares), with mean 0.
    size : Tensor (B, K, N), optional
        Sizes of the boxes if they differ; the result is in their unit.

    Returns
    -------
    Tensor (B, K, N)
        Positions of the centres, in patch sizes, or in the unit of ``size``.

    Raises
    ------
    ValueError
        If ``relations`` is not (B, K, K, N).

    Examples
    --------
    >>> place(torch.tensor([[[[0.0], [2.0]], [[-2.0], [0.0]]]])).tolist()
    [[[-1.0], [1.0]]]
    """
    if relations.dim() != 4 or relations.shape[1] != relations.shape[2]:
        raise ValueError(f"relations have shape {tuple(relations.shape)}; give (B, K, K, N)")
    side = torch.ones_like(relations[:, 0]) if size is None else size.to(relations.dtype)
    shift = _without_diagonal(relations) * side[:, :, None]
    if reference is not None:
        return shift[:, reference]
    # Normal equations of sum_rt w_r (p_t - p_r - shift_rt)^2 with w_r = 1 / s_r^2 and
    # sum_k p_k = 0: p_k (W + K w_k) - sum_r w_r p_r = c_k, solved for each k by hand.
    weight = 1 / side**2
    pull = (weight[:, :, None] * shift).sum(1) - weight * shift.sum(2)
    stiffness = weight.sum(1, keepdim=True) + relations.shape[1] * weight
    common = -(pull / stiffness).sum(1, keepdim=True) / (1 / stiffness).sum(1, keepdim=True)
    return (pull + common) / stiffness


def spread(relations: Tensor, size: Tensor | None = None) -> Tensor:
    """Return the spread of a patch's predicted positions over all references.

    Each reference gives positions for all patches; these are shifted to mean 0, and the standard
    deviation over references is taken (PART's uncertainty of a patch).

    Parameters
    ----------
    relations : Tensor (B, K, K, N)
        As for place.
    size : Tensor (B, K, N), optional
        Sizes of the boxes if they differ.

    Returns
    -------
    Tensor (B, K, N)
        In patch sizes, or in the unit of ``size``; 0 if all references agree.

    Examples
    --------
    >>> spread(torch.tensor([[[[0.0], [2.0]], [[-2.0], [0.0]]]])).tolist()
    [[[0.0], [0.0]]]
    """
    side = torch.ones_like(relations[:, 0]) if size is None else size.to(relations.dtype)
    pictures = _without_diagonal(relations) * side[:, :, None]
    pictures = pictures - pictures.mean(2, keepdim=True)
    return pictures.std(1, correction=0)


def asymmetry(relations: Tensor) -> Tensor:
    """Return the root mean square of ``R(i, j) + R(j, i)`` over pairs, (B, K, K, N) -> (B, N).

    0 for patches of one size whose predictions are consistent.

    Examples
    --------
    >>> asymmetry(torch.tensor([[[[0.0], [2.0]], [[-1.0], [0.0]]]])).tolist()
    [[1.0]]
    """
    pairs = _without_diagonal(relations)
    count = relations.shape[1] * (relations.shape[1] - 1)
    return ((pairs + pairs.transpose(1, 2)).square().sum((1, 2)) / count).sqrt()


def _without_diagonal(relations: Tensor) -> Tensor:
    """Set the relation of each patch with itself to 0."""
    same = torch.eye(relations.shape[1], dtype=torch.bool, device=relations.device)
    return relations.masked_fill(same[None, :, :, None], 0)
