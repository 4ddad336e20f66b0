"""Measure the robustness of a run, and write a table, a picture and a page."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from biopart import figures, pages
from biopart.experiment.stored import stored_recipe
from biopart.files import write_json
from biopart.run import Run
from biopart.verbs.robustness import robustness


def run_robustness(run: Run, **draw: Any) -> dict[str, Any]:
    """Measure the robustness of a run's encoder and write it to ``RUN/robustness``.

    Parameters
    ----------
    run : Run
        A pretraining.
    **draw
        ``subjects``, ``seed``, ``changes`` and ``store``, as of ``verbs.robustness.robustness``.

    Returns
    -------
    dict
        ``clean`` (encoder -> kappa), ``curves`` (name, unit, levels, kappa), ``items``, ``page``
        and ``picture``.
    """
    found = robustness(run, **draw)
    values = {**found, "curves": [asdict(curve) for curve in found["curves"]]}
    origin = run.pretrained()
    folder, recipe = origin.path / "robustness", stored_recipe(origin)
    figure = figures.corrupted(
        {(curve.name, curve.unit): (curve.levels, curve.kappa) for curve in found["curves"]},
        found["clean"],
    )
    figures.save(figure, folder / "robustness.png")
    simulated = bool(origin.provenance().get("simulated"))
    pages.write_page(
        folder / "robustness.html",
        Path(__file__).with_name("page.html.jinja"),
        banner=pages.BANNER,
        simulated=simulated,
        title=recipe.name,
        run=origin.path,
        picture=Markup(figures.to_html(figure)),
        settings=recipe.model_dump(mode="json"),
        **values,
    )
    write_json(folder / "robustness.json", values)
    files = {"page": folder / "robustness.html", "picture": folder / "robustness.png"}
    return {**values, **{key: str(path) for key, path in files.items()}}


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Return the scores as lines for a reader."""
    lines = [f"{result['items']} test items; kappa of a linear probe on the mean token"]
    lines += [f"{'clean':22s} {name:10s} {kappa:.3f}" for name, kappa in result["clean"].items()]
    for curve in result["curves"]:
        for name, kappas in curve["kappa"].items():
            scores = "  ".join(
                f"{level:g}: {kappa:.3f}"
                for level, kappa in zip(curve["levels"], kappas, strict=True)
            )
            lines.append(f"{curve['name']:22s} {name:10s} {scores}")
    return [*lines, f"page: {result['page']}"]
