"""Figures on a page: drawings as SVG in its colours, pixels as PNG, every one with a text."""

import base64
import io
import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from biopart import figures
from biopart.figures import STAGE_COLOURS, THEME, markup

PAPER = ("#ffffff", THEME["#ffffff"])
# Machado, Oliveira & Fernandes 2009, doi 10.1109/TVCG.2009.113, severity 1; linear RGB.
VISION = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def linear(colour: str) -> NDArray[np.float64]:
    """Return linear RGB of a hexadecimal colour."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CIE L*a*b* (D65) of linear RGB."""
    matrix = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = np.array(matrix) @ rgb.clip(0, 1) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def curve(label: str = "") -> Figure:
    rows = [{"step": step, "train/loss": 1 / (step + 1)} for step in range(30)]
    figure = figures.training_curves(rows, ["train/loss"])
    if label:
        figure.set_label(label)
    return figure


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("stage", STAGE_COLOURS)
def test_stages_stand_out_from_the_page(stage: str, dark: bool) -> None:
    assert contrast(STAGE_COLOURS[stage][dark], PAPER[dark]) >= 3


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("vision", VISION)
def test_stages_differ_for_every_colour_vision(vision: str, dark: bool) -> None:
    seen = [lab(np.array(VISION[vision]) @ linear(pair[dark])) for pair in STAGE_COLOURS.values()]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 18


@pytest.mark.parametrize("colour", ["#000000", "#555555", "#8a2d00", "#0072b2", "#d55e00"])
def test_lines_and_text_are_readable_in_the_dark(colour: str) -> None:
    assert contrast(THEME[colour], PAPER[1]) >= 4.5


def test_a_drawing_is_an_svg_that_follows_the_page() -> None:
    text = figures.to_html(curve('a "<b>" figure'))
    assert text.startswith('<svg class="drawing" role="img" aria-label="a &quot;&lt;b&gt;&quot; f')
    assert "stroke: var(--c-0072b2, #0072b2)" in text
    assert ">loss</text>" in text
    assert not re.search(r"http|xlink|<style|<metadata|font-family|(fill|stroke): #", text)


def test_the_same_figure_gives_the_same_text_and_another_other_ids() -> None:
    first, other = figures.to_html(curve("one")), figures.to_html(curve("two"))
    assert first == figures.to_html(curve("one"))
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (first, other)]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', first))
    assert used == ids[0]
    assert not ids[0] & ids[1]


def test_colours_of_a_map_keep_and_get_a_card() -> None:
    text = figures.to_html(figures.confusion([[1, 0], [0, 1]], ["a", "b"]))
    assert text.startswith('<svg class="drawing card"')
    assert "var(--c-" not in text


def test_pixels_become_a_png_with_a_text() -> None:
    figure = figures.spectrogram(
        np.random.default_rng(0).standard_normal(3000),
        np.full(10, 0.5),
        np.zeros(10, bool),
        sfreq_hz=10.0,
        epoch_s=30.0,
        start=None,
    )
    text = figures.to_html(figure)
    data = text.split("base64,")[1].split('"')[0]
    assert base64.b64decode(data).startswith(b"\x89PNG\r\n\x1a\n")
    assert 'alt="Spectrogram: power in decibels by frequency (0 to 5 Hz) and time' in text


def test_a_drawing_of_very_many_points_becomes_a_png() -> None:
    figure = Figure()
    figure.subplots().plot(np.random.default_rng(0).standard_normal(5000), "o")
    assert figures.to_html(figure).startswith('<img class="drawing" src="data:image/png')


def test_lines_of_very_many_points_are_not_drawn_as_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "_svg", lambda *_: pytest.fail("drawn as SVG"))
    figure = Figure((4, 3))
    figure.subplots().plot(np.random.default_rng(0).standard_normal((1000, 61)))
    assert markup.count_points(figure) > 61_000
    data = figures.to_html(figure).split("base64,")[1].split('"')[0]
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (4 * 165, 3 * 165)
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_long_night_stays_small() -> None:
    stages = np.random.default_rng(0).integers(0, 5, 960)
    text = figures.to_html(figures.hypnogram(stages, stages, np.eye(5)[stages]))
    assert text.startswith("<svg")
    assert len(text) < 300_000


def test_a_hypnogram_says_how_often_each_stage_occurs() -> None:
    label = figures.hypnogram(np.array([0, 2, 2, -1])).get_label()
    assert label == (
        "Hypnogram: W, R, N1, N2, N3 from the top, against time; "
        "epochs scored: W 1, R 0, N1 0, N2 2, N3 0; 4 epochs"
    )
