"""Figures of pairs and places hold the numbers that they were given."""

import numpy as np
import pytest

from biopart import figures


def test_matrices_are_sorted_by_where_the_patches_lie():
    starts = np.array([[20], [0], [10]])
    truth = (starts[None, :, 0] - starts[:, None, 0])[..., None] / 10.0
    figure = figures.matrices(truth, truth + 0.25, starts, ["time"])
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[:3]]
    expected = np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]])
    assert shown[0].tolist() == expected.tolist()
    assert shown[1].tolist() == (expected + 0.25).tolist()
    assert shown[2].tolist() == (expected - 0.25).tolist()  # turned round, the error turns too


def test_a_patch_is_pasted_where_it_is_put():
    pixels = np.arange(8 * 10, dtype=np.uint8).reshape(8, 10)
    starts, sizes = np.array([[0, 0], [2, 4]]), np.full((2, 2), 3)
    placed = {"moved": np.array([[1.5, 2.5], [-1.0, 6.0]])}
    figure = figures.pasted(pixels, starts, sizes, placed, marked=np.array([True, False]))
    moved = figure.axes[2].images
    assert tuple(moved[0].get_extent()) == (2.5, 5.5, 4.5, 1.5)  # x from, x to, y below, y above
    assert tuple(moved[1].get_extent()) == (6.0, 9.0, 2.0, -1.0)
    assert np.asarray(moved[1].get_array()).tolist() == pixels[2:5, 4:7].tolist()


def test_a_patch_outside_an_image_is_refused():
    pixels = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match=r"leaves the image of \(8, 8\)"):
        figures.pasted(pixels, np.array([[6, 0]]), np.array([[3, 3]]), {}, marked=np.array([False]))


def test_the_spread_of_a_patch_stands_over_its_place():
    spread, hinted = np.array([0.5, 2.0]), np.array([True, False])
    figure = figures.scattered(
        np.zeros(100), np.array([10, 60]), 20, spread, hinted=hinted, sfreq_hz=10.0
    )
    told, other = (line.get_segments()[0].tolist() for line in figure.axes[1].collections)
    assert told == [[1.0, 0.5], [3.0, 0.5]]
    assert other == [[6.0, 2.0], [8.0, 2.0]]


def test_stretches_are_as_long_as_predicted():
    figure = figures.stretched(
        np.array([0, 50]),
        np.array([10, 20]),
        np.array([5.0, 40.0]),
        np.array([20.0, 10.0]),
        sfreq_hz=10.0,
    )
    true, found = (c.get_segments() for c in figure.axes[0].collections)
    assert true[1].tolist() == [[5.0, 1.0], [7.0, 1.0]]
    assert found[1].tolist() == [[4.0, 1.35], [5.0, 1.35]]


def test_a_spectrogram_shows_a_tone_where_it_is_and_shades_bad_epochs():
    time = np.arange(4 * 200) / 20
    signal = np.where(time < 20, np.sin(2 * np.pi * 2 * time), np.sin(2 * np.pi * 6 * time))
    bad = np.array([False, True, False, False])
    figure = figures.spectrogram(
        signal, np.array([0.9, 0.5, 0.6, 0.7]), bad, sfreq_hz=20.0, epoch_s=10.0, start=None
    )
    above, below = figure.axes
    power = np.asarray(above.collections[0].get_array())
    edges = np.asarray(above.collections[0].get_coordinates())[:, 0, 1]
    assert edges[power.argmax(0)].tolist() == [2.0, 2.0, 6.0, 6.0]
    for axis in (above, below):
        (shaded,) = (
            axis.patches
            if axis is above
            else [p for p in axis.patches if p.get_label() == "flat, clipped or missing"]
        )
        left, right = shaded.get_x(), shaded.get_x() + shaded.get_width()
        assert (left * 3600, right * 3600) == pytest.approx((10.0, 20.0))


def test_epochs_are_drawn_from_their_own_samples():
    """The second channel lies one range, 9, below the first."""
    signal = np.stack([np.arange(30.0), np.zeros(30)])
    figure = figures.epochs_of(
        signal, [2, 0], ["a", "b"], sfreq_hz=1.0, epoch_s=10.0, names=["C3", "C4"]
    )
    drawn = [[line.get_ydata().tolist() for line in axis.lines] for axis in figure.axes]
    assert drawn == [[list(range(20, 30)), [-9.0] * 10], [list(range(10)), [-9.0] * 10]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["C3", "C4"]
    assert figure.axes[0].get_ylabel() == "9 per row"


def test_a_track_is_drawn_as_median_and_middle_of_each_epoch():
    values = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
    figure = figures.quality({"spread_s": values}, np.arange(6) * 10.0, epoch_s=30.0, start=None)
    (axis,) = figure.axes
    assert axis.lines[0].get_ydata().tolist() == [2.0, 20.0]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([0, 30 / 3600])
