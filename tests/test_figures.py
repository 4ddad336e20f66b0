"""Figures hold the numbers they were given."""

import base64
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart import figures
from biopart.figures import STAGES

PNG = b"\x89PNG\r\n\x1a\n"


def _rows() -> list[dict[str, float]]:
    rows = [
        {"step": step, "train/loss": 1 / (step + 1), "train/r2": step / 50} for step in range(50)
    ]
    rows[10]["validation/loss"] = 0.5
    rows[40]["validation/loss"] = 0.25
    return rows


def _lines(axis: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): _xy(axis, at) for at, line in enumerate(axis.get_lines())}


def _xy(axis: Axes, line: int) -> list[list[float]]:
    points: list[list[float]] = np.asarray(axis.get_lines()[line].get_xydata()).tolist()
    return points


def _outline(axis: Axes, collection: int) -> NDArray[np.float64]:
    """Give the corners (points, 2) of one filled area."""
    return np.asarray(axis.collections[collection].get_paths()[0].vertices, np.float64)


def test_curves_of_one_quantity_share_an_axis() -> None:
    names = ["train/loss", "validation/loss", "train/r2"]
    figure = figures.training_curves(_rows(), names, labels={"r2": "R2"}, references={"r2": 0.0})
    loss, r2 = figure.axes
    assert _lines(loss)["validation"] == [[10, 0.5], [40, 0.25]]
    assert _lines(loss)["train"] == [[step, 1 / (step + 1)] for step in range(50)]
    assert (loss.get_ylabel(), r2.get_ylabel(), r2.get_xlabel()) == ("loss", "R2", "step")
    assert _lines(r2)["chance"] == [[0, 0], [1, 0]]
    assert "chance" not in _lines(loss)


def test_curves_over_another_key_and_without_a_part() -> None:
    rows: list[dict[str, float | None]] = [
        {"epoch": 1.0, "lr": 0.1},
        {"epoch": 2.0, "lr": None},
        {"epoch": 3.0, "lr": 0.2},
    ]
    (axis,) = figures.training_curves(rows, ["lr"], x="epoch").axes
    assert _lines(axis) == {"lr": [[1, 0.1], [3, 0.2]]}
    assert axis.get_xlabel() == "epoch"


def test_curves_of_what_was_not_logged_are_refused() -> None:
    with pytest.raises(ValueError, match="No row holds train/mse and step; name some of step, "):
        figures.training_curves(_rows(), ["train/mse"])
    with pytest.raises(ValueError, match="No name was given"):
        figures.training_curves(_rows(), [])


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
    np.testing.assert_allclose(np.asarray(axis.images[0].get_array())[:2].sum(axis=1), 1.0)
    assert [text.get_text() for text in axis.get_xticklabels()] == ["a", "b", "c"]


def test_confusion_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\) was given for 3 label names"):
        figures.confusion([[1, 2], [3, 4]], ["a", "b", "c"])


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
    assert (scatter.get_xlim(), scatter.get_ylim()) == ((-3.0, 10.0), (-3.0, 10.0))


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


def test_sample_efficiency_draws_each_method_in_order_of_size() -> None:
    points = {"part": [(50, 0.7, 0.6, 0.8), (10, 0.5, 0.4, 0.6)], "mae": [(10, 0.4, 0.3, 0.5)]}
    (axis,) = figures.sample_efficiency(points).axes
    assert _lines(axis) == {"part": [[10, 0.5], [50, 0.7]], "mae": [[10, 0.4]]}
    assert [text.get_text() for text in axis.get_xticklabels()] == ["10", "50"]
    assert axis.get_xscale() == "log"
    band = _outline(axis, 0).tolist()
    assert all(corner in band for corner in ([10, 0.4], [10, 0.6], [50, 0.6], [50, 0.8]))


def test_sample_efficiency_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="1 methods, some or all empty"):
        figures.sample_efficiency({"part": []})


def test_html_holds_a_png_and_says_what_it_shows() -> None:
    figure = Figure()
    figure.set_label('a "<b>" figure')
    text = figures.to_html(figure)
    data = text.split("base64,")[1].split('"')[0]
    assert base64.b64decode(data).startswith(PNG)
    assert 'alt="a &quot;&lt;b&gt;&quot; figure"' in text


def test_saved_figure_is_a_png_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    figure = figures.confusion([[1, 0], [0, 1]], ["a", "b"])
    figures.save(figure, tmp_path / "new" / "confusion.png")
    assert (tmp_path / "new" / "confusion.png").read_bytes().startswith(PNG)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["confusion.png"]


def test_failed_write_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "old.png"
    path.write_bytes(b"old")
    figure = Figure()
    figure.text(0.5, 0.5, "$\\frac$")  # not valid mathtext: drawing fails
    with pytest.raises(ValueError, match="frac"):
        figures.save(figure, path)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("old.png", b"old")
    ]


def test_other_picture_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"curve\.pdf was given; figures are written as PNG"):
        figures.save(Figure(), tmp_path / "curve.pdf")
