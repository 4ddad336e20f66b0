"""The price of cutting patches and of a PART step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from biopart.grid import Boxes, cut, random_boxes
from biopart.nn import ViT
from biopart.objectives import Part
from biopart.recipe import PartSettings
from biopart.studies.bench.objectives import bare_step, inputs_of, random_batch, step
from biopart.studies.bench.turns import in_turns, limited

Say = Callable[[str], None]


def bench_part(
    repeats: int,
    say: Say = lambda line: None,
    *,
    grids: int = 64,
    encoders: Sequence[tuple[int, int]] = ((512, 8), (128, 4)),
) -> dict[str, Any]:
    """Measure cutting against loops of slices, and a PART step against its bare encoder.

    Parameters
    ----------
    repeats : int
        Turns that count.
    say : callable
        Gets a line before each measurement.
    grids : int
        Images cut and windows in a step; four times as many windows are cut.
    encoders : sequence of (dim, heads)
        Encoders of depth 4 to measure.

    Returns
    -------
    dict
        ``cut_images``, ``cut_windows`` and ``step_dim<D>``, each with its parts and its limit.
    """
    generator = torch.Generator().manual_seed(0)
    say("cutting 196 patches of 16x16 from each image, beside loops of slices")
    images = torch.randint(256, (grids, 3, 224, 224), generator=generator, dtype=torch.uint8)
    windows = torch.randint(-3000, 3000, (4 * grids, 6, 3000), generator=generator).short()
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "repeats": repeats}
    result["cut_images"] = bench_cut(images, 196, (16, 16), repeats)
    say("cutting 40 stretches of 100 samples from each window, beside loops of slices")
    result["cut_windows"] = bench_cut(windows, 40, (100,), repeats)
    for dim, heads in encoders:
        say(f"a PART step beside its encoder, dim {dim}, depth 4, {grids} windows")
        encoder = ViT((3000,), (100,), 6, dim, 4, heads, position="sincos")
        result[f"step_dim{dim}"] = bench_step(encoder, grids, repeats)
    return result


def bench_cut(values: Tensor, count: int, size: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Time ``cut`` in turns with loops of slices, which fill an existing array."""
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(len(values), count, values.shape[2:], size, generator=generator)
    places = slices_of(boxes)
    out = torch.empty(len(values), count, values.shape[1], *size, dtype=values.dtype)
    from_array, to_array = values.numpy(), out.numpy()
    calls: dict[str, Callable[[], object]] = {
        "cut": lambda: cut(values, boxes, size),
        "loop": lambda: slice_loop(values, places, out),
        "numpy_loop": lambda: slice_loop(from_array, places, to_array),
    }
    timing = in_turns(calls, repeats)
    for loop in ("loop", "numpy_loop"):
        out.zero_()
        calls[loop]()
        assert torch.equal(out, cut(values, boxes, size)), "a patch is not its slice"
    figures = {
        "patches": len(values) * count,
        "bitwise_equal": True,
        **timing.medians(),
        "times_numpy_loop": timing.ratio("numpy_loop", "cut"),
        "times_loop_cpu": timing.cpu_ratio("loop", "cut"),
        "times_loop": timing.ratio("loop", "cut"),
    }
    return limited(figures, "times_loop", at_least=4.0)


def slices_of(boxes: Boxes) -> list[list[tuple[slice, ...]]]:
    """Return the slices (channels, *axes) of boxes (B, K, N).

    Examples
    --------
    >>> slices_of(Boxes(torch.tensor([[[5]]]), torch.tensor([[[2]]])))
    [[(slice(None, None, None), slice(5, 7, None))]]
    """
    stop = (boxes.start + boxes.size).tolist()
    return [
        [(slice(None), *map(slice, first, last)) for first, last in zip(*grid, strict=True)]
        for grid in zip(boxes.start.tolist(), stop, strict=True)
    ]


def slice_loop(values: Any, places: Sequence[Sequence[tuple[slice, ...]]], out: Any) -> None:
    """Cut patches one by one: grids (B, C, *S), tensor or array, into out (B, K, C, *P)."""
    for grid, slices, target in zip(values, places, out, strict=True):
        for patch, place in enumerate(slices):
            target[patch] = grid[place]


def bench_step(encoder: ViT, windows: int, repeats: int) -> dict[str, Any]:
    """Time forward and backward of a PART step in turns with those of its encoder alone.

    Both start from normalised windows, or from their patches, and have the same patches at the
    same positions. The optimiser is in neither; normalising, which any objective needs, neither.
    """
    objective = Part(encoder, PartSettings(patches=40, pairs=160, position_hint=0.8))
    batch = random_batch(encoder, windows)
    inputs, options = inputs_of(objective, encoder, batch)
    calls: dict[str, Callable[[], object]] = {
        "step": partial(step, objective, batch),
        "encoder": partial(bare_step, encoder, inputs, options),
    }
    timing = in_turns(calls, repeats)
    figures = {
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        **timing.medians(),
        "cpu_ratio": timing.cpu_ratio("step", "encoder"),
        "ratio_of_turns": timing.ratio_of_turns("step", "encoder"),
        "ratio": timing.ratio("step", "encoder"),
    }
    return limited(figures, "ratio", at_most=1.3)
