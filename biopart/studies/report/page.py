"""The page of a report: tables side by side, curves, scores, in one file."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.studies.report.runs import Entry, Trial, Values, shown, written

MAIN = ("loss", "r2", "r2_excess", "accuracy", "kappa")  # others are folded up
DASHES = ("solid", "dashed", "dotted", "dashdot")
LONG = 8  # entries of a list that are shown at once
UNUSED, UNRECORDED, _MISSING_KEY = object(), object(), object()
"""Values of a setting that had no effect, of a fact that was not recorded, of a missing key."""
_NO_VALUE = {UNUSED: "not used", UNRECORDED: "-", _MISSING_KEY: "-"}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cell:
    """A value in a table: its text, whether it is marked, and the full text of a long one."""

    text: str
    marked: bool = False
    whole: str | None = None


@dataclass(frozen=True)
class Line:
    """A row of a table that sets runs side by side; ``common`` is its most frequent value."""

    key: str
    cells: tuple[Cell, ...]
    differs: bool
    common: Cell


def side_by_side(columns: Sequence[Values]) -> list[Line]:
    """Set mappings side by side, marking the values that are not the most frequent of a row.

    A row in which some mapping lacks the key differs; a value without effect is not compared.

    Examples
    --------
    >>> lines = side_by_side([{"lr": 1, "seed": 0}, {"lr": 2, "seed": 0}])
    >>> [(line.key, line.differs, [cell.marked for cell in line.cells]) for line in lines]
    [('lr', True, [False, True]), ('seed', False, [False, False])]
    """
    keys = list(dict.fromkeys(key for column in columns for key in column))
    sections = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    keys.sort(key=lambda key: sections.index(key.rpartition(".")[0]))
    lines = []
    for key in keys:
        values = [column.get(key, _MISSING_KEY) for column in columns]
        texts = [None if _has_no_value(value) else written(value) for value in values]
        counted = Counter(text for text in texts if text is not None)
        usual = counted.most_common(1)[0][0] if counted else None
        cells = tuple(
            _cell(value, marked=text not in (None, usual))
            for value, text in zip(values, texts, strict=True)
        )
        differs = len(counted) > 1 or (bool(counted) and any(v is _MISSING_KEY for v in values))
        lines.append(Line(key, cells, differs, cells[texts.index(usual)]))
    return lines


def _has_no_value(value: Any) -> bool:
    """Tell whether there is no value to compare."""
    return any(value is marker for marker in _NO_VALUE)


def _cell(value: Any, *, marked: bool) -> Cell:
    """Return how a value is shown; of a long list its length and its first entries."""
    if _has_no_value(value):
        return Cell(_NO_VALUE[value])
    if isinstance(value, list) and len(value) > LONG:
        entries = [shown(entry) for entry in value]
        return Cell(f"{len(value)}: {', '.join(entries[:3])}, ...", marked, ", ".join(entries))
    return Cell(shown(value), marked)


@dataclass(frozen=True)
class Curves:
    """Trainings whose metrics are comparable: lines by their names."""

    title: str
    lines: Mapping[str, Rows]

    @property
    def names(self) -> list[str]:
        """What is drawn: the training loss and all that was measured on held-out persons."""
        logged = dict.fromkeys(key for rows in self.lines.values() for row in rows for key in row)
        wanted = [key for key in logged if key.startswith(("validation/", "probe/"))]
        names = [key for key in wanted if not key.startswith("validation/chance_")]
        return ["train/loss", *names] if "train/loss" in logged else names

    @property
    def styles(self) -> dict[str, tuple[str, str]]:
        """Colour and dashes of each line; they repeat after 28 of them."""
        n = len(figures.PALETTE)
        return {
            label: (figures.PALETTE[place % n], DASHES[place // n % len(DASHES)])
            for place, label in enumerate(self.lines)
        }

    @property
    def has_chance(self) -> bool:
        """Whether a level of chance was logged."""
        return any("/chance_" in key for rows in self.lines.values() for row in rows for key in row)

    def legend(self) -> list[tuple[str, str, str]]:
        """Return label, colour and an SVG's dashes of each line."""
        dashes = dict(zip(DASHES, ("", "6 3", "1.5 2.5", "6 2 1.5 2"), strict=True))
        return [(label, colour, dashes[dash]) for label, (colour, dash) in self.styles.items()]

    def pictures(self) -> Iterator[tuple[str, bool, Markup]]:
        """Yield what is drawn, whether it is a main figure, and the picture."""
        for name in self.names:
            figure = self.draw(name)
            if figure is not None:
                main = name.rpartition("/")[2] in MAIN
                yield pages.spelled(name), main, Markup(figures.to_html(figure))

    def draw(self, name: str) -> Figure | None:
        """Draw one metric of all trainings that have it, with the level of chance dotted.

        None if nothing was logged yet.
        """
        quantity = name.rpartition("/")[2]
        lines = {
            label: points
            for label, rows in self.lines.items()
            if (points := [(r["step"], r[name]) for r in rows if r.get(name) is not None])
        }
        if not lines:
            return None
        rows = [
            {"step": step, f"{place}/{quantity}": value}
            for place, points in enumerate(lines.values())
            for step, value in points
        ]
        wanted = [f"{place}/{quantity}" for place in range(len(lines))]
        figure = figures.training_curves(rows, wanted, labels={quantity: pages.spelled(name)})
        axis = figure.axes[0]
        if (legend := axis.get_legend()) is not None:
            legend.remove()  # the page has one for all figures of a group
        for line, label in zip(axis.lines, lines, strict=True):
            line.set(color=self.styles[label][0], linestyle=self.styles[label][1])
        levels = {label: chance(self.lines[label], name) for label in lines}
        for label, level in levels.items():
            if level is not None:
                axis.axhline(level, color=self.styles[label][0], linestyle=":", linewidth=1)
        last = [f"{label} {points[-1][1]:.4g}" for label, points in lines.items()]
        more = f" and {len(last) - LONG} more" if len(last) > LONG else ""
        figure.set_label(
            f"{pages.spelled(name)} over steps; final values {', '.join(last[:LONG])}{more}"
        )
        return figure


def chance(rows: Rows, name: str) -> float | None:
    """Return the level of chance logged beside a metric, its mean over a training.

    Examples
    --------
    >>> chance([{"train/chance_loss": 1.0}, {"train/chance_loss": 2.0}, {}], "train/loss")
    1.5
    """
    part, _, quantity = name.rpartition("/")
    logged = [row.get(f"{part}/chance_{quantity}") for row in rows]
    levels = [level for level in logged if level is not None]
    return float(np.mean(levels)) if levels else None


def curves_of(entries: Sequence[Entry]) -> list[Curves]:
    """Group trainings: pretrainings by objective, fine-tunings by number of persons."""
    groups: dict[str, dict[str, Rows]] = {}
    for entry in entries:
        if entry.pretraining and entry.rows:
            groups.setdefault(title_of(entry), {})[entry.label] = entry.rows
    sizes = sorted({t.subjects or 0 for e in entries for t in e.trials if t.rows})
    for size in sizes:
        title = f"Fine-tuning, labelled persons: {size or 'not known'}"
        groups[title] = {
            f"{entry.label}, {trial.name}": trial.rows
            for entry in entries
            for trial in entry.trials
            if trial.rows and (trial.subjects or 0) == size
        }
    return [Curves(title, lines) for title, lines in groups.items()]


@dataclass(frozen=True)
class Comparable:
    """Scores on the same persons of the same store."""

    persons: tuple[str, ...]
    store: str | None
    scores: tuple[tuple[Entry, Trial], ...]

    @property
    def notes(self) -> dict[str, bool]:
        """The notes of its scores, each once, and whether each is a difference from the run."""
        return {text: kind for _, trial in self.scores for text, kind in trial.notes.items()}


def title_of(entry: Entry) -> str:
    """Return what the run itself trained."""
    return entry.dense.capitalize() or f"Pretraining: {entry.objective}"


def comparable(entries: Sequence[Entry]) -> list[Comparable]:
    """Group finished scores by their test persons and store."""
    groups: dict[tuple[tuple[str, ...], str | None], list[tuple[Entry, Trial]]] = {}
    for entry in entries:
        for trial in entry.trials:
            if trial.result:
                groups.setdefault(trial.tested_on, []).append((entry, trial))
    return [Comparable(*key, tuple(scores)) for key, scores in groups.items()]


def settings_of(entries: Sequence[Entry]) -> list[Values]:
    """Return the settings of runs; those of the pretraining are unused if there was none."""
    wanted = {key for entry in entries for key in entry.settings if key.startswith("pretrain.")}
    unused = dict.fromkeys(sorted(wanted), UNUSED)
    return [entry.settings if entry.pretraining else entry.settings | unused for entry in entries]


def facts_of(entries: Sequence[Entry]) -> list[Values]:
    """Return the provenance of runs; what a fine-tuning does not record is not compared."""
    unrecorded = dict.fromkeys((key for entry in entries for key in entry.provenance), UNRECORDED)
    return [(entry.pretraining or unrecorded | entry.provenance) for entry in entries]


def classes_of(result: Mapping[str, Any]) -> list[str]:
    """Return the names of a confusion matrix's rows; numbers if they are not stored."""
    names = list(result.get("f1", ()))
    counts = result["confusion"]
    return names if len(names) == len(counts) else [str(n) for n in range(len(counts))]


def write_page(path: Path, entries: Sequence[Entry]) -> None:
    """Write the page of a report.

    Parameters
    ----------
    path : Path
        The file, which is complete or absent.
    entries : sequence of Entry
        Runs, in the order of the columns.
    """
    pages.write_page(
        path,
        Path(__file__).with_name("page.html.jinja"),
        entries=entries,
        simulated=[entry.label for entry in entries if entry.simulated],
        settings=side_by_side(settings_of(entries)),
        provenance=side_by_side(facts_of(entries)),
        curves=curves_of(entries),
        groups=comparable(entries),
        dense=[entry for entry in entries if entry.figures],
        unfinished=[(e, t) for e in entries for t in e.trials if not t.result],
        classes_of=classes_of,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
