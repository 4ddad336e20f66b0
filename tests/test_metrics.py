"""Agreement, its intervals over persons, and what is undefined."""

import json
import logging

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from biopart.evaluation.metrics import (
    auc_by_person,
    balanced_weights,
    kappa_interval,
    kappa_of,
    mean_interval,
    merged,
    score,
)

STAGES = ["W", "N1", "N2", "N3", "R"]


def test_kappa_of_two_raters_worked_by_hand() -> None:
    # 50 cases: observed 35/50 = 0.7; expected (25*30 + 25*20) / 50^2 = 0.5; (0.7 - 0.5) / 0.5.
    assert kappa_of(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)


def test_kappa_of_many_confusions_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, (2, 40, 200))
    tables = np.zeros((40, 5, 5), np.int64)
    np.add.at(tables, (np.arange(40)[:, None], truth, predicted), 1)
    expected = [cohen_kappa_score(t, p) for t, p in zip(truth, predicted, strict=True)]
    np.testing.assert_allclose(kappa_of(tables), expected, atol=1e-12)


def test_kappa_is_undefined_for_one_class_and_for_nothing() -> None:
    one_class, nothing = np.diag([7, 0]), np.zeros((2, 2))
    always_wrong = np.array([[0, 7], [0, 0]])
    found = kappa_of(np.stack([one_class, nothing, always_wrong]))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 0.0])


def test_interval_is_that_of_the_pooled_kappa_of_resampled_persons() -> None:
    # Two persons of kappa 1 and 0: a quarter of draws give each alone, half give the sum,
    # [[15, 5], [5, 15]] with kappa 0.5; 2.5 and 97.5 percent lie in the quarters.
    tables = np.array([[[10, 0], [0, 10]], [[5, 5], [5, 5]]])
    assert kappa_interval(tables, seed=3) == (0.0, 1.0, 0)


def test_interval_counts_undefined_resamples() -> None:
    # Person b has one class; every draw of b twice, a quarter, has no kappa.
    tables = np.array([[[10, 0], [0, 10]], [[10, 0], [0, 0]]])
    low, high, undefined = kappa_interval(tables, resamples=4000)
    assert (low, high) == (1.0, 1.0)
    assert 900 < undefined < 1100


def test_interval_without_any_defined_kappa_is_refused() -> None:
    with pytest.raises(ValueError, match="None of 2000 resamples of 1 persons"):
        kappa_interval(np.array([[[10, 0], [0, 0]]]))


def test_mean_interval_agrees_with_the_normal_one_for_many_persons() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.1, 400)
    low, high = mean_interval(values.tolist(), seed=0)
    margin = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=2e-3)
    with pytest.raises(ValueError, match="at least one person"):
        mean_interval([])


def test_score_of_two_persons_worked_by_hand() -> None:
    truth = np.array([0, 0, 2, 2, 0, 0, 2, -1])
    predicted = np.array([0, 0, 2, 1, 0, 0, 0, 4])
    found = score(truth, predicted, list("aaaabbbb"), STAGES)
    assert found["confusion"] == [[4, 0, 0, 0, 0], [0] * 5, [1, 1, 1, 0, 0], [0] * 5, [0] * 5]
    # Pooled: observed 5/7, expected (4*5 + 3*1) / 49 = 23/49, kappa (35 - 23) / (49 - 23).
    assert found["kappa"] == pytest.approx(12 / 26)
    # a: 3/4 against (2*2 + 2*1)/16 gives 0.6; b: 2/3 against 2*3/9 gives 0.
    assert found["kappa_by_person"] == pytest.approx({"a": 0.6, "b": 0.0})
    assert found["kappa_mean"] == pytest.approx(0.3)
    assert found["f1"] == pytest.approx({"W": 8 / 9, "N1": None, "N2": 0.5, "N3": None, "R": None})
    assert found["macro_f1"] == pytest.approx((8 / 9 + 0.5) / 2)
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert (found["classes"], found["n_windows"], found["n_test_persons"]) == (["W", "N2"], 7, 2)


def test_score_keeps_exactly_the_keys_of_a_result_and_is_json() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, (2, 60))
    found = score(truth, predicted, ["p", "q"] * 30, STAGES)
    assert set(found) == {
        *("kappa", "kappa_mean", "kappa_by_person", "kappa_ci95", "accuracy", "macro_f1"),
        *("f1", "classes", "confusion", "confusion_by_person", "n_windows", "n_test_persons"),
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_person_without_a_defined_kappa_is_null_and_outside_the_mean() -> None:
    truth = np.array([0, 1, 0, 1, 0, 0, -1])
    found = score(truth, np.abs(truth), ["a", "a", "a", "a", "flat", "flat", "unscored"], STAGES)
    assert found["kappa_by_person"] == {"a": 1.0, "flat": None, "unscored": None}
    assert (found["kappa_mean"], found["n_test_persons"], found["n_windows"]) == (1.0, 2, 6)


def test_a_person_of_one_true_class_counts_neither_when_right_nor_when_wrong() -> None:
    truth = np.array([0, 1, 0, 1, 0, 0])
    for flat in (0, 1):
        found = score(truth, np.array([0, 1, 0, 1, 0, flat]), list("aaaabb"), STAGES)
        assert found["kappa_by_person"] == {"a": 1.0, "b": None}
        assert found["kappa_mean"] == 1.0


def test_kappa_mean_is_null_when_every_person_has_one_class() -> None:
    found = score(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), list("aabb"), STAGES)
    assert (found["kappa"], found["kappa_mean"]) == (1.0, None)


def test_left_out_resamples_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        score(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), list("aabb"), STAGES)
    assert "of 2000 bootstrap resamples had no defined kappa" in caplog.text


def test_unscored_windows_change_nothing() -> None:
    truth, predicted = np.random.default_rng(2).integers(0, 5, (2, 50))
    persons = ["a", "b"] * 25
    longer = score(
        np.append(truth, [-1] * 9), np.append(predicted, [3] * 9), [*persons, *"aaaabbbbb"], STAGES
    )
    assert longer == score(truth, predicted, persons, STAGES)


def test_score_does_not_depend_on_the_order_of_windows() -> None:
    rng = np.random.default_rng(4)
    truth, predicted = rng.integers(0, 5, (2, 90))
    persons, order = np.array(["a", "b", "c"] * 30), rng.permutation(90)
    mixed = score(truth[order], predicted[order], persons[order].tolist(), STAGES, seed=1)
    assert mixed == score(truth, predicted, persons.tolist(), STAGES, seed=1)


def test_seed_of_the_bootstrap_is_kept() -> None:
    truth, predicted = np.random.default_rng(2).integers(0, 5, (2, 90))
    first, again, other = (
        score(truth, predicted, list("abcdefghi") * 10, STAGES, seed=seed)["kappa_ci95"]
        for seed in (5, 5, 6)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("truth", "predicted", "persons", "message"),
    [
        ([1, 1, -1], [1, 0, 1], "aab", r"are \['N1'\], but kappa needs at least two"),
        ([-1, -1], [1, 0], "ab", "are none, but"),
        ([0, 1], [0, 1, 1], "ab", "2 truth, 3 predicted, 2 persons"),
        ([0, 1, 5], [0, 1, 1], "abc", "outside 0 to 4"),
        ([0, 1, 1], [0, 1, -1], "abc", "outside 0 to 4"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    truth: list[int], predicted: list[int], persons: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(np.array(truth), np.array(predicted), list(persons), STAGES)


def test_balanced_weights_give_every_class_the_same_say() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3] * 1 + [-1] * 5)
    weights = balanced_weights(labels, 5)
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 0, 10 / 3, 0], rtol=1e-6)
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1.0)


def test_weights_refuse_unlabelled_and_unknown_classes() -> None:
    with pytest.raises(ValueError, match="None of 3 windows is labelled"):
        balanced_weights(np.array([-1, -1, -1]), 5)
    with pytest.raises(ValueError, match="Label 5 is too large for 5 classes"):
        balanced_weights(np.array([0, 5]), 5)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random(60), rng.integers(0, 2, 60)
    persons = [*"ab" * 25, *"c" * 10]
    truth[50:] = 1
    found = auc_by_person(scores, truth, persons)
    mine = np.array(persons) == "b"
    ones, zeros = scores[mine & (truth == 1)], scores[mine & (truth == 0)]
    assert found["b"] == pytest.approx((ones[:, None] > zeros).mean())
    assert (list(found), found["c"]) == (["a", "b", "c"], None)


def test_tests_of_different_persons_are_scored_as_one():
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 3, (2, 600))
    persons = [f"p{number % 6}" for number in range(600)]
    names = ["a", "b", "c"]
    whole = score(truth, predicted, persons, names)
    parts = []
    for part in (("p0", "p1"), ("p2", "p3", "p4", "p5")):
        own = np.isin(persons, part)
        parts.append(score(truth[own], predicted[own], np.array(persons)[own].tolist(), names))
    assert merged(parts) == whole
    with pytest.raises(ValueError, match="p0, p1 stand in several tests"):
        merged([parts[0], *parts])
