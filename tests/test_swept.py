"""Figures over the values of a setting: to scale, on a log axis, or in a row of names."""

import pytest

from biopart import figures

ROWS = [{"kappa": 0.5, "ci": [0.4, 0.6]}, {"kappa": 0.7, "ci": [None, None]}, {"r2": 0.1}]


def test_numbers_stand_to_scale_and_far_ones_on_a_log_axis() -> None:
    near, far = (
        figures.over_values(ROWS, values, {"kappa": "Cohen's kappa"}, xlabel="pairs").axes[0]
        for values in ([10, 20, 40], [10, 40, 160])
    )
    assert (near.get_xscale(), far.get_xscale()) == ("linear", "log")
    assert list(near.lines[0].get_xdata()) == [10, 20]  # the third row has no kappa
    assert list(near.lines[0].get_ydata()) == [0.5, 0.7]
    assert [label.get_text() for label in far.get_xticklabels()] == ["10", "40", "160"]
    assert (far.get_xlabel(), far.get_ylabel()) == ("pairs", "Cohen's kappa")


def test_names_stand_in_a_row() -> None:
    values = ["mlp", [1, 2], True]
    axis = figures.over_values(ROWS, values, {"kappa": "k"}, xlabel="head").axes[0]
    assert list(axis.get_xticks()) == [0, 1, 2]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["mlp", "[1, 2]", "True"]


def test_known_intervals_are_drawn_and_each_name_has_its_axis() -> None:
    names = {"kappa": "k", "r2": "R2"}
    figure = figures.over_values(ROWS, [1, 2, 3], names, xlabel="x", intervals={"kappa": "ci"})
    left, right = figure.axes
    (bar,) = left.collections
    assert bar.get_segments()[0].tolist() == [[1.0, 0.4], [1.0, 0.6]]
    assert list(right.collections) == []
    assert figure.get_label() == "Charts over x: k (1: 0.5, 2: 0.7); R2 (3: 0.1)"


def test_values_that_do_not_fit_the_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows, 1 values and 1 names were given"):
        figures.over_values(ROWS, [1], {"kappa": "k"}, xlabel="x")
