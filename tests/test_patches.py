import math

import pytest
import torch
from torch.nn import functional as F

from biopart.grid import Boxes, cut, grid_boxes, patchify, random_boxes, unpatchify
from biopart.grid.patches import resize_weights

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]
DTYPES = [torch.uint8, torch.int16, torch.float32]


def grids(shape, dtype=torch.int16, batch=3, channels=2):
    count = batch * channels * math.prod(shape)
    values = torch.arange(count) * 7919 % 251
    return values.reshape(batch, channels, *shape).to(dtype)


def sliced(values, boxes, b, k):
    corner = zip(boxes.start[b, k].tolist(), boxes.size[b, k].tolist(), strict=True)
    return values[b][(slice(None), *(slice(s, s + p) for s, p in corner))]


@pytest.mark.parametrize(("shape", "size"), GRIDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cut_equals_slicing_bit_for_bit(shape, size, dtype):
    values = grids(shape, dtype)
    boxes = random_boxes(3, 9, shape, size, generator=torch.Generator().manual_seed(1))
    patches = cut(values, boxes, size)
    assert patches.dtype == dtype
    assert patches.shape == (3, 9, 2, *size)
    for b in range(3):
        for k in range(9):
            assert torch.equal(patches[b, k], sliced(values, boxes, b, k))


def test_cut_reads_grids_that_are_not_contiguous():
    values = grids((18, 12)).transpose(2, 3)
    boxes = random_boxes(3, 5, (12, 18), (4, 6), generator=torch.Generator().manual_seed(1))
    assert torch.equal(cut(values, boxes, (4, 6))[2, 4], sliced(values, boxes, 2, 4))


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_one_set_of_boxes_serves_the_whole_batch(shape, size):
    values = grids(shape)
    assert torch.equal(cut(values, grid_boxes(shape, size), size), patchify(values, size))


def interpolated(crop, size):
    """Resize a crop by torch's own antialiased bilinear, one pair of axes at a time."""
    crop = crop.float()
    for axis in range(1, crop.dim()):
        moved = crop.movedim(axis, -1)
        flat = moved.reshape(1, 1, -1, moved.shape[-1])
        to = (flat.shape[2], size[axis - 1])
        flat = F.interpolate(flat, to, mode="bilinear", antialias=True, align_corners=False)
        crop = flat.reshape(*moved.shape[:-1], size[axis - 1]).movedim(-1, axis)
    return crop


@pytest.mark.parametrize(("shape", "size"), GRIDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_boxes_of_other_sizes_are_resized_as_torch_does_it(shape, size, dtype):
    values = grids(shape, dtype)
    generator = torch.Generator().manual_seed(2)
    boxes = random_boxes(3, 9, shape, size, scale=(0.5, 2), generator=generator)
    patches = cut(values, boxes, size)
    assert patches.dtype == torch.float32
    for b in range(3):
        for k in range(9):
            expected = interpolated(sliced(values, boxes, b, k), size)
            torch.testing.assert_close(patches[b, k], expected, rtol=1e-5, atol=1e-3)


def test_halving_by_hand():
    values = torch.tensor([0.0, 0.0, 10.0, 10.0]).reshape(1, 1, 4)
    boxes = Boxes(torch.tensor([[0]]), torch.tensor([[4]]))
    # Triangle of half-width 2 round the centres 1 and 3: weights 3, 3, 1 of 7 inside the box.
    expected = [10 / 7, 60 / 7]
    assert cut(values, boxes, (2,)).flatten().tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_nothing_outside_a_box_is_read(shape, size):
    values = grids(shape, torch.float32)
    boxes = Boxes(torch.full((3, 1, len(shape)), 1), torch.tensor(size).expand(3, 1, -1) - 1)
    poisoned = torch.full_like(values, float("nan"))
    inside = (slice(None), slice(None), *(slice(1, p) for p in size))
    poisoned[inside] = values[inside]
    assert torch.equal(cut(poisoned, boxes, size), cut(values, boxes, size))
    assert torch.isfinite(cut(poisoned, boxes, size)).all()


def test_mixed_sizes_keep_boxes_of_the_patch_size():
    values = grids((30,))
    boxes = Boxes(torch.tensor([[0], [3]]), torch.tensor([[6], [9]]))
    assert torch.equal(cut(values, boxes, (6,))[:, 0], values[:, :, :6].float())


def test_resize_weights_are_the_identity_at_the_patch_size():
    assert torch.equal(resize_weights(torch.tensor([5]), 5)[0], torch.eye(5))


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_unpatchify_undoes_patchify(shape, size):
    values = grids(shape)
    assert torch.equal(unpatchify(patchify(values, size), shape), values)


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_patchify_then_a_matrix_equals_a_strided_convolution(shape, size):
    values = grids(shape, torch.float32)
    weight = torch.randn(5, 2, *size, generator=torch.Generator().manual_seed(0))
    convolution = (F.conv1d, F.conv2d, F.conv3d)[len(shape) - 1]
    expected = convolution(values, weight, stride=size).flatten(2).mT
    tokens = patchify(values, size).flatten(2) @ weight.flatten(1).mT
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-3)


def test_a_height_1_image_gives_the_patches_of_the_signal():
    signal = grids((30,))
    boxes = random_boxes(3, 4, (30,), (6,), generator=torch.Generator().manual_seed(0))
    flat = random_boxes(3, 4, (1, 30), (1, 6), generator=torch.Generator().manual_seed(0))
    image = cut(signal[:, :, None], flat, (1, 6))
    assert torch.equal(image.squeeze(3), cut(signal, boxes, (6,)))
    assert torch.equal(patchify(signal[:, :, None], (1, 6)).squeeze(3), patchify(signal, (6,)))


@pytest.mark.parametrize(
    ("start", "size", "message"),
    [((25,), (6,), "leaves the grid"), ((-1,), (6,), "leaves the grid"), ((0, 0), (6, 6), "axes")],
)
def test_boxes_outside_the_grid_are_refused(start, size, message):
    boxes = Boxes(torch.tensor([start]), torch.tensor([size]))
    with pytest.raises(ValueError, match=message):
        cut(grids((30,)), boxes, size)


def test_patches_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ValueError, match="do not fill"):
        unpatchify(torch.zeros(1, 3, 1, 2), (8,))
