"""The demonstration says on every page that its nights are simulated, and shows what was stored."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biopart
from biopart.recipe import load_recipe
from biopart.run import Run
from biopart.studies.demo.demo import is_current, pretrained, run_demo, table
from biopart.studies.demo.page import BANNER, Placed

TINY = (
    "compute.threads=1",
    "compute.precision=float32",
    "encoder.dim=16",
    "encoder.depth=1",
    "encoder.heads=2",
    "pretrain.steps=4",
    "pretrain.validate_every=1",
    "pretrain.objective.patches=8",
    "pretrain.objective.position_hint=0.25",
    "pretrain.objective.pairs=20",
    "finetune.epochs=1",
    "split.test_persons=2",
    "split.validation_persons=1",
)


def _demo(out: Path) -> dict[str, Any]:
    return run_demo(out, lambda line: None, persons=6, hours=0.25, sizes=(1, 2), changes=TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder to work in, so that runs/latest does not land in the checkout."""
    place = tmp_path_factory.mktemp("work")
    with chdir(place):
        yield place / "shown"


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, Any]:
    """Run a tiny demonstration once."""
    return _demo(folder)


class _Page(HTMLParser):
    """Text of each section, whether it holds figures, and all images' attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.images: list[tuple[int, dict[str, str | None]]] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "section":
            self._inside = True
            self.sections.append("")
        if tag in ("img", "svg"):
            self.images.append((len(self.sections) - 1, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "section"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.sections[-1] += data


@pytest.fixture(scope="module")
def text(shown: dict[str, Any]) -> str:
    """Give the page's text."""
    return Path(shown["page"]).read_text(encoding="utf-8")


def test_banner_says_that_no_figure_is_a_result(text: str) -> None:
    banner = re.search(r'<p class="banner"[^>]*>(.*?)</p>', text)
    assert banner is not None
    assert banner.group(1) == "Simulated nights: no number on this page is a result"


def test_every_section_and_picture_says_simulated(text: str) -> None:
    page = _Page(text)
    assert len(page.sections) == 6
    assert all("simulated" in section.lower() for section in page.sections)
    assert all(
        "Simulated" in str(image.get("aria-label") or image["alt"]) for _, image in page.images
    )


def test_page_holds_its_seven_pictures_and_loads_nothing(text: str) -> None:
    page = _Page(text)
    assert [section for section, _ in page.images] == [0, 0, 1, 1, 2, 3, 3]
    assert all(str(i["class"]).startswith("drawing") for _, i in page.images)
    assert not page.tags & {"script", "link", "iframe"}
    assert len(text) < 1_500_000


def test_table_holds_the_figures_of_the_finetunings(folder: Path, text: str) -> None:
    for size in (1, 2):
        cells = []
        for prefix in ("", "scratch-"):
            path = folder / "run" / "finetune" / f"{prefix}s{size}-seed0" / "result.json"
            found = json.loads(path.read_text())
            low, high = found["kappa_ci95"]
            span = f'<span class="interval">({low:.2f} to {high:.2f})</span>'
            cells.append(f"<td>{found['kappa']:.2f} {span}</td>")
        row = f'<tr><th scope="row" class="count">{size}</th>{"".join(cells)}</tr>'
        assert row in text


def test_page_names_no_other_place_of_the_machine(folder: Path, text: str) -> None:
    assert str(folder) in text
    outside = re.sub(r"base64,[^\"]*", "", text).replace(str(folder), "")
    for place in (Path.home(), sys.prefix, Path(biopart.__file__).parents[1], folder.parent):
        assert str(place) not in outside
    assert not re.search(r"[\s\"'>](/(?:home|root|tmp|usr|var|opt|Users)/)", outside)


def test_pictures_for_the_readme_are_small(shown: dict[str, Any]) -> None:
    names = [Path(picture).name for picture in shown["pictures"]]
    assert names == ["demo-hypnogram.png", "demo-reconstruction.png"]
    assert all(Path(picture).stat().st_size < 200_000 for picture in shown["pictures"])


def test_second_call_takes_everything_as_it_is(folder: Path, shown: dict[str, Any]) -> None:
    before = (folder / "run" / "encoder.safetensors").stat().st_mtime_ns
    again = _demo(folder)
    assert set(again["seconds"].values()) == {None}
    assert again["rows"] == shown["rows"]
    assert (folder / "run" / "encoder.safetensors").stat().st_mtime_ns == before
    assert "taken from an earlier call" in Path(again["page"]).read_text(encoding="utf-8")


def test_pretraining_that_was_stopped_goes_on(folder: Path, shown: dict[str, Any]) -> None:
    encoder = folder / "run" / "encoder.safetensors"
    weights = encoder.read_bytes()
    encoder.unlink()
    again = _demo(folder)
    assert again["seconds"]["pretrain"] is not None
    assert again["seconds"]["prepare"] is None
    assert encoder.read_bytes() == weights


def test_run_of_another_recipe_is_not_taken(folder: Path, shown: dict[str, Any]) -> None:
    run = Run(folder / "run")
    recipe = load_recipe(run.path / "recipe.yaml")
    assert is_current(run, recipe)
    assert not is_current(run, load_recipe(run.path / "recipe.yaml", ["seed=1"]))
    assert not is_current(Run(folder / "nowhere"), recipe)


def test_foreign_files_in_the_place_of_the_run_are_left_alone(tmp_path: Path) -> None:
    note = tmp_path / "run" / "note.txt"
    note.parent.mkdir()
    note.write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a run"):
        pretrained(load_recipe("demo"), note.parent, print)
    assert note.read_text() == "mine"


def test_error_counts_unhinted_patches_only() -> None:
    starts, placed = np.array([[0, 10, 50]]), np.array([[0.0, 14.0, 44.0]])
    hinted = np.array([[True, False, False]])
    found = Placed(np.zeros((1, 1, 60), np.float32), starts, placed, hinted)
    assert found.error == 5.0  # (4 + 6) / 2
    assert found.guess == 20.0  # the middle is 20: (10 + 30) / 2


def test_table_begins_with_the_banner(shown: dict[str, Any]) -> None:
    lines = table(shown)
    assert lines[0] == f"{BANNER}."
    assert [line.split()[0] for line in lines[2:4]] == ["1", "2"]
    assert lines[-1] == "Cohen's kappa of 2 simulated test persons, intervals over persons"
