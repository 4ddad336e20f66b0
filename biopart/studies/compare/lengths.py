"""Lengths of pretraining: a curve for each, and what methods gain from longer pretraining."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from biopart import figures
from biopart.recipe import Recipe
from biopart.studies.compare.page import publish, publish_curve
from biopart.studies.compare.table import (
    BASELINES,
    COLUMNS,
    METHODS,
    UNTRAINED,
    Comparison,
    Row,
    Scores,
    compared,
    rows,
)
from biopart.studies.compare.variants import is_supervised, method_and_steps
from biopart.studies.compare.verdict import NOT_EQUAL, basis, power

Paired = tuple[Row, Scores, Scores]
"""What names a row, and two scores to compare."""


class Lengths:
    """A curve taken apart by the steps of its pretrainings.

    Parameters
    ----------
    study : Comparison
        All trainings; its methods are those of a curve, with ``@STEPS`` where the steps differ from
        the recipe's.
    steps : int, optional
        Steps of the recipe, which methods without a mark have.
    """

    def __init__(self, study: Comparison, steps: int | None) -> None:
        self.study = study
        self._own_steps = steps

    @cached_property
    def curves(self) -> dict[int, Comparison]:
        """Curve by steps, rising; baselines without pretraining stand in each."""
        found = {self._length(training.method) for training in self.study.trainings}
        return {steps: self._curve(steps) for steps in sorted(s for s in found if s is not None)}

    @property
    def left_out(self) -> list[str]:
        """Methods that an earlier call pretrained for epochs, whose steps are not known."""
        methods = self.study.methods
        return [name for name in methods if is_pretrained(name) and self._length(name) is None]

    @property
    def longest(self) -> Comparison:
        """The curve of the longest pretraining."""
        return list(self.curves.values())[-1]

    @property
    def pretrained(self) -> list[str]:
        """Methods that are pretrained, in the order of the curve."""
        methods = (method for curve in self.curves.values() for method in curve.methods)
        return [name for name in dict.fromkeys(methods) if is_pretrained(name)]

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of their curves."""
        return list(dict.fromkeys((*self.pretrained, *self.longest.methods)))

    @property
    def scratch(self) -> str | None:
        """The first baseline that is trained from scratch."""
        return next((name for name in self.study.methods if is_supervised(name)), None)

    @cached_property
    def summary(self) -> list[Row]:
        """Means as ``Comparison.summary``, with ``steps``; None of methods without pretraining."""
        names = self.methods
        return sorted(
            self.with_steps(lambda curve: curve.summary),
            key=lambda row: (names.index(row["method"]), row["size"], row["steps"] or 0),
        )

    def with_steps(self, table: Callable[[Comparison], Sequence[Row]]) -> list[Row]:
        """Return the rows of a table of every curve with ``steps``, baselines once with None."""
        found: list[Row] = []
        for steps, curve in self.curves.items():
            found += [
                {**row, "steps": steps} for row in table(curve) if is_pretrained(row["method"])
            ]
        baselines = (row for row in table(self.longest) if not is_pretrained(row["method"]))
        return found + [{**row, "steps": None} for row in baselines]

    @cached_property
    def gains(self) -> list[Row]:
        """Paired differences of the longest pretraining of each method from its shortest."""
        return compared(self._longer())

    @cached_property
    def over_scratch(self) -> list[Row]:
        """Paired differences of each method and length from training from scratch."""
        return compared(self._beside(self.scratch, "results")) if self.scratch else []

    @cached_property
    def over_untrained(self) -> list[Row]:
        """Paired differences of linear probes from the one on an untrained encoder."""
        return compared(self._beside(UNTRAINED, "probes"))

    def _longer(self) -> Iterator[Paired]:
        for method in self.pretrained:
            for size in self.study.sizes:
                scores = {
                    steps: found
                    for steps, curve in self.curves.items()
                    if (found := curve.results(method, size))
                }
                if len(scores) > 1:
                    short, long = min(scores), max(scores)
                    about = {"method": method, "size": size, "steps": long, "from": short}
                    yield about, scores[long], scores[short]

    def _beside(self, other: str, what: str) -> Iterator[Paired]:
        for method in self.pretrained:
            for size in self.study.sizes:
                for steps, curve in self.curves.items():
                    about = {"method": method, "size": size, "steps": steps}
                    yield about, getattr(curve, what)(method, size), curve.results(other, size)

    def _length(self, variant: str) -> int | None:
        return method_and_steps(variant, self._own_steps)[1] if is_pretrained(variant) else None

    def _curve(self, steps: int) -> Comparison:
        trainings = tuple(
            replace(t, method=method_and_steps(t.method, steps)[0], variant=t.method)
            for t in self.study.trainings
            if not is_pretrained(t.method) or self._length(t.method) == steps
        )

        def ours(name: str) -> bool:
            variant = variant_of(name)
            return not is_pretrained(variant) or self._length(variant) == steps

        settings = dict(self.study.settings)
        settings["pretrain"] = {**settings.get("pretrain", {}), "steps": steps}
        return replace(
            self.study,
            trainings=trainings,
            failed={name: why for name, why in self.study.failed.items() if ours(name)},
            missing=tuple(name for name in self.study.missing if ours(name)),
            settings=settings,
        )


def is_pretrained(method: str) -> bool:
    """Tell whether a method is pretrained, and no baseline."""
    return method not in BASELINES and not is_supervised(method)


def variant_of(training: str) -> str:
    """Return the variant of a training by its name.

    Examples
    --------
    >>> variant_of("mae@3000-s10-seed2"), variant_of("part-grid-seed0")
    ('mae@3000', 'part-grid')
    """
    return re.sub(r"-s\d+$", "", training.rpartition("-seed")[0])


SHOWN = (("kappa", "ci95"), ("probe_kappa", "probe_ci95"))


def publish_lengths(folder: Path, study: Comparison, recipe: Recipe) -> dict[str, Any]:
    """Write the page of every length and one about all of them; return what they contain.

    As long as no pretraining is scored, the page is that of a curve without lengths.
    """
    lengths = Lengths(study, recipe.pretrain.steps)
    if not lengths.curves:
        return publish_curve(folder, study)
    if lengths.left_out:
        note = (
            f"pretrained for epochs by an earlier call, so without a place among steps: "
            f"{', '.join(lengths.left_out)}; the curve without --lengths shows what is not here"
        )
        study = replace(study, notes=(*study.notes, note))
    pages = {
        steps: publish_curve(folder, curve, name_of(steps, recipe))["files"]["html"]
        for steps, curve in lengths.curves.items()
    }
    said = verdict(lengths)
    files = publish(
        folder / "lengths",
        "lengths",
        study,
        picture(lengths),
        columns=("method", "steps", *COLUMNS[1:]),
        rows=lengths.with_steps(rows),
        lengths=lengths,
        verdict=said,
        explained=METHODS | BASELINES,
        pages={steps: Path(page).name for steps, page in pages.items()},
        searched=study.searched,
    )
    content = {"summary": lengths.summary, "gains": lengths.gains, "verdict": said}
    content |= {"over_scratch": lengths.over_scratch, "over_untrained": lengths.over_untrained}
    content |= {"searched": study.searched, "notes": list(study.notes)}
    return {**content, "files": {**files, **{f"{n} steps": page for n, page in pages.items()}}}


def name_of(steps: int, recipe: Recipe) -> str:
    """Return the name of a length's files; the recipe's own length has those of its curve."""
    return "curve" if steps == recipe.pretrain.steps else f"curve-{steps}"


def picture(lengths: Lengths) -> Figure:
    """Draw kappas and linear probes over the steps of pretraining, a row for each size."""
    words, panels = lengths.study.words, []
    for size in lengths.study.sizes:
        having = words.having([size])
        tuned, probed = (points(lengths, size, *keys) for keys in SHOWN)
        panels.append(
            [
                figures.Panel(tuned, "Cohen's kappa", f"Fine-tuned {having}"),
                figures.Panel(probed, "kappa of a linear probe", f"Frozen, {having}"),
            ]
        )
    return figures.in_rows(panels, xlabel="steps of pretraining", baselines=tuple(BASELINES))


def points(
    lengths: Lengths, size: int, key: str, interval: str
) -> dict[str, list[tuple[float, float, float | None, float | None]]]:
    """Return (steps, value, low, high) by method; what is not pretrained is level, without bounds.

    An untrained encoder stands beside probes, training from scratch and other baselines beside
    fine-tunings.
    """
    found: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
    probes = key != "kappa"
    for row in lengths.summary:
        method, is_level = row["method"], row["steps"] is None
        value = row["kappa"] if is_level else row[key]
        if row["size"] != size or value is None or (is_level and (method == UNTRAINED) != probes):
            continue
        line = found.setdefault(method, [])
        if is_level:
            line += [(steps, value, None, None) for steps in lengths.curves]
        else:
            line.append((row["steps"], value, *row[interval]))
    return found


def verdict(lengths: Lengths) -> list[str]:
    """State in sentences what longer pretraining changes, and what pretraining gains."""
    study = lengths.study
    lines = ["The recordings are simulated: these scores are not results."] * study.simulated
    lines += basis(study)
    lines += told(
        lengths.gains, "After the longest pretraining kappa is {} after the shortest", study
    )
    if lengths.scratch:
        sentence = f"Kappa is {{}} after training from scratch ({lengths.scratch})"
        lines += told(lengths.over_scratch, sentence, study)
    sentence = "Kappa of a linear probe is {} on an untrained encoder"
    lines += told(lengths.over_untrained, sentence, study)
    tables = (lengths.gains, lengths.over_scratch, lengths.over_untrained)
    if any(not row["supported"] for table in tables for row in table):
        lines.append(NOT_EQUAL)
    largest = max(tables, key=len)
    return [*lines, *power(largest, study.words)] if largest else lines


def told(table: Sequence[Row], sentence: str, study: Comparison) -> list[str]:
    """State which differences of a table are significant, and how many are not."""
    lines = []
    for sign, word in ((1, "significantly higher than"), (-1, "significantly lower than")):
        parts = [
            f"{row['method']} {study.words.having([row['size']])}, {steps_text(row)}: "
            f"{row['difference']:+.3f} per {study.words.test} (adjusted p {p_text(row)})"
            for row in table
            if row["supported"] and sign * row["difference"] > 0
        ]
        if parts:
            lines.append(f"{sentence.format(word)}: {'; '.join(parts)}.")
    every = Counter(row["method"] for row in table)
    rest = Counter(row["method"] for row in table if not row["supported"])
    if rest:
        counts = ", ".join(f"{method} in {n} of {every[method]}" for method, n in rest.items())
        noun = "comparison" if counts.endswith(" of 1") else "comparisons"
        lines.append(
            f"{sentence.format('not significantly different from that')}: {counts} {noun}."
        )
    return lines


def steps_text(row: Row) -> str:
    """Return the steps of a row.

    Examples
    --------
    >>> steps_text({"steps": 3000}), steps_text({"steps": 3000, "from": 600})
    ('3,000 steps', '600 to 3,000 steps')
    """
    begun = f"{row['from']:,} to " if "from" in row else ""
    return f"{begun}{row['steps']:,} steps"


def p_text(row: Row) -> str:
    """Return an adjusted p.

    Examples
    --------
    >>> p_text({"p_adjusted": 0.0123}), p_text({"p_adjusted": 0.0002})
    ('0.012', 'below 0.001')
    """
    return "below 0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}"
