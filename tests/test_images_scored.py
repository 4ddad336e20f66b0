"""Scores of images: by hand, and blocks that hold each image once."""

import numpy as np
import pytest

from biopart.evaluation.images import score_images


def test_images_are_scored_with_intervals_over_images() -> None:
    truth = np.repeat([0, 1, -1], [60, 40, 5])
    predicted = np.concatenate([np.repeat([0, 1], [45, 15]), np.repeat([0, 1], [5, 35]), [0] * 5])
    found = score_images(truth, predicted, ["cat", "dog"])
    assert (found["n_images"], found["accuracy"]) == (100, 0.8)
    assert found["confusion"] == [[45, 15], [5, 35]]
    assert found["kappa"] == pytest.approx((0.8 - 0.5) / 0.5)  # 0.6 * 0.5 + 0.4 * 0.5 by chance
    low, high = found["accuracy_ci95"]  # a binomial's deviation is 0.04
    assert (low, high) == (pytest.approx(0.8 - 0.0784, abs=0.015), pytest.approx(0.8784, abs=0.015))
    assert found["kappa_ci95"][0] < 0.6 < found["kappa_ci95"][1]
    assert not [key for key in found if "person" in key]


def test_blocks_hold_every_image_once_and_all_classes_whatever_was_predicted() -> None:
    truth = np.repeat([0, 1, 2, -1], [50, 30, 20, 3])
    names = ["a", "b", "c"]
    one, two = (
        score_images(truth, np.random.default_rng(seed).integers(0, 3, 103), names)
        for seed in (0, 1)
    )
    blocks = np.array(list(one["confusion_by_block"].values()))
    assert blocks.shape == (16, 3, 3)  # 100 images // (2 * 3 classes)
    assert blocks.sum(0).tolist() == one["confusion"]
    assert (blocks.sum(2) > 0).all()  # every block has every class
    sizes = blocks.sum((1, 2))
    assert sizes.max() - sizes.min() <= 1
    again = np.array(list(two["confusion_by_block"].values()))
    assert (again.sum(2) == blocks.sum(2)).all()


def test_blocks_are_at_most_forty_and_at_least_one() -> None:
    many = np.arange(2000) % 2
    assert len(score_images(many, many, ["a", "b"])["confusion_by_block"]) == 40
    few = np.array([0, 1, 0])
    assert list(score_images(few, few, ["a", "b"])["confusion_by_block"]) == ["block 00"]
