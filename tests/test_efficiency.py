"""Figures over labelled persons hold the numbers they were given."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart import figures
from biopart.figures import Panel

MANY = {f"m{n}": [(1, 0.1 * n, 0.05 * n, None), (10, 0.2, 0.1, 0.3)] for n in range(9)}


def _lines(axis: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axis.lines}


def _points(axis: Axes) -> dict[str, list[list[float]]]:
    """Give the named lines without those of hollow markers."""
    return {name: line for name, line in _lines(axis).items() if not name.startswith("_")}


def _outline(axis: Axes, collection: int) -> NDArray[np.float64]:
    """Give the corners (points, 2) of one filled area."""
    return np.asarray(axis.collections[collection].get_paths()[0].vertices, np.float64)


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_sample_efficiency_draws_each_method_in_order_of_size() -> None:
    points = {"part": [(50, 0.7, 0.6, 0.8), (10, 0.5, 0.4, 0.6)], "mae": [(10, 0.4, 0.3, 0.5)]}
    (axis,) = figures.sample_efficiency(points).axes
    assert _points(axis) == {"part": [[10, 0.5], [50, 0.7]], "mae": [[10, 0.4]]}
    assert [text.get_text() for text in axis.get_xticklabels()] == ["10", "50"]
    assert axis.get_xscale() == "log"
    band = _outline(axis, 0).tolist()
    assert all(corner in band for corner in ([10, 0.4], [10, 0.6], [50, 0.6], [50, 0.8]))


def test_sample_efficiency_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="1 methods, some or all empty"):
        figures.sample_efficiency({"part": []})


def test_many_methods_stand_beside_their_size_and_beside_each_other() -> None:
    (axis,) = figures.sample_efficiency(MANY).axes
    places = np.array(list(_points(axis).values()))[:, :, 0]
    assert len(np.unique(places)) == 18
    np.testing.assert_allclose(places[4], [1, 10])  # the middle one stands on its size
    np.testing.assert_allclose(places[0] * places[8], [1, 100])  # the outer ones as far from it
    assert places[:, 0].max() ** 2 < 10  # nearer to their own size than to the next


def test_paper_is_drawn_thin_without_markers_in_the_colour_of_its_method() -> None:
    points = {"part": [(10, 0.5, None, None)]}
    paper = {"part": {50: 0.67, 10: 0.64}}
    (axis,) = figures.sample_efficiency(points, published=paper).axes
    assert _points(axis)["part (paper)"] == [[10, 0.64], [50, 0.67]]
    mine, drawn = (line for line in axis.lines if not str(line.get_label()).startswith("_"))
    assert drawn.get_linewidth() < mine.get_linewidth()
    assert (drawn.get_marker(), drawn.get_color()) == ("None", mine.get_color())


def test_baselines_are_grey_and_broken_lines_others_have_looks_of_their_own() -> None:
    (axis,) = figures.sample_efficiency(MANY, baselines=("m7", "m8")).axes
    drawn = {str(line.get_label()): line for line in axis.lines}
    assert [drawn[f"m{n}"].get_linestyle() for n in (0, 7, 8)] == ["-", "--", ":"]
    assert drawn["m7"].get_color() == drawn["m8"].get_color() == "#777777"
    looks = {(to_hex(drawn[f"m{n}"].get_color()), drawn[f"m{n}"].get_marker()) for n in range(9)}
    assert len(looks) == 9


def test_panels_share_one_legend_and_the_colour_of_a_method() -> None:
    gaps = {"m1": [(1, 0.0, -0.1, 0.1)], "m2": [(1, -0.2, -0.3, -0.1)]}
    figure = figures.comparison([Panel(MANY, "kappa"), Panel({}, "probe"), Panel(gaps, "gap")])
    above, below = figure.axes
    assert _legend(figure) == list(MANY)
    colours = [{str(x.get_label()): x.get_color() for x in axis.lines} for axis in (above, below)]
    assert colours[0]["m2"] == colours[1]["m2"]
    assert (above.get_ylabel(), below.get_ylabel()) == ("kappa", "gap")


def test_hollow_markers_are_those_that_are_not_named() -> None:
    gaps = {"mae": [(1, 0.1, 0.0, 0.2), (5, -0.2, -0.3, -0.1)]}
    panel = Panel(gaps, "gap", filled=frozenset({("mae", 5)}), zero=True)
    (axis,) = figures.comparison([panel]).axes
    (hollow,) = [x for x in axis.lines if x.get_markerfacecolor() == "white"]
    assert np.asarray(hollow.get_xydata()).tolist() == [[1, 0.1]]
    assert [0, 0] in [list(line.get_ydata()) for line in axis.lines]


def test_one_size_is_drawn_as_a_line_of_dots_per_method() -> None:
    points = {"part": [(5, 0.6, 0.5, 0.7)], "mae": [(5, 0.4, None, None)]}
    (axis,) = figures.comparison([Panel(points, "kappa", published={"part": {5: 0.64}})]).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["part", "mae"]
    dots = [np.asarray(line.get_xydata()).tolist() for line in axis.lines]
    assert [[0.6, 0]] in dots
    assert [[0.4, 1]] in dots
    spans = [path.vertices.tolist() for c in axis.collections for path in c.get_paths()]
    assert spans == [[[0.5, 0], [0.7, 0]], [[0.64, -0.35], [0.64, 0.35]]]


def test_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 methods, some or all empty"):
        figures.comparison([Panel({}, "kappa")])
