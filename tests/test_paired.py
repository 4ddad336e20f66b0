"""Methods are compared on the same persons and seeds, and chance is counted over both."""

import numpy as np
import pytest
from numpy.typing import NDArray

from biopart.evaluation import (
    adjusted,
    curve_interval,
    kappa_interval,
    kappa_of,
    paired_difference,
    signed_rank,
    smallest_p,
)

ONE_CLASS = [[20, 0], [0, 0]]


def _counts(right: list[list[int]]) -> NDArray[np.int64]:
    """Give confusions (seeds, persons, 2, 2) of 20 windows each; kappa = right / 5 - 1."""
    values = np.array(right)
    return np.stack([[values, 10 - values], [10 - values, values]]).transpose(2, 3, 0, 1)


def _random(seed: int, seeds: int = 4, persons: int = 7) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 30, (seeds, persons, 3, 3))


def test_mean_is_over_seeds_and_kappa_is_pooled_over_persons() -> None:
    mean, _, _ = curve_interval(_counts([[8, 10], [6, 4]]))
    assert mean == pytest.approx(0.4)  # pooled: 18 of 20 right = 0.8, 10 of 20 = 0.0


def test_seeds_alone_spread_from_the_worst_to_the_best() -> None:
    assert curve_interval(_counts([[7], [10]])) == pytest.approx((0.7, 0.4, 1.0))


def test_one_seed_gives_the_interval_over_persons() -> None:
    counts = _random(0, seeds=1)
    low, high, _ = kappa_interval(counts[0], seed=3)
    assert curve_interval(counts, seed=3)[1:] == (low, high)


def test_one_person_and_one_seed_give_a_point() -> None:
    assert curve_interval(_counts([[8]])) == pytest.approx((0.6, 0.6, 0.6))


def test_interval_equals_a_loop_that_draws_persons_and_seeds() -> None:
    counts, rng, drawn = _random(1), np.random.default_rng(5), []
    for _ in range(4000):
        persons = rng.integers(0, 7, 7)
        drawn.append(np.mean([kappa_of(counts[s, persons].sum(0)) for s in rng.integers(0, 4, 4)]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    _, found_low, found_high = curve_interval(counts, resamples=20_000)
    assert (found_low, found_high) == pytest.approx((low, high), abs=0.008)


def test_resamples_without_a_kappa_are_left_out() -> None:
    counts = np.array([[[[9, 1], [1, 9]], ONE_CLASS]])
    assert all(value is not None for value in curve_interval(counts))
    assert curve_interval(np.array([[ONE_CLASS]])) == (None, None, None)


def test_difference_is_the_mean_over_persons_of_their_mean_over_seeds() -> None:
    found = paired_difference(_counts([[8, 10], [8, 6]]), _counts([[7, 5], [9, 7]]))
    # person 0: (0.2 - 0.2) / 2 = 0; person 1: (1.0 - 0.2) / 2 = 0.4
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0, 0.4))
    assert found.pooled[0] == pytest.approx(0.2)
    assert (found.persons, found.left_out, found.seeds, found.p) == (2, 0, 2, None)


def test_methods_swapped_give_the_difference_with_the_other_sign() -> None:
    one, two = _random(2), _random(3)
    there, back = paired_difference(one, two), paired_difference(two, one)
    assert (there.difference, there.low, there.high) == pytest.approx(
        (-np.array([back.difference, back.high, back.low])).tolist()
    )
    pooled = [-(value or 0.0) for value in back.pooled]
    assert there.pooled == pytest.approx((pooled[0], pooled[2], pooled[1]))
    assert there.p == back.p


def test_method_does_not_differ_from_itself() -> None:
    found = paired_difference(_random(4), _random(4))
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, None)
    assert found.pooled == (0.0, 0.0, 0.0)


def test_shared_luck_of_persons_does_not_widen_a_paired_interval() -> None:
    right = [[1, 3, 5, 7, 9, 10]]
    worse = [[0, 2, 4, 6, 8, 9]]
    found = paired_difference(_counts(right), _counts(worse))
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))
    assert found.pooled == pytest.approx((0.2, 0.2, 0.2))


def test_persons_without_a_kappa_in_any_cell_are_left_out_and_counted() -> None:
    mine, other = _counts([[8, 8, 8], [8, 8, 8]]), _counts([[7, 7, 7], [7, 7, 7]])
    other[1, 2] = ONE_CLASS
    found = paired_difference(mine, other)
    assert (found.persons, found.left_out) == (2, 1)
    assert found.difference == pytest.approx(0.2)
    nobody = paired_difference(np.array([[ONE_CLASS]]), _counts([[7]]))
    assert (nobody.difference, nobody.low, nobody.p, nobody.persons) == (None, None, None, 0)


def test_signed_rank_counts_signs_that_are_as_far_from_even() -> None:
    # Ranks 1 to 6, the smallest one negative: W = 1; sums 0 and 1 have one pattern each.
    assert signed_rank([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 * 2 / 2**6)


def test_differences_of_zero_and_rounding_are_dropped() -> None:
    six = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert signed_rank([*six, 0.0, 1e-17]) == signed_rank(six) == smallest_p(6)
    assert signed_rank([*six[:5], 0.0, 0.0]) is None


def test_differences_around_zero_seldom_come_below_five_percent() -> None:
    rng = np.random.default_rng(0)
    found = [signed_rank(rng.standard_normal(8)) or 0.0 for _ in range(1000)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(10 / 2**8, abs=0.015)


def test_adjusted_p_follow_benjamini_and_hochberg() -> None:
    assert adjusted([0.01, None, 0.03, 0.5, 0.02]) == pytest.approx([0.04, None, 0.04, 0.5, 0.04])
    assert adjusted([None, None]) == [None, None]
    assert adjusted([]) == []


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4), (0, 2, 3, 3), (2, 0, 3, 3)])
def test_confusions_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"give \(seeds, persons, classes, classes\)"):
        curve_interval(np.ones(shape))


def test_unequal_persons_are_refused() -> None:
    with pytest.raises(ValueError, match="needs the same seeds, persons and classes"):
        paired_difference(_random(0), _random(0, persons=6))


def test_the_interval_over_seeds_is_students() -> None:
    # Pooled differences 0.2 and 0.4: mean 0.3, standard error 0.1, t of 1 degree 12.7062.
    found = paired_difference(_counts([[7], [9]]), _counts([[6], [7]]))
    assert found.by_seed == pytest.approx((0.3, 0.3 - 1.27062, 0.3 + 1.27062), abs=1e-5)
    assert paired_difference(_counts([[7]]), _counts([[6]])).by_seed[1:] == (None, None)


def test_persons_of_one_true_class_have_no_figure_however_they_are_predicted() -> None:
    two, wrong = [[9, 1], [1, 9]], [[19, 1], [0, 0]]
    mine, other = np.array([[two, wrong]]), np.array([[two, ONE_CLASS]])
    for left, right in ((mine, other), (mine, mine)):
        found = paired_difference(left, right)
        assert (found.persons, found.left_out, found.difference) == (1, 1, 0.0)


def test_one_person_has_a_difference_but_no_interval_over_persons() -> None:
    mine, other = np.array([[[[9, 1], [1, 9]]]] * 3), np.array([[[[8, 2], [2, 8]]]] * 3)
    found = paired_difference(mine, other)
    assert found.difference == pytest.approx(0.8 - 0.6)
    assert (found.low, found.high, found.p, found.persons) == (None, None, None, 1)
