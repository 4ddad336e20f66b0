"""Cut patches out of grids: one gather for a whole batch, any number of axes.

A box of the patch size is copied bit for bit. A box of another size is resized with antialiasing,
with weights that read nothing outside the box: roi_align, grid_sample and PIL's ``resize(box=)``
mix in samples from outside, which is a shortcut for a task that predicts positions.
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

from biopart.grid.boxes import Boxes, grid_boxes
from biopart.grid.constants import constant


def cut(values: Tensor, boxes: Boxes, size: Sequence[int]) -> Tensor:
    """Cut the patches of a batch.

    Parameters
    ----------
    values : Tensor (B, C, *S)
        Grids of any dtype.
    boxes : Boxes (B, K, N) or (K, N)
        Where to cut; (K, N) is the same for every grid of the batch.
    size : sequence of int
        Patch size P, one side per axis.

    Returns
    -------
    Tensor (B, K, C, *P)
        If every box has size P, an exact copy in the dtype of ``values``. Otherwise float32,
        each box resized by a triangle filter widened by the reduction (the antialiased bilinear
        of ``torch.nn.functional.interpolate`` applied to the crop).

    Raises
    ------
    ValueError
        If a box leaves the grid or the numbers of axes differ.

    Examples
    --------
    >>> signal = torch.arange(8).reshape(1, 1, 8)
    >>> cut(signal, Boxes(torch.tensor([[1], [5]]), torch.tensor([[2], [2]])), (2,)).tolist()
    [[[[1, 2]], [[5, 6]]]]
    """
    shape = values.shape[2:]
    start, side = boxes.start.to(values.device), boxes.size.to(values.device)
    if start.shape[-1] != len(shape) or len(size) != len(shape):
        raise ValueError(
            f"values have {len(shape)} axes {tuple(shape)}, boxes {start.shape[-1]} and the patch "
            f"{tuple(size)} {len(size)}; all three must agree"
        )
    if start.dim() == 2:
        start, side = (x.expand(values.shape[0], *x.shape) for x in (start, side))
    sides = boxes.sides or _known_sides(start, side, shape)
    if sides == tuple((p, p) for p in size):
        return _copy(values, start, size)
    return _resize(values, Boxes(start, side), size, [largest for _, largest in sides])


def _known_sides(start: Tensor, side: Tensor, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Read the smallest and the largest side per axis; ValueError where a box leaves the grid."""
    limits = constant(shape, start.device)
    if bool(((start < 0) | (side < 1) | (start + side > limits)).any()):
        raise ValueError(f"a box leaves the grid of {tuple(shape)}; keep 0 <= start <= S - size")
    lowest, highest = torch.stack(torch.aminmax(side.flatten(0, -2), dim=0)).tolist()
    return tuple(zip(lowest, highest, strict=True))


def patchify(values: Tensor, size: Sequence[int]) -> Tensor:
    """Split grids into their row-major patches: (B, C, *S) -> (B, K, C, *P).

    Raises ValueError if the patch does not tile the grid.

    Examples
    --------
    >>> patchify(torch.arange(6).reshape(1, 1, 6), (3,)).tolist()
    [[[[0, 1, 2]], [[3, 4, 5]]]]
    """
    shape = values.shape[2:]
    grid_boxes(shape, size)
    n = len(size)
    split = [extent for s, p in zip(shape, size, strict=True) for extent in (s // p, p)]
    order = [0, *range(2, 2 + 2 * n, 2), 1, *range(3, 3 + 2 * n, 2)]
    patches = values.reshape(*values.shape[:2], *split).permute(order)
    return patches.reshape(values.shape[0], -1, values.shape[1], *size)


def unpatchify(patches: Tensor, shape: Sequence[int]) -> Tensor:
    """Join row-major patches again: (B, K, C, *P) -> (B, C, *S); the inverse of patchify.

    Raises ValueError if the patches do not fill ``shape``.

    Examples
    --------
    >>> unpatchify(torch.tensor([[[[0, 1, 2]], [[3, 4, 5]]]]), (6,)).tolist()
    [[[0, 1, 2, 3, 4, 5]]]
    """
    size = patches.shape[3:]
    count = len(grid_boxes(shape, size).start)
    if count != patches.shape[1]:
        raise ValueError(
            f"{patches.shape[1]} patches of {tuple(size)} do not fill a grid of {tuple(shape)}, "
            f"which needs {count}"
        )
    n = len(size)
    counts = [s // p for s, p in zip(shape, size, strict=True)]
    order = [0, 1 + n, *(axis for i in range(n) for axis in (1 + i, 2 + n + i))]
    joined = patches.reshape(patches.shape[0], *counts, patches.shape[2], *size).permute(order)
    return joined.reshape(patches.shape[0], patches.shape[2], *shape)


def _strides(shape: Sequence[int]) -> list[int]:
    """Return the distance in samples of two neighbours on each axis in a flat grid."""
    return list(accumulate(reversed(list(shape)[1:]), mul, initial=1))[::-1]


def _flat_index(values: Tensor, offsets: list[Tensor]) -> Tensor:
    """Return flat indices (B, K, C, *...) of samples given per axis as (B, K, n_axis)."""
    batch, channels = values.shape[:2]
    strides = _strides(values.shape)
    device = values.device
    axes = len(offsets)
    index = (torch.arange(batch, device=device) * strides[0]).reshape(batch, 1, 1, *[1] * axes)
    index = index + (torch.arange(channels, device=device) * strides[1]).reshape(-1, *[1] * axes)
    for axis, (offset, stride) in enumerate(zip(offsets, strides[2:], strict=True)):
        place = [1] * axes
        place[axis] = offset.shape[-1]
        index = index + (offset * stride).reshape(*offset.shape[:2], 1, *place)
    return index


def _copy(values: Tensor, start: Tensor, size: Sequence[int]) -> Tensor:
    """Copy boxes of size P: select the starts in a view on the P samples after each sample.

    One index per patch and channel; the view overlaps itself and costs no memory.
    """
    batch, count, axes = start.shape
    strides = _strides(values.shape)
    reach = sum((p - 1) * stride for p, stride in zip(size, strides[2:], strict=True))
    flat = values.contiguous().reshape(-1)
    boxes = flat.as_strided((len(flat) - reach, *size), (1, *strides[2:]))
    index = _flat_index(values, [start[..., axis, None] for axis in range(axes)])
    patches = boxes.index_select(0, index.reshape(-1))
    return patches.reshape(batch, count, values.shape[1], *size)


def resize_weights(side: Tensor, size: int, largest: int | None = None) -> Tensor:
    """Return antialiased weights that resize boxes of several sides to one size.

    Parameters
    ----------
    side : Tensor (...), int
        Sides of the boxes in samples.
    size : int
        Wanted side P.
    largest : int, optional
        Largest side, where it is known; else it is read from ``side``.

    Returns
    -------
    Tensor (..., P, largest side), float32
        Rows sum to 1 and are zero beyond the box's own side.

    Examples
    --------
    >>> resize_weights(torch.tensor([4]), 2).tolist()[0][0]
    [0.42857..., 0.42857..., 0.14285..., 0.0]
    """
    reduction = (side / size)[..., None, None]
    width = reduction.clamp(min=1)
    centre = (torch.arange(size, device=side.device)[:, None] + 0.5) * reduction
    sample = torch.arange(int(side.max()) if largest is None else largest, device=side.device)
    weight = (1 - (sample + 0.5 - centre).abs() / width).clamp(min=0)
    weight = weight * (sample < side[..., None, None])
    return (weight / weight.sum(-1, keepdim=True)).float()


def _resize(values: Tensor, boxes: Boxes, size: Sequence[int], largest: Sequence[int]) -> Tensor:
    """Resize boxes to P; indices are clamped into the box, whose outside is never read."""
    batch, count, axes = boxes.start.shape
    offsets, weights = [], []
    for axis in range(axes):
        start, side = boxes.start[..., axis, None], boxes.size[..., axis]
        within = torch.arange(largest[axis], device=side.device)
        offsets.append(start + torch.minimum(within, side[..., None] - 1))
        weights.append(resize_weights(side, size[axis], largest[axis]))
    index = _flat_index(values, offsets)
    patches = values.contiguous().reshape(-1)[index].float()
    for axis, weight in enumerate(weights):
        moved = patches.movedim(3 + axis, -1)
        lead = moved.shape[2:-1].numel()
        flat = moved.reshape(batch * count, lead, -1)
        resized = torch.bmm(flat, weight.reshape(batch * count, *weight.shape[2:]).mT)
        patches = resized.reshape(*moved.shape[:-1], size[axis]).movedim(-1, 3 + axis)
    return patches.contiguous()
