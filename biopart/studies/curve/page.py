"""The picture and the page of a curve: what was found, how sure that is, and from what."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.evaluation.paired import FEWEST, RESAMPLES, smallest_p
from biopart.studies.curve import clinical
from biopart.studies.curve.table import BASELINES, METHODS, REFERENCE, Curve, Row, drawn_by, rows
from biopart.studies.curve.verdict import verdict


def picture(curve: Curve) -> Figure:
    """Draw a curve: kappas with intervals, linear probes, paired differences to PART.

    Raises ValueError where no cell has a defined kappa.
    """
    means, gaps = curve.summary, curve.differences
    supported = frozenset((row["method"], row["size"]) for row in gaps if row["supported"])
    panels = [
        figures.Panel(
            points(means, "kappa", "ci95"),
            f"Cohen's kappa on test {curve.words.tests}",
            f"Mean over seeds, 95 % intervals over test {curve.words.tests} and seeds (grey: "
            "baselines)",
            published=curve.published,
        ),
        figures.Panel(
            probed(means), "kappa of a linear probe", "Linear probes: frozen and untrained encoder"
        ),
        figures.Panel(
            points(gaps, "difference", "ci95"),
            f"difference of kappa to {REFERENCE.upper()}",
            f"Paired differences to {REFERENCE.upper()} (filled: supported)",
            filled=supported,
            zero=True,
        ),
    ]
    figure = figures.comparison(
        panels, xlabel=f"labelled {curve.words.labels} in finetuning", baselines=tuple(BASELINES)
    )
    if curve.simulated:
        figure.suptitle(pages.BANNER, fontsize=10, color="#8a2d00")
        figure.set_label(f"{pages.BANNER}. {figure.get_label()}")
    return figure


def points(
    table: Sequence[Row], key: str, interval: str
) -> dict[str, list[tuple[float, float, float | None, float | None]]]:
    """Return (size, value, low, high) by method, of rows that have a value.

    Examples
    --------
    >>> points([{"method": "part", "size": 5, "kappa": 0.5, "ci95": [0.4, 0.6]}], "kappa", "ci95")
    {'part': [(5, 0.5, 0.4, 0.6)]}
    """
    found: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
    for row in table:
        if row[key] is not None:
            point = (row["size"], row[key], row[interval][0], row[interval][1])
            found.setdefault(row["method"], []).append(point)
    return found


def probed(
    table: Sequence[Row],
) -> dict[str, list[tuple[float, float, float | None, float | None]]]:
    """Return the points of linear probes, and of the baselines, which are probes themselves."""
    found = points(table, "probe_kappa", "probe_ci95")
    if found:
        found |= points([row for row in table if row["method"] in BASELINES], "kappa", "ci95")
    return found


def drawn(curve: Curve) -> list[Row]:
    """Return the labelled persons of each seed, by the size that first takes them.

    Returns
    -------
    list of dict
        ``seed``, ``added`` {size: persons who are not in a smaller size}, ``nested`` and
        ``alike``: whether each size holds the smaller ones, and whether all methods had the same.
    """
    table = []
    for seed in sorted({cell.seed for cell in curve.cells}):
        sets: dict[int, set[frozenset[str]]] = {}
        for cell in curve.cells:
            if cell.seed == seed:
                sets.setdefault(cell.size, set()).add(drawn_by(cell.result))
        before: frozenset[str] = frozenset()
        added, nested = {}, True
        for size, groups in sorted(sets.items()):
            now = frozenset().union(*groups)
            nested &= before <= now
            added[size] = sorted(now - before)
            before = now
        alike = all(len(groups) == 1 for groups in sets.values())
        table.append({"seed": seed, "added": added, "nested": nested, "alike": alike})
    return table


def warned(curve: Curve) -> dict[str, list[str]]:
    """Return the warnings of cells, each with the names of its cells."""
    found: dict[str, list[str]] = {}
    for cell in curve.cells:
        for text in cell.result.get("warnings", ()):
            found.setdefault(text, []).append(f"{cell.method}-s{cell.size}-seed{cell.seed}")
    return {text: names for text, names in found.items() if text not in curve.notes}


def write_page(path: Path, curve: Curve, drawing: Figure) -> None:
    """Write the page of a curve around its picture: one file that loads nothing."""
    n_persons = len(curve.test_persons)
    night = clinical.first_night(path.parent, curve)
    pages.write_page(
        path,
        Path(__file__).with_name("page.html.jinja"),
        banner=pages.BANNER,
        curve=curve,
        reference=REFERENCE,
        explained=METHODS | BASELINES,
        said=verdict(curve),
        picture=Markup(figures.to_html(drawing)),
        means=curve.summary,
        gaps=curve.differences,
        gains=curve.probe_gains,
        cells=rows(curve),
        drawn=drawn(curve),
        warnings=warned(curve),
        agreement=clinical.of_curve(path.parent, curve),
        night=None if night is None else Markup(figures.to_html(night)),
        fewest=FEWEST,
        resamples=RESAMPLES,
        smallest=smallest_p(n_persons),
        n_persons=n_persons,
    )
