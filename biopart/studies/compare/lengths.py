"""Lengths of pretraining: a curve for each, and what methods gain from longer pretraining."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
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
from biopart.studies.compare.variants import is_supervised, parted
from biopart.studies.compare.verdict import basis

Pair = tuple[Row, Scores, Scores]


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
        """Return the curve of every length, rising; what is not pretrained stands in each."""
        found = {self._length(training.method) for training in self.study.trainings}
        return {steps: self._curve(steps) for steps in sorted(s for s in found if s is not None)}

    @property
    def left_out(self) -> list[str]:
        """Methods that an earlier call pretrained for epochs, whose steps are not known."""
        methods = self.study.methods
        return [name for name in methods if not unchanged(name) and self._length(name) is None]

    @property
    def longest(self) -> Comparison:
        """The curve of the longest pretraining."""
        return list(self.curves.values())[-1]

    @property
    def pretrained(self) -> list[str]:
        """Methods that are pretrained, in the order of the curve."""
        methods = (method for curve in self.curves.values() for method in curve.methods)
        return [name for name in dict.fromkeys(methods) if not unchanged(name)]

    @property
    def scratch(self) -> str | None:
        """The first baseline that is trained from scratch."""
        return next((name for name in self.study.methods if is_supervised(name)), None)

    @cached_property
    def summary(self) -> list[Row]:
        """Means as ``Comparison.summary``, with ``steps``; None of methods without pretraining."""
        table: list[Row] = []
        for steps, curve in self.curves.items():
            table += [
                {**row, "steps": steps} for row in curve.summary if not unchanged(row["method"])
            ]
        table += [
            {**row, "steps": None} for row in self.longest.summary if unchanged(row["method"])
        ]
        order = self.study.sizes
        names = [*self.pretrained, *self.longest.methods]
        return sorted(
            table,
            key=lambda row: (
                names.index(row["method"]),
                order.index(row["size"]),
                row["steps"] or 0,
            ),
        )

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

    def _longer(self) -> Iterator[Pair]:
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

    def _beside(self, other: str, what: str) -> Iterator[Pair]:
        for method in self.pretrained:
            for size in self.study.sizes:
                for steps, curve in self.curves.items():
                    about = {"method": method, "size": size, "steps": steps}
                    yield about, getattr(curve, what)(method, size), curve.results(other, size)

    def _length(self, variant: str) -> int | None:
        return None if unchanged(variant) else parted(variant, self._own_steps)[1]

    def _curve(self, steps: int) -> Comparison:
        trainings = tuple(
            replace(t, method=parted(t.method, steps)[0], variant=t.method)
            for t in self.study.trainings
            if unchanged(t.method) or self._length(t.method) == steps
        )

        def ours(name: str) -> bool:
            variant = variant_of(name)
            return unchanged(variant) or self._length(variant) == steps

        settings = dict(self.study.settings)
        settings["pretrain"] = {**settings.get("pretrain", {}), "steps": steps}
        return replace(
            self.study,
            trainings=trainings,
            failed={name: why for name, why in self.study.failed.items() if ours(name)},
            missing=tuple(name for name in self.study.missing if ours(name)),
            settings=settings,
        )


def unchanged(method: str) -> bool:
    """Tell whether pretraining does not change a method."""
    return method in BASELINES or is_supervised(method)


def variant_of(training: str) -> str:
    """Return the variant of a training by its name.

    Examples
    --------
    >>> variant_of("mae@3000-s10-seed2"), variant_of("part-grid-seed0")
    ('mae@3000', 'part-grid')
    """
    return re.sub(r"-s\d+$", "", training.rpartition("-seed")[0])


def publish_lengths(folder: Path, study: Comparison, recipe: Recipe) -> dict[str, Any]:
    """Write the page of every length and one about all of them; return what they contain.

    As long as no pretraining is scored, the page is that of a curve without lengths.
    """
    lengths = Lengths(study, recipe.pretrain.steps)
    if not lengths.curves:
        return publish_curve(folder, study)
    if lengths.left_out:
        note = (
            f"{', '.join(lengths.left_out)} of an earlier call: pretrained for epochs, and so not "
            "shown among lengths in steps; the curve without --lengths shows it"
        )
        study = replace(study, notes=(*study.notes, note))
    pages = {
        steps: publish_curve(folder, curve, f"curve-{steps}")["files"]["html"]
        for steps, curve in lengths.curves.items()
    }
    said = verdict(lengths)
    files = publish(
        folder / "lengths",
        "lengths",
        study,
        picture(lengths),
        columns=("method", "steps", *COLUMNS[1:]),
        rows=cells(lengths),
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


def cells(lengths: Lengths) -> list[Row]:
    """Return a row per training as in curve.csv, with its ``steps``."""
    table = []
    for steps, curve in lengths.curves.items():
        table += [{**row, "steps": steps} for row in rows(curve) if not unchanged(row["method"])]
    return table + [
        {**row, "steps": None} for row in rows(lengths.longest) if unchanged(row["method"])
    ]


def picture(lengths: Lengths) -> Figure:
    """Draw kappas and linear probes over the steps of pretraining, a row for each size."""
    words, panels = lengths.study.words, []
    for size in lengths.study.sizes:
        having = words.having([size])
        panels += [
            figures.Panel(
                points(lengths, size, "kappa", "ci95"), "Cohen's kappa", f"Fine-tuned {having}"
            ),
            figures.Panel(
                points(lengths, size, "probe_kappa", "probe_ci95"),
                "kappa of a linear probe",
                f"Frozen, {having}",
            ),
        ]
    return figures.comparison(
        panels, xlabel="steps of pretraining", baselines=tuple(BASELINES), first_wide=False
    )


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
    lines += basis(lengths.longest)
    lines += told(
        lengths.gains, "Kappa after the longest pretraining, against the shortest,", study
    )
    if lengths.scratch:
        lines += told(lengths.over_scratch, f"Kappa, against {lengths.scratch},", study)
    probes = "Kappa of a linear probe, against an untrained encoder,"
    lines += told(lengths.over_untrained, probes, study)
    if {row["seeds"] for row in lengths.summary} == {1}:
        lines.append("With one seed, a difference may be due to the seed and not to the method.")
    return lines


def told(table: Sequence[Row], what: str, study: Comparison) -> list[str]:
    """State which differences of a table are significant, and how many are not."""
    lines = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        parts = [
            f"{row['method']} {study.words.having([row['size']])} after {row['steps']:,} steps, "
            f"{row['difference']:+.3f} per {study.words.test} (adjusted p {row['p_adjusted']:.3f})"
            for row in table
            if row["supported"] and sign * row["difference"] > 0
        ]
        if parts:
            lines.append(f"{what} is significantly {word}: {'; '.join(parts)}.")
    every = Counter(row["method"] for row in table)
    rest = Counter(row["method"] for row in table if not row["supported"])
    if rest:
        counts = [f"{method} in {n} of {every[method]}" for method, n in rest.items()]
        lines.append(f"{what} is not significantly different: {', '.join(counts)} comparisons.")
    return lines
