"""Fill templates into pages: one file each, nothing loaded from anywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from biopart.files import plain, write_text

BANNER = "Simulated recordings: no number on this page is a result"
HERE = Path(__file__).parent
QUANTITIES = {
    "loss": "loss",
    "mse": "squared error (patch sizes)",
    "r2": "R2 against chance",
    "r2_excess": "R2 beyond the hints",
    "r2_hinted_0": "R2 of pairs without a hint",
    "r2_hinted_1": "R2 of pairs with one hint",
    "r2_hinted_2": "R2 of pairs with two hints",
    "scale_r2": "R2 of relative sizes",
    "error": "distance (patch sizes)",
    "error_axis_0": "distance along the first axis, of images y (patch sizes)",
    "error_axis_1": "distance along the second axis, of images x (patch sizes)",
    "error_axis_2": "distance along the third axis (patch sizes)",
    "error_overlapping": "distance of overlapping pairs (patch sizes)",
    "error_other": "distance of pairs apart (patch sizes)",
    "before_after_overlapping": "share of correct signs, overlapping pairs",
    "before_after_other": "share of correct signs, pairs apart",
    "accuracy": "accuracy",
    "accuracy_context": "accuracy of context patches",
    "accuracy_other": "accuracy of patches outside the context",
    "kappa": "Cohen's kappa",
    "knn": "accuracy of the 20 nearest neighbours",
    "rank": "effective rank (RankMe)",
    "std": "spread of features (1 = even, 0 = collapsed)",
}
"""Words for what trainings log."""


def render(template: Path, **values: Any) -> str:
    """Fill a template; a value that it lacks is an error, and text in values is escaped.

    The template finds ``base.html.jinja`` and ``macros.html.jinja`` beside this file.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["yaml"] = as_yaml
    return environment.get_template(template.name).render(values)


def write_page(path: Path, template: Path, **values: Any) -> None:
    """Write a page, whole or not at all."""
    write_text(path, render(template, **values))


def spelled(name: str) -> str:
    """Return what a logged quantity is called on a page.

    Examples
    --------
    >>> spelled("train/loss"), spelled("validation/r2_hinted_0")
    ('training loss', 'R2 of pairs without a hint, held-out persons')
    """
    part, _, quantity = name.rpartition("/")
    words = QUANTITIES.get(quantity, quantity)
    if name == "probe/kappa":
        words = f"{words} of a linear probe"
    return f"training {words}" if part == "train" else f"{words}, held-out persons"


def as_yaml(values: Mapping[str, Any]) -> str:
    """Write settings as a reader wrote them.

    Examples
    --------
    >>> as_yaml({"b": float("nan"), "a": ["x < 1", "é"]}).splitlines()
    ['b: null', 'a:', '- x < 1', '- é']
    """
    return yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True)
