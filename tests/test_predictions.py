"""Hypnograms and confusion matrices hold the numbers they were given."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray

from biopart import figures
from biopart.codes import STAGES


def _xy(axis: Axes, line: int) -> list[list[float]]:
    points: list[list[float]] = np.asarray(axis.get_lines()[line].get_xydata()).tolist()
    return points


def _outline(axis: Axes, collection: int) -> NDArray[np.float64]:
    """Give the corners (points, 2) of one filled area."""
    return np.asarray(axis.collections[collection].get_paths()[0].vertices, np.float64)


def test_hypnogram_steps_in_the_usual_order_with_gaps() -> None:
    truth = np.array([0, 1, 2, -1, 3, 4])
    (axis,) = figures.hypnogram(truth, epoch_s=1800.0).axes
    steps = axis.get_lines()[0]
    np.testing.assert_array_equal(steps.get_ydata(), [0, 2, 3, np.nan, 4, 1, 1])
    np.testing.assert_array_equal(steps.get_xdata(), np.arange(7) * 0.5)
    assert [text.get_text() for text in axis.get_yticklabels()] == ["W", "R", "N1", "N2", "N3"]
    assert axis.get_ylim() == (4.5, -0.5)
    assert "(h)" in axis.get_xlabel()


def test_hypnogram_bars_cover_the_epochs_of_their_stage() -> None:
    (axis,) = figures.hypnogram(np.array([2, 2, -1, 2]), epoch_s=3600.0).axes
    bar = [point for point in _xy(axis, 1 + STAGES.index("N2")) if np.isfinite(point[1])]
    assert bar == [[0, 3], [1, 3], [1, 3], [2, 3], [3, 3], [4, 3]]


def test_hypnogram_has_a_panel_for_each_thing_given() -> None:
    stages = np.array([0, 1, 2, 2])
    probability = np.eye(5)[stages]
    figure = figures.hypnogram(stages, stages, probability)
    assert [axis.get_ylabel() for axis in figure.axes] == ["scored", "predicted", "probability"]
    legend = figure.axes[2].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["W", "R", "N1", "N2", "N3"]
    assert len(figures.hypnogram(None, stages).axes) == 1


def test_probabilities_are_stacked_up_to_one() -> None:
    probability = np.array([[0.5, 0.1, 0.2, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]])
    (axis,) = figures.hypnogram(None, None, probability, epoch_s=3600.0).axes
    assert _outline(axis, 4)[:, 1].max() == pytest.approx(1.0)
    assert _outline(axis, 0)[:, 1].max() == pytest.approx(0.2)  # N3, in epoch 2


def test_hypnogram_takes_other_label_names_in_their_own_order() -> None:
    (axis,) = figures.hypnogram(np.array([0, 1, 0]), label_names=["rest", "arithmetic"]).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["rest", "arithmetic"]
    np.testing.assert_array_equal(axis.get_lines()[0].get_ydata(), [0, 1, 0, 0])


def test_hypnogram_refuses_unequal_and_unnamed_epochs() -> None:
    with pytest.raises(ValueError, match="Epochs given: 3 scored, 2 predicted;"):
        figures.hypnogram(np.zeros(3, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="Epochs given: none"):
        figures.hypnogram(None)
    with pytest.raises(ValueError, match="Stages 0 to 5 were given with 5 label names"):
        figures.hypnogram(np.array([0, 5]))


def test_confusion_shows_shares_of_the_row_and_counts() -> None:
    figure = figures.confusion([[30, 10, 0], [0, 5, 15], [0, 0, 0]], ["a", "b", "c"])
    axis = figure.axes[0]
    texts = [text.get_text() for text in axis.texts]
    assert texts[:6] == ["75%\n30", "25%\n10", "0%\n0", "0%\n0", "25%\n5", "75%\n15"]
    assert texts[6:] == ["-", "-", "-"]
    np.testing.assert_allclose(np.asarray(axis.collections[0].get_array())[:2].sum(axis=1), 1.0)
    assert [text.get_text() for text in axis.get_xticklabels()] == ["a", "b", "c"]


def test_confusion_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\) was given for 3 label names"):
        figures.confusion([[1, 2], [3, 4]], ["a", "b", "c"])
