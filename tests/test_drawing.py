"""Figures leave as PNG files, whole or not at all."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from biopart import figures

PNG = b"\x89PNG\r\n\x1a\n"


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
