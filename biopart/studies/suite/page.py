"""Ask encoders the questions of the part-aware evaluation, and write a table, pictures, a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from biopart import figures, pages
from biopart.data.items import Items
from biopart.evaluation.answers import Answer
from biopart.evaluation.resampled import LEAST
from biopart.figures.retrieved import SEEN, Hits, neighbours
from biopart.files import write_json
from biopart.probing.encoders import Candidate, candidates
from biopart.probing.retrieval import Retrieved
from biopart.run import Run
from biopart.verbs.suite import Data, EncoderAnswers, ask, experiment_of

QUERIES = 4  # on the page, for each kind of items
ERRORS = ("mean onset error (s)",)  # measures of which lower is better


@dataclass(frozen=True)
class Options:
    """How the encoders are asked.

    Attributes
    ----------
    changes : sequence of str
        ``a.b=value`` settings that replace the recipes'.
    seed : int
        Of the probes.
    own_included : bool
        Retrieval as in the released code: a query is in its own gallery.
    baseline : str, optional
        Name of the encoder that the others are compared with; by default each run with the
        untrained encoder like it.
    """

    changes: Sequence[str] = ()
    seed: int = 0
    own_included: bool = False
    baseline: str | None = None


def run_suite(
    runs: Sequence[Run],
    data: Data,
    out: Path,
    *,
    options: Options | None = None,
    others: Sequence[Candidate] = (),
    on_task: Callable[[str], None] = lambda task: None,
) -> dict[str, Any]:
    """Ask encoders, and write ``suite.json`` and ``suite.html`` into a folder.

    Parameters
    ----------
    runs : sequence of Run
        Pretrainings; an untrained encoder like each kind of them is added.
    data : Data
        What they are asked about.
    out : Path
        Folder of the result; tokens are kept beside it (``tokens/``), where others find them.
    options : Options, optional
        How they are asked.
    others : sequence of Candidate
        Encoders that are not runs.
    on_task : callable
        Called with the number and name of an encoder and the task as each task begins.

    Returns
    -------
    dict
        ``encoders``, ``rows`` (task, measure, features and the scores of each encoder), ``about``,
        ``compared_with``, ``notes``, ``page`` and so on.
    """
    options = Options() if options is None else options
    for one in others if data.is_store else ():
        experiment_of(one)
    store = data.place if data.is_store else None
    opened = [*candidates(runs, store, changes=options.changes, seed=options.seed), *others]
    names = [one.name for one in opened]
    if options.baseline not in (None, *names):
        raise ValueError(
            f"there is no encoder {options.baseline!r}; choose one of {', '.join(names)}"
        )
    references = {one.name: options.baseline or one.twin for one in opened}
    found = all_asked(opened, data, out.parent / "tokens", options=options, on_task=on_task)
    result: dict[str, Any] = {
        "encoders": names,
        "compared_with": references,
        "about": {one.name: dict(one.facts) for one in opened},
        "data": str(data.place),
        "most_items": data.most,
        "n_units": max((len(a.sums.units) for one in found for a in one.answers), default=0),
        "units": "persons" if any(one.experiment for one in opened) else "images",
        "query_in_gallery": options.own_included,
        "seed": options.seed,
        "simulated": any(one.model.about.simulated for one in opened),
        "rows": rows_of(found, references),
        "notes": list(dict.fromkeys(note for one in found for note in one.notes)),
    }
    write_suite(out, result, found)
    return {**result, "page": str(out / "suite.html")}


def write_suite(out: Path, result: Mapping[str, Any], found: Sequence[EncoderAnswers]) -> None:
    """Write ``suite.json`` and ``suite.html``, with pictures of what queries found."""
    pictures = [
        (f"{one.name}: {what}s", Markup(figures.to_html(neighbours(hits))))
        for one in found
        for what, (retrieved, items) in one.retrieved.items()
        if (hits := shown(retrieved, items))
    ]
    pages.write_page(
        out / "suite.html",
        Path(__file__).with_name("page.html.jinja"),
        banner=pages.BANNER,
        pictures=pictures,
        errors=ERRORS,
        least=LEAST,
        summary=[row for row in result["rows"] if row["best"]],
        **result,
    )
    write_json(out / "suite.json", result)


def all_asked(
    opened: Sequence[Candidate],
    data: Data,
    tokens: Path,
    *,
    options: Options,
    on_task: Callable[[str], None],
) -> list[EncoderAnswers]:
    """Ask encoders one after the other; arguments as of ``run_suite``."""
    found = []
    for number, one in enumerate(opened, start=1):
        place = f"{number} of {len(opened)}, {one.name}"
        found.append(
            ask(
                one,
                data,
                tokens,
                seed=options.seed,
                own_included=options.own_included,
                on_task=lambda task, place=place: on_task(f"{place}: {task}"),  # type: ignore[misc]
            )
        )
    return found


def rows_of(found: Sequence[EncoderAnswers], references: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for each task, measure and kind of features, with the scores of all encoders.

    ``best`` marks the features that the protocol reports: the better ones of each encoder.
    """
    answers = {one.name: {key_of(answer): answer for answer in one.answers} for one in found}
    keys = list(dict.fromkeys(key_of(answer) for one in found for answer in one.answers))
    rows = []
    for task, features, measure in keys:
        given = {name: own.get((task, features, measure)) for name, own in answers.items()}
        row = {"task": task, "features": features, "measure": measure, "best": False}
        rows.append({**row, "scores": scores_of(given, references)})
    return [*best_rows(rows, answers, references), *rows]


def scores_of(
    given: Mapping[str, Answer | None], references: Mapping[str, str]
) -> dict[str, dict[str, Any] | None]:
    """Return the score of each encoder, with its difference to the one it is compared with."""
    return {name: score_of(one, given.get(references[name])) for name, one in given.items()}


def key_of(answer: Answer) -> tuple[str, str, str]:
    """Return what tells answers apart."""
    return answer.task, answer.features, answer.measure


def score_of(answer: Answer | None, reference: Answer | None) -> dict[str, Any] | None:
    """Return a score with its interval, and its difference to the baseline's."""
    if answer is None:
        return None
    score: dict[str, Any] = {
        "value": answer.value,
        "ci95": answer.interval,
        "features": answer.features,
        "items": answer.n_items,
    }
    if reference is not None and reference is not answer:
        score["difference"], score["difference_ci95"] = answer.beyond(reference)
    return score


def best_rows(
    rows: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Mapping[Any, Answer]],
    references: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return a row for each task and measure, with the better features of each encoder."""
    best = []
    for task, measure in dict.fromkeys((row["task"], row["measure"]) for row in rows):
        chosen = {name: better(list(own.values()), task, measure) for name, own in answers.items()}
        row = {"task": task, "features": "best", "measure": measure, "best": True}
        best.append({**row, "scores": scores_of(chosen, references)})
    return best


def better(answers: Sequence[Answer], task: str, measure: str) -> Answer | None:
    """Return the answer of the better features to a question; None if there is none."""
    given = [a for a in answers if (a.task, a.measure) == (task, measure) and a.value == a.value]
    if not given:
        return None
    sign = -1 if measure in ERRORS else 1
    return max(given, key=lambda answer: sign * answer.value)


def shown(retrieved: Retrieved, items: Items) -> list[Hits]:
    """Return queries for the page, one of each class at most, and what they found."""
    _, first = np.unique(items.labels, return_index=True)
    queries = [k for k in first.tolist() if np.isfinite(retrieved.precision[k])][:QUERIES]
    hits = []
    for query in queries:
        rows = np.array([query, *retrieved.nearest[query][:SEEN].tolist()])
        values = items.values(rows).numpy()
        spans = None
        if not items.fill_grid:
            boxes = items.boxes(rows)
            start, size = boxes.start[:, 0].tolist(), boxes.size[:, 0].tolist()
            spans = [(s, s + n) for s, n in zip(start, size, strict=True)]
        hits.append(Hits(list(values), [items.names[items.labels[k]] for k in rows], spans))
    return hits


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Return the scores as lines for a reader: the better features of each encoder."""
    names = result["encoders"]
    width = max(len(f"{row['task']} {row['measure']}") for row in result["rows"])
    cell = max(12, *map(len, names))
    lines = [" " * width + "  " + "  ".join(f"{name:>{cell}s}" for name in names)]
    for row in result["rows"]:
        if row["best"]:
            cells = [f"{short(row['scores'][name]):>{cell}s}" for name in names]
            question = f"{row['task']} {row['measure']}"
            lines.append(f"{question:{width}s}  {'  '.join(cells)}")
    few = "" if result["n_units"] >= LEAST else f", too few for intervals ({LEAST} are needed)"
    lines.append(f"{result['n_units']} test {result['units']}{few}")
    if not few and any(result["compared_with"].values()):
        lines.append("*: the interval of the difference to the encoder compared with excludes 0")
    return [*lines, *result["notes"], f"page: {result['page']}"]


def short(score: Mapping[str, Any] | None) -> str:
    """Return a score, with a star where it differs from what it is compared with.

    Examples
    --------
    >>> short({"value": 0.5, "difference_ci95": (0.1, 0.2)}), short(None)
    ('0.500*', '-')
    """
    if score is None:
        return "-"
    ends = score.get("difference_ci95")
    return f"{score['value']:.3f}{'*' if ends and (ends[0] > 0 or ends[1] < 0) else ''}"


def free_folder(data: Path, folder: Path = Path("suite")) -> Path:
    """Return a folder for the page about data that no other page lies in."""
    number = 1
    while True:
        out = folder / (data.stem if number == 1 else f"{data.stem}-{number}")
        if not (out / "suite.json").is_file():
            return out
        number += 1
