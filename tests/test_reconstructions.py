"""Reconstructions hold the numbers they were given."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from biopart import figures


def _xy(axis: Axes, line: int) -> list[list[float]]:
    points: list[list[float]] = np.asarray(axis.get_lines()[line].get_xydata()).tolist()
    return points


def test_reconstruction_moves_the_true_signal_to_the_predicted_place() -> None:
    window = np.random.default_rng(0).standard_normal((1, 100))
    figure = figures.reconstruction(
        window, np.array([10, 60]), np.array([20.5, 55.0]), 5, sfreq_hz=10.0
    )
    above, scatter, below = figure.axes
    cut, moved = np.array(_xy(above, 1)), np.array(_xy(below, 1))
    np.testing.assert_allclose(cut[:, 0], [1.0, 1.1, 1.2, 1.3, 1.4])
    np.testing.assert_allclose(moved[:, 0], [2.05, 2.15, 2.25, 2.35, 2.45])
    np.testing.assert_array_equal(moved[:, 1], cut[:, 1])
    assert np.corrcoef(cut[:, 1], window[0, 10:15])[0, 1] == pytest.approx(1.0)
    offsets = np.asarray(scatter.collections[0].get_offsets())
    np.testing.assert_allclose(offsets, [[1.0, 2.05], [6.0, 5.5]])


def test_reconstruction_draws_every_channel_and_keeps_far_places_in_sight() -> None:
    window = np.random.default_rng(0).standard_normal((3, 100))
    figure = figures.reconstruction(window, np.array([0]), np.array([-30]), 10, sfreq_hz=10.0)
    above, scatter, _ = figure.axes
    assert len(above.get_lines()) == 3 + 3
    for limits in (scatter.get_xlim(), scatter.get_ylim()):
        assert limits == pytest.approx((-3.52, 10.52))  # -3 to 10 and a margin of 4 %


@pytest.mark.parametrize(
    ("starts", "placed", "message"),
    [([0, 95], [0, 0], "start at 0 to 95 in a window"), ([0], [0, 1], "1 true and 2 predicted")],
)
def test_reconstruction_refuses_patches_outside(
    starts: list[int], placed: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        figures.reconstruction(
            np.zeros((1, 100)), np.array(starts), np.array(placed), 10, sfreq_hz=10.0
        )
