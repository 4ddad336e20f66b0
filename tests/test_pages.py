"""The skin of all pages: escaping, dark and print rules, structure, nothing loaded."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from biopart import figures, pages

STYLE = (Path(pages.__file__).parent / "style.css").read_text()
TEMPLATES = sorted((Path(pages.__file__).parents[1]).rglob("*.html.jinja"))
MACROS = {"macros.html.jinja", "differences.html.jinja"}  # no pages of their own
STUDIES = [path for path in TEMPLATES if path.parent.name != "pages" and path.name not in MACROS]
PAGE = """{% extends "base.html.jinja" %}
{% import "macros.html.jinja" as m %}
{% block title %}Title{% endblock %}
{% block banner %}{{ m.banner("Simulated") }}{% endblock %}
{% block main %}<h1>{{ name }}</h1>
{{ m.facts("Facts", [("a", m.number(none)), ("b", m.number(0.5) ~ m.interval([0.25, 1]))]) }}
{% call m.table("Scores", [("method", ""), ("kappa", "count")]) %}<tr></tr>{% endcall %}
{{ m.figure(picture, "What it shows") }}{{ m.figure(other, "") }}
{{ m.notes(["<one>"]) }}{{ m.notes([], "Never") }}{{ m.settings({"z": 1, "a": "it's"}) }}
{% endblock %}
"""


@pytest.fixture
def page(tmp_path: Path) -> str:
    """Fill a page that uses every macro."""
    template = tmp_path / "page.html.jinja"
    template.write_text(PAGE)
    drawn = [figures.confusion([[n, 1], [0, 2]], ["a", "b"]) for n in (1, 2)]
    first, second = (Markup(figures.to_html(figure)) for figure in drawn)
    pages.write_page(tmp_path / "p.html", template, name="<b>", picture=first, other=second)
    return (tmp_path / "p.html").read_text()


def test_text_is_escaped_and_settings_stand_as_yaml(page: str) -> None:
    assert "<h1>&lt;b&gt;</h1>" in page
    assert "<li>&lt;one&gt;</li>" in page
    assert "<code>z: 1\na: it&#39;s\n</code>" in page


def test_a_page_has_language_title_viewport_and_notice(page: str) -> None:
    assert page.lstrip().startswith('<!DOCTYPE html>\n<html lang="en">')
    for part in ("<title>Title</title>", 'name="viewport"', "For research; not a medical device."):
        assert page.count(part) == 1


def test_a_page_loads_nothing_and_has_no_script(page: str) -> None:
    assert "http" not in page
    assert not re.search(r"<(script|link|iframe)|@import|url\((?!#)", page)


def test_tables_say_what_heads_and_rows_are(page: str) -> None:
    assert '<th scope="row">a</th><td>\N{EN DASH}</td>' in page
    assert '<td>0.500 <span class="interval">(0.250 to 1.000)</span></td>' in page
    assert "<caption>Scores</caption>" in page
    assert '<th scope="col">method</th><th scope="col" class="count">kappa</th>' in page
    assert "Never" not in page


def test_ids_are_unique_and_drawings_have_a_text(page: str) -> None:
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    drawings = re.findall(r"<svg [^>]*>", page)
    assert len(drawings) == 2
    assert all('role="img" aria-label="Confusion matrix: ' in drawing for drawing in drawings)


def test_dark_rules_are_for_screens_and_hold_the_colours_of_figures() -> None:
    start = STYLE.index("@media screen and (prefers-color-scheme: dark)")
    dark = STYLE[start : STYLE.index("* { box-sizing", start)]
    assert dict(re.findall(r"--c-(\w+): (#\w+);", dark)) == {
        light[1:]: colour for light, colour in figures.THEME.items()
    }
    assert f"--paper: {figures.THEME['#ffffff']};" in dark
    assert "prefers-color-scheme" not in STYLE[STYLE.index("@media print") :]


def test_print_opens_what_is_folded_and_scrolls_nothing() -> None:
    rules = STYLE[STYLE.index("@media print") :]
    assert "details::details-content" in rules
    assert ".wide { overflow: visible; }" in rules
    assert "details.settings:not([open]) { display: none; }" in rules


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_template_has_the_one_skin(path: Path) -> None:
    text = path.read_text()
    assert '{% extends "base.html.jinja" %}' in text
    assert text.count("<h1>") == 1
    assert "<style" not in text
    assert not re.search("To know|Who was drawn|How it was read|<h2>Cells", text)
    assert "<script" not in text or "<script nonce=" in text


def test_a_value_that_is_not_given_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ absent }}")
    with pytest.raises(UndefinedError, match="absent"):
        pages.render(tmp_path / "t.jinja")


def test_a_quantity_without_words_keeps_its_name() -> None:
    assert pages.spelled("validation/new_one") == "new_one, held-out persons"
    assert pages.spelled("train/r2_excess") == "training R2 beyond the hints"
