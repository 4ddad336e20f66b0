"""A page and pictures of what a pretrained run predicts for held-out windows or images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.experiment.stored import stored_recipe
from biopart.run import Run
from biopart.studies.show.drawing import draw
from biopart.studies.show.maps import draw_maps
from biopart.verbs.maps import MapRun, has_attention, open_map_run
from biopart.verbs.show import (
    MEASURED,
    VIEWS,
    PartRun,
    View,
    measure_relations,
    open_part_run,
    views_of,
)

MapView = Literal["attention", "similarity"]

EXPLANATIONS = {
    "reconstruction": "Patches cut at any place are placed by their predicted relations: once "
    "from the first patch alone, and once by least squares over all pairs. Relations do not "
    "determine the absolute position: all patches are shifted together so that the first patch, or "
    "the mean, has its true place.",
    "uncertainty": "Each patch in turn serves as the reference and gives places for all others. "
    "The uncertainty of a patch is the spread of its places over all references.",
    "symmetry": "The relation from i to j must be the negative of the relation from j to i. The "
    "encoder does not enforce this. Rows and columns are sorted by the places of the patches.",
    "attention": "How the [CLS] token of the last block divides its attention among the patches.",
    "similarity": "The cosine between the local representations of one item: how alike its parts "
    "are to the encoder.",
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
    "alike": "mean cosine of different places of an item",
}
MAPS: tuple[MapView, ...] = get_args(MapView)


def run_show(
    run: Run,
    out: Path | None = None,
    *,
    views: Sequence[View | MapView] = (),
    items: int = 3,
    store: Path | None = None,
) -> dict[str, Any]:
    """Write pictures and a page of what a run makes of held-out windows or images.

    Parameters
    ----------
    run : Run
        A pretraining.
    out : Path, optional
        Folder; ``RUN/show`` by default.
    views : sequence of str
        reconstruction, uncertainty, symmetry, scale, of a run by PART; attention, similarity. By
        default all of the first that the run allows, or, of other runs, of the second.
    items : int
        Windows or images drawn.
    store : Path, optional
        Where the store is now.

    Returns
    -------
    dict
        ``measured`` (see ``verbs.show.measure_relations``; ``alike`` of maps), ``page`` and
        ``pictures``.

    Raises
    ------
    ValueError
        If the run does not allow a view.
    """
    opened, measures, sections = open_views(run, views, store)
    folder = opened.run.path / "show" if out is None else out
    parts, pictures = [], []
    for view in sections:
        shown = []
        for number, (title, figure) in enumerate(drawn(opened, view, items), start=1):
            path = folder / f"{view}-{number}.png"
            figures.save(figure, path)
            pictures.append(str(path))
            shown.append((title, Markup(figures.to_html(figure))))
        parts.append((view, EXPLANATIONS[view], shown))
    page = folder / "show.html"
    pages.write_page(
        page,
        Path(__file__).with_name("page.html.jinja"),
        banner=pages.BANNER,
        simulated=opened.experiment.simulated,
        title=opened.experiment.recipe.name,
        run=opened.run.path,
        kind=opened.experiment.cohort.kind.items,
        measures=measures,
        names=NAMES,
        sections=parts,
        settings=opened.experiment.recipe.model_dump(mode="json"),
    )
    return {"measured": measures, "page": str(page), "pictures": pictures}


def open_views(
    run: Run, views: Sequence[View | MapView], store: Path | None
) -> tuple[PartRun | MapRun, dict[str, Any], tuple[View | MapView, ...]]:
    """Open a run for views: what is drawn, what was measured, and which views.

    Raises ValueError where views of relations and of maps are mixed, or the run does not allow one.
    """
    maps = tuple(view for view in MAPS if view in views)
    relations = tuple(view for view in VIEWS if view in views)
    if maps and relations:
        raise ValueError(
            f"draw {', '.join(maps)} and {', '.join(relations)} by two commands, each with its own "
            "--out"
        )
    objective = stored_recipe(run.pretrained()).pretrain.objective.name
    if not maps and (relations or objective == "part"):
        part_run = open_part_run(run, store)
        return part_run, measure_relations(part_run), views_of(part_run, relations)
    map_run = open_map_run(run, store)
    some = map_run.items(MEASURED)
    measures = {"items": len(some), "hinted": 0.0, "alike": map_run.maps(some).alike}
    allowed = MAPS if has_attention(map_run.model.encoder) else ("similarity",)
    return map_run, measures, maps or allowed


def drawn(
    opened: PartRun | MapRun, view: View | MapView, items: int
) -> Iterator[tuple[str, Figure]]:
    """Yield the titles and figures of a view; for simulated recordings both say so."""
    picked = opened.items(items)
    if isinstance(opened, MapRun):
        figures_of = draw_maps(opened, view, picked)
    else:
        figures_of = draw(opened, cast(View, view), picked)
    for title, figure in figures_of:
        if opened.experiment.simulated:
            figure.suptitle(pages.BANNER, fontsize=10, color="#8a2d00")
            title = f"Simulated: {title}"
        figure.set_label(f"{title}. {figure.get_label()}")
        yield title, figure


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Return what was measured as lines for a reader."""
    measures = result["measured"]
    given = f", {measures['hinted']:.0%} of the positions given" if "asymmetry" in measures else ""
    lines = [f"{measures['items']} held-out items{given}"]
    lines += [f"{measures[key]:8.3f}  {name}" for key, name in NAMES.items() if key in measures]
    return [*lines, f"page: {result['page']}"]
