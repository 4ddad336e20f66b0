"""How far predicted translations are off: logged as 0-d tensors."""

from collections.abc import Sequence

from torch import Tensor


def translation_errors(moved: Tensor, truth: Tensor, axes: Sequence[int]) -> dict[str, Tensor]:
    """Return the mean distance of predicted from true translations (B, M, axes), in patch sizes.

    ``error``, and of several axes the mean absolute error ``error_axis_N`` of each.
    """
    metrics = {"error": (moved - truth).square().sum(-1).sqrt().mean()}
    if len(axes) > 1:
        away = (moved - truth).abs().mean((0, 1))
        metrics |= {f"error_axis_{axis}": away[n] for n, axis in enumerate(axes)}
    return metrics


def errors_by_overlap(
    moved: Tensor, truth: Tensor, overlapping: Tensor | None
) -> dict[str, Tensor]:
    """Return distance and share of correct signs, of pairs that overlap and of the others.

    Parameters
    ----------
    moved, truth : Tensor (B, M, axes)
        Predicted and true translations, in patch sizes.
    overlapping : Tensor (B, M), bool, optional
        Pairs that share a sample; None = no pair does.

    Returns
    -------
    dict
        ``error_other`` and ``before_after_other``, with ``overlapping`` also ``error_overlapping``
        and ``before_after_overlapping``; NaN where there are no such pairs.
    """
    distance = (moved - truth).square().sum(-1).sqrt()
    right, apart = (moved.sign() == truth.sign()).float(), truth != 0
    near = apart.new_zeros(distance.shape) if overlapping is None else overlapping
    parts = {"other": ~near} if overlapping is None else {"other": ~near, "overlapping": near}
    metrics = {}
    for name, part in parts.items():
        metrics[f"error_{name}"] = masked_mean(distance, part)
        metrics[f"before_after_{name}"] = masked_mean(right, apart & part[..., None])
    return metrics


def r2_by_hints(
    square: Tensor, chance: Tensor, members: Tensor, *, hints: int, count: int
) -> dict[str, Tensor]:
    """Return R2 by how many members of a pair have a hint; nothing where no patch or every has.

    Parameters
    ----------
    square : Tensor (B, M, axes)
        Squared errors.
    chance : Tensor ()
        Mean squared error of chance.
    members : Tensor (B, M)
        Hinted members of each pair, 0 to 2.
    hints, count : int
        Hinted patches and patches K of each grid.
    """
    free = count - hints
    if 0 in (hints, free):
        return {}
    possible = {0: free > 1, 1: True, 2: hints > 1}
    errors = square.mean(-1)
    return {
        f"r2_hinted_{n}": 1 - masked_mean(errors, members == n) / chance
        for n in (0, 1, 2)
        if possible[n]
    }


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values where mask is true, NaN if it never is; no device sync.

    Examples
    --------
    >>> import torch
    >>> masked_mean(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    return (values * mask).sum() / mask.sum()
