"""Pages of studies: text is escaped, a value that a template lacks is an error."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from biopart.studies import pages


def test_text_is_escaped_and_settings_stand_as_yaml(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("<p>{{ name }}</p><pre>{{ settings|yaml }}</pre>")
    pages.write_page(tmp_path / "p.html", template, name="<b>", settings={"z": 1, "a": "it's"})
    assert (tmp_path / "p.html").read_text() == ("<p>&lt;b&gt;</p><pre>z: 1\na: it&#39;s\n</pre>")


def test_a_value_that_is_not_given_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ absent }}")
    with pytest.raises(UndefinedError, match="absent"):
        pages.render(tmp_path / "t.jinja")


def test_a_figure_without_words_keeps_its_name() -> None:
    assert pages.spelled("validation/new_one") == "new_one, held-out persons"
    assert pages.spelled("train/r2_excess") == "training R2 beyond the hints"
