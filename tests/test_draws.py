"""Draws of a batch that several processes share: together they are the draws of one process."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from biopart.grid import (
    BatchGenerator,
    Boxes,
    draw_near_pairs,
    draw_pairs,
    focused_boxes,
    random_boxes,
)
from biopart.nn.masking import random_order

TOTAL = 7
START = torch.randint(0, 40, (TOTAL, 6, 1), generator=torch.Generator().manual_seed(1))
DENSITY = torch.rand(TOTAL, 9, 11, generator=torch.Generator().manual_seed(2))


def places(boxes: Boxes) -> Tensor:
    return torch.cat([boxes.start, boxes.size], -1)


def near(rows: slice, generator: torch.Generator) -> Tensor:
    start = START[rows]
    boxes = Boxes(start, torch.full_like(start, 5))
    return draw_near_pairs(boxes, torch.tensor([5.0]), near=2, pairs=20, generator=generator)


DRAWS: dict[str, Callable[[slice, int, torch.Generator], Tensor]] = {
    "boxes": lambda _, n, g: places(random_boxes(n, 4, (50, 60), (5, 6), generator=g)),
    "boxes of several sizes": lambda _, n, g: places(
        random_boxes(n, 4, (50,), (5,), scale=(0.5, 2), generator=g)
    ),
    "boxes with uniform sides": lambda _, n, g: places(
        random_boxes(n, 4, (50,), (5,), scale=(0.5, 2), sides="uniform", generator=g)
    ),
    "focused boxes": lambda rows, _, g: places(
        focused_boxes(DENSITY[rows], 4, (2, 3), generator=g)
    ),
    "orders": lambda _, n, g: random_order(n, 9, g),
    "pairs": lambda _, n, g: draw_pairs(n, 6, 10, g),
    "different pairs": lambda _, n, g: draw_pairs(n, 6, 10, g, replacement=False),
    "shared pairs": lambda _, n, g: draw_pairs(n, 6, 10, g, shared=True),
    "near pairs": lambda rows, _, g: near(rows, g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_processes_draw_the_rows_of_their_items(name: str) -> None:
    draw = DRAWS[name]
    whole = draw(slice(0, TOTAL), TOTAL, torch.Generator().manual_seed(3))
    parts = []
    for rows in (slice(0, 3), slice(3, 5), slice(5, 7)):
        generator = BatchGenerator()
        generator.manual_seed(3)
        generator.first, generator.total = rows.start, TOTAL
        parts.append(draw(rows, rows.stop - rows.start, generator))
        after = torch.rand(1, generator=generator)  # and all go on alike
        parts[-1] = torch.cat([parts[-1].flatten(), after])
    alone = torch.Generator().manual_seed(3)
    draw(slice(0, TOTAL), TOTAL, alone)
    last = torch.rand(1, generator=alone)
    assert all(torch.equal(part[-1:], last) for part in parts)
    assert torch.equal(torch.cat([part[:-1] for part in parts]), whole.flatten().float())
