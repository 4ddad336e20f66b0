"""Neighbours of patches by hand, and what class attention makes of sets of tokens."""

import pytest
import torch

from biopart.nn.aggregation import Aggregation, Sets, neighbours


@pytest.mark.parametrize(
    ("counts", "wrap", "expected"),
    [
        ((3,), False, [[1], [0, 2], [1]]),
        ((3,), True, [[1, 2], [0, 2], [0, 1]]),
        ((1, 3), False, [[1], [0, 2], [1]]),
        ((2, 2), False, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]),
        ((2, 2), True, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]),
    ],
)
def test_neighbours_by_hand(counts, wrap, expected):
    index, present = neighbours(counts, wrap=wrap)
    found = [sorted(row[kept].tolist()) for row, kept in zip(index, present, strict=True)]
    assert found == expected


def test_numbers_of_neighbours_on_one_two_and_three_axes():
    for counts, most in (((5,), 2), ((5, 5), 8), ((3, 3, 3), 26)):
        _, present = neighbours(counts)
        assert present.shape[1] == most
        assert present.sum(1).max() == most
    border = neighbours((14, 14))[1].sum(1) < 8  # which the released code wraps: 52 of 196
    assert border.sum() == 52


def test_the_summary_of_all_neighbours_is_that_of_the_set():
    torch.manual_seed(0)
    net = Aggregation(24, 4, 2)
    tokens = torch.randn(2, 7, 24)
    everything = net.summary(tokens)
    index = torch.arange(7).expand(2, 1, -1)
    torch.testing.assert_close(
        net.summary(tokens, Sets(index, torch.ones_like(index, dtype=torch.bool))), everything
    )
    # A token that is not present does not count.
    some = torch.tensor([[[0, 1, 2, 6]]]).expand(2, -1, -1)
    present = torch.tensor([[[True, True, True, False]]]).expand(2, -1, -1)
    torch.testing.assert_close(net.summary(tokens, Sets(some, present)), net.summary(tokens[:, :3]))
