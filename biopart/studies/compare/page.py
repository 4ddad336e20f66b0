"""The table, picture and page of a study."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.evaluation.paired import FEWEST, RESAMPLES, smallest_p
from biopart.recipe import Recipe
from biopart.studies.compare import clinical
from biopart.studies.compare.table import (
    BASELINES,
    COLUMNS,
    METHODS,
    REFERENCE,
    Comparison,
    Row,
    drawn_by,
    rows,
    write_csv,
)
from biopart.studies.compare.variants import variant_name
from biopart.studies.compare.verdict import verdict

HELD_OUT = ("r2", "r2_excess", "accuracy", "loss")
MEASURED = {
    "kappa": "Cohen's kappa on test persons",
    "probe_kappa": "kappa of a linear probe, frozen encoder",
    **{f"validation/{key}": pages.spelled(f"validation/{key}") for key in HELD_OUT},
}
INTERVALS = {"kappa": "ci95", "probe_kappa": "probe_ci95"}

Points = dict[str, list[tuple[float, float, float | None, float | None]]]
"""(size, value, low, high) by method."""


def publish_curve(folder: Path, study: Comparison, name: str = "curve") -> dict[str, Any]:
    """Write the files of a curve under a name, and return what they contain."""
    n_persons = len(study.test_persons)
    night = clinical.first_night(folder, study)
    files = publish(
        folder / name,
        "curve",
        study,
        picture(study),
        reference=REFERENCE,
        explained=METHODS | BASELINES,
        verdict=verdict(study),
        drawn=drawn(study),
        warnings=warned(study),
        agreement=clinical.of_study(folder, study),
        night=None if night is None else Markup(figures.to_html(night)),
        fewest=FEWEST,
        resamples=RESAMPLES,
        smallest=smallest_p(n_persons),
        n_persons=n_persons,
    )
    content = {"summary": study.summary, "differences": study.differences}
    content["searched"] = study.searched
    return {**content, "verdict": verdict(study), "notes": list(study.notes), "files": files}


def publish_sweep(
    folder: Path, study: Comparison, recipe: Recipe, held_out: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Write the files of a sweep, and return what they contain: a row per variant.

    ``held_out`` has scores on validation persons by variant, which stand beside its kappas.
    """
    table = [{**held_out.get(row["method"], {}), **row} for row in study.summary]
    over = recipe.sweep.over
    values = {variant_name({key: value}, recipe): value for key in over for value in over[key]}
    places = [values.get(row["method"], row["method"]) for row in table]
    names = {k: words for k, words in MEASURED.items() if any(r.get(k) is not None for r in table)}
    drawing = figures.over_values(
        table, places, names, xlabel=" and ".join(over), intervals=INTERVALS
    )
    files = publish(
        folder / "sweep", "sweep", study, drawing, table=table, names=names, intervals=INTERVALS
    )
    content = {"table": table, "searched": study.searched}
    return {**content, "notes": list(study.notes), "files": files}


def publish(
    path: Path,
    template: str,
    study: Comparison,
    drawing: Figure,
    *,
    columns: Sequence[str] = COLUMNS,
    **values: Any,
) -> dict[str, str]:
    """Write table, picture and page of a study beside each other; return them by their ending.

    The table has a row per training, ``rows(study)`` unless ``values`` has other ``rows``.
    """
    values = {"rows": rows(study), **values}
    files = {kind: path.with_suffix(f".{kind}") for kind in ("csv", "png", "html")}
    if study.simulated:
        drawing.suptitle(pages.BANNER, fontsize=10, color="#8a2d00")
        drawing.set_label(f"{pages.BANNER}. {drawing.get_label()}")
    write_csv(files["csv"], values["rows"], columns)
    figures.save(drawing, files["png"])
    pages.write_page(
        files["html"],
        Path(__file__).with_name(f"{template}.html.jinja"),
        banner=pages.BANNER,
        study=study,
        picture=Markup(figures.to_html(drawing)),
        **values,
    )
    return {kind: str(file) for kind, file in files.items()}


def picture(study: Comparison) -> Figure:
    """Draw a curve: kappas with intervals, linear probes, paired differences from PART.

    Raises ValueError if no training has a defined kappa.
    """
    means, gaps, called = study.summary, study.differences, REFERENCE.upper()
    significant = frozenset((row["method"], row["size"]) for row in gaps if row["supported"])
    panels = [
        figures.Panel(
            points(means, "kappa", "ci95"),
            f"Cohen's kappa on test {study.words.tests}",
            f"Mean over seeds, 95 % intervals over test {study.words.tests} and seeds (grey: "
            "baselines)",
            published=study.published,
        ),
        figures.Panel(
            probed(means), "kappa of a linear probe", "Linear probes: frozen and untrained encoder"
        ),
        figures.Panel(
            points(gaps, "difference", "ci95"),
            f"difference of kappa from {called}",
            f"Paired differences from {called} (filled: significant)",
            filled=significant,
            zero=True,
        ),
    ]
    return figures.comparison(
        panels, xlabel=f"labelled {study.words.labels} in finetuning", baselines=tuple(BASELINES)
    )


def points(table: Sequence[Row], key: str, interval: str) -> Points:
    """Return the points of rows that have a value.

    Examples
    --------
    >>> points([{"method": "part", "size": 5, "kappa": 0.5, "ci95": [0.4, 0.6]}], "kappa", "ci95")
    {'part': [(5, 0.5, 0.4, 0.6)]}
    """
    by_method: Points = {}
    for row in table:
        if row[key] is not None:
            by_method.setdefault(row["method"], []).append((row["size"], row[key], *row[interval]))
    return by_method


def probed(table: Sequence[Row]) -> Points:
    """Return the points of linear probes, and of the baselines, which are probes themselves."""
    probes = points(table, "probe_kappa", "probe_ci95")
    if probes:
        probes |= points([row for row in table if row["method"] in BASELINES], "kappa", "ci95")
    return probes


def drawn(study: Comparison) -> list[Row]:
    """Return the labelled persons of each seed, by the size that first takes them.

    Returns
    -------
    list of dict
        ``seed``, ``added`` {size: persons who are not in a smaller size}, ``nested`` and
        ``alike``: whether each size contains the smaller ones, and whether all methods share it.
    """
    table = []
    for seed in sorted({training.seed for training in study.trainings}):
        sets: dict[int, set[frozenset[str]]] = {}
        for training in study.trainings:
            if training.seed == seed:
                sets.setdefault(training.size, set()).add(drawn_by(training.result))
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


def warned(study: Comparison) -> dict[str, int]:
    """Return the warnings of trainings, each with the number of its trainings."""
    texts = [text for training in study.trainings for text in training.result.get("warnings", ())]
    return {text: count for text, count in Counter(texts).items() if text not in study.notes}
