"""The page of a curve tells the verdict first, shows every training, and loads nothing."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from biopart.pages import BANNER
from biopart.studies.compare.page import drawn, picture, points, publish_curve
from biopart.studies.compare.table import Comparison, Scored
from biopart.studies.compare.verdict import verdict

EIGHT = (2, 3, 4, 5, 6, 7, 8, 9)
BETTER = (3, 5, 7, 8, 8, 9, 9, 10)


def _score(right: Sequence[int], persons: Sequence[str] = ("t0",)) -> dict[str, Any]:
    """Score persons p0, p1 ... of 20 windows in two classes; kappa of a person = right / 5 - 1."""
    mean = sum(right) / len(right) / 5 - 1
    confusions = {f"p{at}": [[r, 10 - r], [10 - r, r]] for at, r in enumerate(right)}
    result = {"kappa": mean, "kappa_mean": mean, "macro_f1": 0.5, "accuracy": 0.25}
    return result | {"confusion_by_person": confusions, "train_persons": list(persons)}


def _curve(
    methods: dict[str, Sequence[int]], sizes: Sequence[int] = (1, 2), **changes: Any
) -> Comparison:
    trainings = [
        Scored(
            method,
            size,
            seed,
            _score(right, [f"t{n}" for n in range(size)]) | {"warnings": ["few windows of N1"]},
            _score(right) if method in ("part", "mae") else None,
        )
        for method, right in methods.items()
        for size in sizes
        for seed in (0, 1)
    ]
    curve = Comparison(
        "night <1>", "person", tuple(trainings), {}, (), (), False, {}, {"a": 1}, {"b": 2}
    )
    return replace(curve, **changes)


class _Page(HTMLParser):
    """Tags, attributes of images, and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "svg":
            self.text += "[picture]"
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(tmp_path: Path, curve: Comparison) -> _Page:
    publish_curve(tmp_path, curve)
    return _Page(tmp_path / "curve.html")


ALL = {"part": EIGHT, "mae": BETTER, "supervised": EIGHT, "untrained": EIGHT, "band-powers": EIGHT}


def test_page_tells_the_verdict_before_the_picture(tmp_path: Path) -> None:
    curve = _curve(ALL)
    page = _page(tmp_path, curve)
    before, _ = page.text.split("[picture]")
    assert all(sentence in before for sentence in verdict(curve))
    assert "Sample efficiency: night <1>" in before
    assert "For research; not a medical device." in page.text


def test_page_loads_nothing_and_describes_its_picture(tmp_path: Path) -> None:
    page = _page(tmp_path, _curve(ALL))
    assert not page.tags & {"script", "link", "iframe"}
    (image,) = page.images
    assert image["role"] == "img"
    assert "Paired differences from PART" in str(image["aria-label"])
    assert "http" not in page.text


def test_page_shows_figures_with_intervals_and_marks_what_is_significant(tmp_path: Path) -> None:
    text = _page(tmp_path, _curve({"part": EIGHT, "mae": BETTER, "mp3": EIGHT}, (5,))).text
    _, gaps = text.split("significant mae5")
    mae, mp3 = gaps.split("Each test")[0].split(" mp35")
    assert mae.startswith("+0.375 (+0.")
    assert mae.endswith("0.0080.00882yes")  # p, adjusted p, persons, seeds
    nothing = "(+0.000 to +0.000)"  # of persons and seeds, pooled, of the seeds alone
    assert mp3.strip() == f"+0.000 {nothing}+0.000 {nothing} {nothing}no testno test82no"


def test_page_of_simulated_recordings_has_a_banner_and_others_have_none(tmp_path: Path) -> None:
    shown = _page(tmp_path, _curve(ALL, simulated=True))
    assert shown.text.count(BANNER) >= 2
    assert BANNER in str(shown.images[0]["aria-label"])
    assert "Simulated" not in _page(tmp_path, _curve(ALL)).text


def test_page_names_failed_and_missing_trainings_notes_and_warnings(tmp_path: Path) -> None:
    curve = _curve(
        ALL,
        failed={"mp3-s1-seed0": "ValueError: the loss is NaN <step 3>"},
        missing=("mp3-s2-seed0",),
        notes=("20 persons were asked for",),
    )
    text = _page(tmp_path, curve).text
    assert "mp3-s1-seed0: ValueError: the loss is NaN <step 3>" in text
    assert "Not done yet (1): mp3-s2-seed0" in text
    assert "20 persons were asked for" in text
    assert "few windows of N1 (20 of 20 trainings)" in text


@pytest.mark.parametrize(
    ("methods", "sizes", "sentence"),
    [
        (
            {"mae": EIGHT, "untrained": EIGHT},
            (1, 2),
            "No method shares a size and a seed with PART.",
        ),
        ({"part": EIGHT}, (5,), "No method shares a size and a seed with PART."),
        (
            {"part": [4], "mae": [6]},
            (5,),
            "Each test, over 1 test person, can reach p = 1 at best.",
        ),
        (
            {"part": EIGHT, "mae": BETTER},
            (5,),
            "Each test, over 8 test persons, can reach p = 0.0078",
        ),
    ],
)
def test_page_of_an_uncommon_curve_is_whole(
    tmp_path: Path, methods: dict[str, Sequence[int]], sizes: Sequence[int], sentence: str
) -> None:
    page = _page(tmp_path, _curve(methods, sizes))
    assert sentence in page.text
    assert len(page.images) == 1


def test_page_of_undefined_kappas_has_dashes(tmp_path: Path) -> None:
    curve = _curve({"part": EIGHT, "mae": BETTER}, (5,))
    for training in curve.trainings:
        training.result["kappa_mean"] = None  # type: ignore[index]
    assert "\N{EN DASH}" in _page(tmp_path, curve).text


def test_picture_has_panels_for_kappa_probes_and_differences() -> None:
    figure = picture(_curve(ALL))
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "Cohen's kappa on test persons",
        "kappa of a linear probe",
        "difference of kappa from PART",
    ]
    drawn_below = {str(line.get_label()) for line in figure.axes[1].lines}
    assert drawn_below >= {"part", "mae", "untrained", "band-powers"}
    assert "supervised" not in drawn_below


def test_picture_leaves_out_panels_without_figures() -> None:
    assert len(picture(_curve({"supervised": EIGHT})).axes) == 1
    assert len(picture(_curve({"supervised": EIGHT, "untrained": EIGHT})).axes) == 1


def test_points_without_a_value_are_not_drawn() -> None:
    table = [
        {"method": "part", "size": 1, "kappa": None, "ci95": [None, None]},
        {"method": "part", "size": 2, "kappa": 0.5, "ci95": [None, None]},
    ]
    assert points(table, "kappa", "ci95") == {"part": [(2, 0.5, None, None)]}


def test_persons_are_told_by_the_size_that_first_takes_them() -> None:
    rows = drawn(_curve(ALL, (1, 3)))
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["added"] == {1: ["t0"], 3: ["t1", "t2"]}
    assert rows[0]["nested"] is rows[0]["alike"] is True


def test_persons_that_differ_are_found_and_said(tmp_path: Path) -> None:
    curve = _curve({"part": EIGHT, "mae": EIGHT}, (1, 3))
    curve.trainings[0].result["train_persons"][:] = ["t9"]
    row = drawn(curve)[0]
    assert (row["nested"], row["alike"]) == (False, False)
    text = _page(tmp_path, curve).text
    assert "With the seeds 0, the methods had different persons: " in text
    assert "With the seeds 0, a larger subset does not contain the smaller one." in text
