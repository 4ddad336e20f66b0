"""Curves over steps hold the numbers they were given."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from biopart import figures


def _rows() -> list[dict[str, float]]:
    rows = [
        {"step": step, "train/loss": 1 / (step + 1), "train/r2": step / 50} for step in range(50)
    ]
    rows[10]["validation/loss"] = 0.5
    rows[40]["validation/loss"] = 0.25
    return rows


def _lines(axis: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axis.lines}


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
