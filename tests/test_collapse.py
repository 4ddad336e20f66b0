"""The effective rank and the spread of features are what one works out by hand."""

import math

import numpy as np
import pytest

from biopart.evaluation import feature_std, rankme


@pytest.mark.parametrize("width", [2, 5, 64])
def test_equal_directions_have_full_rank_and_one_direction_has_rank_1(width: int) -> None:
    assert rankme(np.eye(width)) == pytest.approx(width, rel=1e-4)
    line = np.outer(np.arange(1, 100), np.arange(1, width + 1))
    assert rankme(line) == pytest.approx(1, abs=1e-3)


def test_rank_of_a_spectrum_worked_out_by_hand() -> None:
    # Shares 3/4 and 1/4: exp(3/4 log 4/3 + 1/4 log 4) = 4 / 3^(3/4).
    assert rankme(np.diag([3.0, 1.0])) == pytest.approx(4 / 3**0.75, rel=1e-5)
    # Three directions of share 0 count for their epsilon: 1e-7 log 1e-7 each.
    collapsed = math.exp(3e-7 * math.log(1e7) - 1e-7)
    assert rankme(np.ones((9, 4))) == pytest.approx(collapsed, rel=1e-9)


def test_rank_does_not_depend_on_scale_rotation_or_precision() -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((50, 8)) * np.arange(1, 9)
    rotation = np.linalg.qr(generator.standard_normal((8, 8)))[0]
    assert rankme(100 * values @ rotation) == pytest.approx(rankme(values), rel=1e-9)
    assert rankme(values.astype(np.float32)) == pytest.approx(rankme(values), rel=1e-6)


def test_few_windows_bound_the_rank() -> None:
    assert rankme(np.eye(64)[:3]) == pytest.approx(3, rel=1e-4)


def test_features_of_zeros_have_no_rank() -> None:
    with pytest.raises(ValueError, match=r"All features \(4, 2\) are 0"):
        rankme(np.zeros((4, 2)))


@pytest.mark.parametrize("width", [1, 3, 16])
def test_spread_over_all_directions_is_1_and_of_one_point_0(width: int) -> None:
    axes = np.vstack([np.eye(width), -np.eye(width)])
    assert feature_std(axes) == pytest.approx(1)
    assert feature_std(np.full((7, width), 3.0)) == pytest.approx(0, abs=1e-12)


def test_spread_worked_out_by_hand() -> None:
    # One of four features is +1 or -1, the others 0: the mean of (1, 0, 0, 0), times sqrt(4).
    assert feature_std(np.array([[5.0, 0, 0, 0], [-0.1, 0, 0, 0]])) == pytest.approx(0.5)
    # Unit vectors: each feature has variance 1/D - 1/D^2.
    assert feature_std(np.eye(4)) == pytest.approx(math.sqrt(3 / 4))


def test_random_directions_are_spread_evenly() -> None:
    values = np.random.default_rng(0).standard_normal((20_000, 32))
    assert feature_std(values) == pytest.approx(1, abs=0.01)


def test_a_window_of_zeros_stays_in_the_middle() -> None:
    assert feature_std(np.array([[0.0, 0.0], [0.0, 0.0]])) == 0
