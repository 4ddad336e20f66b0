"""Retrieval and probes of the part-aware evaluation, against second formulas."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from biopart.evaluation.dense import UNKNOWN, class_ious, dense_counts, dense_scores
from biopart.evaluation.resampled import Sums, difference_of, interval_of, sums_of
from biopart.evaluation.retrieval import average_precision
from biopart.probing import retrieval
from biopart.probing.linear import ATTENTIVE, AttentiveProbe, LinearProbe, Optimisation, classify
from biopart.probing.retrieval import precisions, retrieve


def test_average_precision_is_scikit_learns_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 6, 30) / 5
        relevant = rng.random(30) < 0.3
        if relevant.any():
            expected = average_precision_score(relevant, scores)
            assert average_precision(scores, relevant) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, bool)))


def test_the_form_for_a_gpu_gives_the_same():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (20, 40), generator=generator).float()
    relevant = torch.rand(20, 40, generator=generator) < 0.2
    relevant[:, 0] = True
    scores[:, 1] = -torch.inf
    expected = [
        average_precision(row.numpy(), there.numpy())
        for row, there in zip(scores, relevant, strict=True)
    ]
    np.testing.assert_allclose(precisions(scores, relevant).numpy(), expected, rtol=1e-6)


def test_random_features_score_as_chance_without_and_with_the_query():
    labels = np.repeat(np.arange(4), 50)
    without, including = [], []
    for seed in range(20):
        features = torch.randn(200, 64, generator=torch.Generator().manual_seed(seed))
        without.append(retrieve(features, labels).precision.mean())
        including.append(retrieve(features, labels, own_included=True).precision.mean())
    assert np.mean(without) == pytest.approx(0.271, abs=0.01)
    assert np.mean(including) == pytest.approx(0.300, abs=0.01)


def test_blocks_change_nothing_and_neighbours_are_the_nearest(monkeypatch):
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    labels = np.arange(50) % 3
    labels[7] = -1  # a distractor
    whole = retrieve(features, labels, nearest=5)
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", 4 * 50 * 7)
    blocks = retrieve(features, labels, nearest=5)
    np.testing.assert_array_equal(whole.nearest, blocks.nearest)
    np.testing.assert_allclose(whole.precision, blocks.precision)
    assert np.isnan(whole.precision[7])
    unit = features / features.norm(dim=1, keepdim=True)
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    assert whole.nearest[3].tolist() == cosine[3].argsort(descending=True)[:5].tolist()
    relevant = (labels == labels[3]) & (np.arange(50) != 3)
    others = np.arange(50) != 3
    expected = average_precision_score(relevant[others], cosine[3].numpy()[others])
    assert whole.precision[3] == pytest.approx(expected)


def test_a_class_with_one_example_has_no_precision():
    found = retrieve(torch.eye(3), np.array([0, 0, 1]))
    assert np.isfinite(found.precision[:2]).all()
    assert np.isnan(found.precision[2])


def test_dense_scores_by_hand_on_a_small_map():
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, UNKNOWN, UNKNOWN]])
    guess = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [2, 2, 2, 0], [2, 2, 1, 0]])
    counts = dense_counts(truth, guess, 4)
    assert counts.tolist() == [[3, 4, 5, 0], [4, 4, 6, 0], [4, 5, 5, 0]]
    scores = dense_scores(counts)
    assert scores["miou"] == pytest.approx((3 / 5 + 4 / 5 + 5 / 6) / 3)  # the fourth never occurs
    assert scores["macc"] == pytest.approx((3 / 4 + 1 + 5 / 6) / 3)
    assert scores["aacc"] == pytest.approx(12 / 14)
    assert class_ious(counts, "abcd") == pytest.approx({"a": 3 / 5, "b": 4 / 5, "c": 5 / 6})
    with pytest.raises(ValueError, match="class 7 is not among the 4 classes"):
        dense_counts(np.array([7]), np.array([0]), 4)
    assert np.isnan(dense_scores(np.zeros((3, 2)))["miou"])


def test_an_attentive_probe_of_parts_sees_no_token_beside_them():
    torch.manual_seed(0)
    probe, plain = AttentiveProbe(16, 3, 4, marked=True).eval(), AttentiveProbe(16, 3, 4).eval()
    plain.load_state_dict(probe.state_dict())
    tokens = torch.randn(5, 6, 16)
    marks = torch.zeros(5, 6, 1)
    marks[:, 2:4] = 1
    given = probe(torch.cat([tokens, marks], 2))
    torch.testing.assert_close(given, plain(tokens[:, 2:4]))
    elsewhere = torch.where(marks > 0, tokens, torch.randn(5, 6, 16))
    torch.testing.assert_close(given, probe(torch.cat([elsewhere, marks], 2)))


def test_an_attentive_probe_does_not_see_who_else_is_tested():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(64, 5, 16, generator=generator)
    labels = np.arange(64) % 2
    tokens[labels == 1, 2] += 2
    torch.manual_seed(0)
    probe = AttentiveProbe(16, 2)
    how = Optimisation(ATTENTIVE.lr, epochs=60, batch=16)
    predicted = classify(probe, tokens.numpy(), labels, tokens.numpy(), how=how)
    assert (predicted == labels).mean() > 0.9
    with torch.no_grad():
        whole = probe(tokens)
        order = torch.randperm(64, generator=generator)
        torch.testing.assert_close(probe(tokens[order]), whole[order])
        torch.testing.assert_close(torch.cat([probe(tokens[:1]), probe(tokens[1:])]), whole)


def test_a_linear_probe_learns_what_a_line_divides():
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    labels = (features[:, 0] > features[:, 1]).astype(np.int64)
    torch.manual_seed(0)
    how = Optimisation(0.4, epochs=50, batch=50)
    predicted = classify(LinearProbe(3, 2), features[:100], labels[:100], features[100:], how=how)
    assert (predicted == labels[100:]).mean() > 0.95
    with pytest.raises(ValueError, match="a probe needs two training items or more; there are 0"):
        classify(LinearProbe(3, 2), features[:0], labels[:0], features, how=how)


def test_intervals_resample_units_and_pair_them():
    sums = sums_of(["b", "a", "b"], np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))
    assert (sums.units, sums.values.tolist()) == (("a", "b"), [[0.0, 1.0], [1.0, 2.0]])

    def share(totals):
        return totals[..., 0] / totals[..., 1]

    assert interval_of(sums, share) is None  # two units are too few
    six = Sums(tuple("abcdef"), np.tile([[1.0, 2.0], [1.0, 1.0]], (3, 1)))
    low, high = interval_of(six, share)
    assert (low, high) == pytest.approx((6 / 11, 6 / 7))  # five of one kind; six: 1.6 % each
    names = tuple(f"p{number:02d}" for number in range(30))
    hard = Sums(names, np.stack([np.linspace(0, 9, 30), np.full(30, 10.0)], 1))
    easier = Sums(names, hard.values + np.array([1.0, 0.0]))
    value, (low, high) = difference_of(easier, hard, share)
    assert (value, low, high) == pytest.approx((0.1, 0.1, 0.1))  # each unit gains the same
    fewer = easier.of(names[1:])  # compared over the units of both
    assert difference_of(fewer, hard, share)[0] == pytest.approx(0.1)


def test_scores_that_are_never_defined_have_no_interval():
    nothing = Sums(tuple("abcdefg"), np.zeros((7, 2)))
    assert interval_of(nothing, lambda sums: np.full(len(sums), np.nan)) is None
