"""A page and pictures of what a pretrained run predicts for held-out windows or images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.run import Run
from biopart.studies.show.drawing import draw
from biopart.verbs.show import PartRun, View, measure_relations, open_part_run, views_of

EXPLANATIONS = {
    "reconstruction": "Patches cut at any place are placed by their predicted relations: once "
    "from the first patch alone, and once by least squares over all pairs. Relations do not "
    "determine the absolute position: all patches are shifted together so that the first patch, or "
    "the mean, has its true place.",
    "uncertainty": "Each patch in turn serves as the reference and gives places for all others. "
    "The uncertainty of a patch is the spread of its places over all references.",
    "symmetry": "The relation from i to j must be the negative of the relation from j to i. The "
    "encoder does not enforce this. Rows and columns are sorted by the places of the patches.",
    "scale": "Patches of several sizes, resized to one size before the encoder sees them: "
    "predicted places and sizes.",
}
NAMES = {
    "error_one_reference": "mean distance from the true place, from one reference",
    "error_least_squares": "mean distance by least squares over all pairs",
    "error_blind": "mean distance with no position given",
    "error_chance": "mean distance with every patch at the centre",
    "spread": "mean spread of a patch's places over all references",
    "spread_rank_correlation": "rank correlation of spread and distance",
    "asymmetry": "root mean square of R(i, j) + R(j, i)",
    "true_relation": "root mean square of the true relations",
    "size_factor": "factor between predicted and true relative size (geometric mean)",
    "size_factor_chance": "that factor with one size for all patches",
}


def run_show(
    run: Run,
    out: Path | None = None,
    *,
    views: Sequence[View] = (),
    items: int = 3,
    store: Path | None = None,
) -> dict[str, Any]:
    """Write pictures and a page of a run's relations on held-out windows or images.

    Parameters
    ----------
    run : Run
        A pretraining by PART.
    out : Path, optional
        Folder; ``RUN/show`` by default.
    views : sequence of str
        reconstruction, uncertainty, symmetry, scale; by default all that the run allows.
    items : int
        Windows or images drawn.
    store : Path, optional
        Where the store is now.

    Returns
    -------
    dict
        ``measured`` (see ``verbs.show.measured``), ``page`` and ``pictures``.

    Raises
    ------
    ValueError
        If the run was not pretrained by PART, or does not allow a view.
    """
    part_run = open_part_run(run, store)
    chosen = views_of(part_run, views)
    folder = part_run.run.path / "show" if out is None else out
    measures = measure_relations(part_run)
    sections, pictures = [], []
    for view in chosen:
        shown = []
        for number, (title, figure) in enumerate(drawn(part_run, view, items), start=1):
            path = folder / f"{view}-{number}.png"
            figures.save(figure, path)
            pictures.append(str(path))
            shown.append((title, Markup(figures.to_html(figure))))
        sections.append((view, EXPLANATIONS[view], shown))
    page = folder / "show.html"
    pages.write_page(
        page,
        Path(__file__).with_name("page.html.jinja"),
        banner=pages.BANNER,
        simulated=part_run.experiment.simulated,
        title=part_run.experiment.recipe.name,
        run=part_run.run.path,
        kind=part_run.experiment.cohort.kind.items,
        measures=measures,
        names=NAMES,
        sections=sections,
        settings=part_run.experiment.recipe.model_dump(mode="json"),
    )
    return {"measured": measures, "page": str(page), "pictures": pictures}


def drawn(part_run: PartRun, view: View, items: int) -> Iterator[tuple[str, Figure]]:
    """Yield the titles and figures of a view; for simulated recordings both say so."""
    for title, figure in draw(part_run, view, part_run.items(items)):
        if part_run.experiment.simulated:
            figure.suptitle(pages.BANNER, fontsize=10, color="#8a2d00")
            title = f"Simulated: {title}"
        figure.set_label(f"{title}. {figure.get_label()}")
        yield title, figure


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Return what was measured as lines for a reader."""
    measures = result["measured"]
    lines = [f"{measures['items']} held-out items, {measures['hinted']:.0%} of the positions given"]
    lines += [f"{measures[key]:8.3f}  {name}" for key, name in NAMES.items() if key in measures]
    return [*lines, f"page: {result['page']}"]
