"""The demonstration says on every page that its nights are simulated, and shows what was stored."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import biopart
from biopart.recipe import load_recipe
from biopart.run import Run
from biopart.studies.demo.demo import is_current, pretrained, run_demo, table
from biopart.studies.demo.page import BANNER, verdict

PATCH_S = 0.5  # of the recipe
TINY = (
    "data.window_s=2",
    "compute.threads=1",
    "compute.precision=float32",
    "encoder.dim=16",
    "encoder.depth=1",
    "encoder.heads=2",
    "pretrain.steps=4",
    "pretrain.validate_every=1",
    "pretrain.objective.patches=8",
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
    assert len(page.sections) == 4
    assert all("simulated" in section.lower() for section in page.sections)
    assert all(
        "Simulated" in str(image.get("aria-label") or image["alt"]) for _, image in page.images
    )


def test_page_holds_its_four_pictures_and_loads_nothing(text: str) -> None:
    page = _Page(text)
    assert [section for section, _ in page.images] == [0, 1, 1, 2]
    assert all(str(i["class"]).startswith("drawing") for _, i in page.images)
    assert not page.tags & {"script", "link", "iframe"}
    assert len(text) < 1_500_000


def test_page_links_to_the_pages_that_it_is_composed_of(folder: Path, text: str) -> None:
    links = re.findall(r'href="([^"#]+)"', text)
    assert links == ["report.html", "show/show.html", "night/night.html"]
    for link in links:
        assert "imulated" in (folder / link).read_text(encoding="utf-8")


def test_page_says_what_was_learnt_without_labels(folder: Path, text: str) -> None:
    probes = json.loads((folder / "run" / "probe" / "s2-seed0.json").read_text())
    for feature in ("pretrained_mean", "untrained_mean"):
        assert f"{probes[feature]['kappa']:.2f} on" in text
    distances = re.findall(r"mean error of ([\d.]+) s, against ([\d.]+) s", text)
    show = (folder / "show" / "show.html").read_text(encoding="utf-8")
    for name, seconds in zip(("by least squares", "at the centre"), distances[0], strict=True):
        found = re.search(rf"{name}[^<]*</th><td>([\d.]+)</td>", show)
        assert found is not None
        assert float(found[1]) * PATCH_S == pytest.approx(float(seconds), abs=0.006)


@pytest.mark.parametrize(
    ("part", "scratch", "said"),
    [
        ((0.5, 0.6), (0.4, 0.5), "PART beats training from scratch with 1, 2 labelled persons."),
        (
            (0.5, 0.6),
            (0.7, 0.6),
            "PART does not beat training from scratch with 1, 2 labelled persons.",
        ),
        (
            (0.5, 0.6),
            (0.4, 0.7),
            "PART beats training from scratch with 1 labelled persons, but not with 2.",
        ),
    ],
)
def test_verdict_is_that_of_the_figures(
    part: tuple[float, float], scratch: tuple[float, float], said: str
) -> None:
    rows = [
        {"persons": n, "part": {"kappa": p}, "scratch": {"kappa": s}}
        for n, p, s in zip((1, 2), part, scratch, strict=True)
    ]
    assert verdict(rows) == said


def test_page_holds_the_verdict_of_its_figures(shown: dict[str, Any], text: str) -> None:
    assert f"On these simulated nights: {verdict(shown['rows'])}" in text
    assert table(shown)[-1] == verdict(shown["rows"])


def test_table_holds_the_figures_of_the_finetunings(folder: Path, text: str) -> None:
    for size in (1, 2):
        cells = []
        for prefix in ("", "scratch-"):
            (path,) = folder.glob(f"run/finetune/{prefix}s{size}-seed0-*/result.json")
            found = json.loads(path.read_text())
            kappa, (low, high) = found["kappa"], found["kappa_ci95"]
            span = f'<span class="interval">({low:.2f} to {high:.2f})</span>'
            cells.append(f'<td class="score">{kappa:.2f} {span}</td>')
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
    recipe = load_recipe(folder / "run" / "recipe.yaml")
    run, worked = pretrained(recipe, folder / "run", lambda line: None)
    assert worked
    assert run.encoder.read_bytes() == weights


def test_run_of_another_recipe_is_not_taken(folder: Path, shown: dict[str, Any]) -> None:
    run = Run(folder / "run")
    recipe = load_recipe(run.path / "recipe.yaml")
    assert is_current(run, recipe)
    assert not is_current(run, load_recipe(run.path / "recipe.yaml", ["seed=1"]))
    assert not is_current(Run(folder / "nowhere"), recipe)


def test_foreign_files_in_the_place_of_the_run_are_left_alone(
    shown: dict[str, Any], tmp_path: Path
) -> None:
    note = tmp_path / "run" / "note.txt"
    note.parent.mkdir()
    note.write_text("mine")
    recipe = load_recipe(Path(shown["run"]) / "recipe.yaml")
    with pytest.raises(FileExistsError, match="contains other files"):
        pretrained(recipe, note.parent, print)
    assert note.read_text() == "mine"


def test_table_begins_with_the_banner(shown: dict[str, Any]) -> None:
    lines = table(shown)
    assert lines[0] == f"{BANNER}."
    assert [line.split()[0] for line in lines[2:4]] == ["1", "2"]
    assert lines[-2] == "Cohen's kappa of 2 simulated test persons, intervals over persons"
