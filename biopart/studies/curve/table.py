"""What the finished cells of a curve come to: tables, intervals, paired differences, and words."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.paired import (
    FEWEST,
    adjusted,
    curve_interval,
    paired_difference,
    smallest_p,
)
from biopart.run import write_text

COLUMNS = (
    *("method", "size", "seed", "kappa", "kappa_mean", "macro_f1", "accuracy"),
    *("probe_kappa", "seconds", "persons"),
)
REFERENCE = "part"
UNTRAINED = "untrained"
BASELINES = {
    UNTRAINED: "a linear probe on an untrained encoder",
    "band-powers": "logistic regression on band powers, without a network",
}
LEVEL = 0.05

Row = dict[str, Any]
Scores = Mapping[int, Mapping[str, Any]]
"""Results of one method and size by seed."""


@dataclass(frozen=True)
class Finished:
    """A finished cell: the score of a fine-tuning or baseline, and of the probe beside it.

    ``result`` and ``probe`` are as result.json; a baseline has no probe.
    """

    method: str
    size: int
    seed: int
    result: Mapping[str, Any]
    probe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Curve:
    """All that is known of a curve.

    Attributes
    ----------
    title, unit : str
        Name of the recipe, and what sizes count.
    cells : tuple of Finished
        Method by method.
    failed : mapping
        Name of a cell to the reason.
    missing : tuple of str
        Names of cells still to be done.
    notes : tuple of str
        What a reader should know.
    simulated : bool
        No figure is a result.
    published : mapping
        A paper's kappas by method and size.
    settings, provenance : mapping
        The recipe; versions, commit, machine.
    """

    title: str
    unit: str
    cells: tuple[Finished, ...]
    failed: Mapping[str, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    simulated: bool
    published: Mapping[str, Mapping[int, float]]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def methods(self) -> list[str]:
        """Methods in the order in which they are first met."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def sizes(self) -> list[int]:
        """Sizes, rising."""
        return sorted({cell.size for cell in self.cells})

    @property
    def test_persons(self) -> list[str]:
        """Test persons with a known truth, by name."""
        return sorted({p for cell in self.cells for p in cell.result["confusion_by_person"]})

    def results(self, method: str, size: int) -> Scores:
        """Return the results of a method and size by seed."""
        return {c.seed: c.result for c in self._of(method, size)}

    def probes(self, method: str, size: int) -> Scores:
        """Return the scores of linear probes on a method's encoders by seed."""
        return {c.seed: c.probe for c in self._of(method, size) if c.probe is not None}

    def _of(self, method: str, size: int) -> list[Finished]:
        found = [c for c in self.cells if (c.method, c.size) == (method, size)]
        return sorted(found, key=lambda cell: cell.seed)


def rows(curve: Curve) -> list[Row]:
    """Return a row per finished cell with the columns of curve.csv, by method, size and seed."""
    order = curve.methods
    cells = sorted(curve.cells, key=lambda c: (order.index(c.method), c.size, c.seed))
    return [
        {
            "method": cell.method,
            "size": cell.size,
            "seed": cell.seed,
            **{key: cell.result[key] for key in ("kappa", "kappa_mean", "macro_f1", "accuracy")},
            "probe_kappa": None if cell.probe is None else cell.probe["kappa"],
            "seconds": cell.result.get("seconds"),
            "persons": " ".join(cell.result["train_persons"]),
        }
        for cell in cells
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, beside and renamed; what is not known stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def summary(curve: Curve) -> list[Row]:
    """Return means over seeds per method and size, with intervals over persons and seeds.

    Returns
    -------
    list of dict
        ``method``, ``size``, ``seeds``, ``persons`` (test persons), ``kappa`` (pooled over
        persons, mean over seeds) and ``ci95`` [low, high], ``kappa_mean``, ``macro_f1``,
        ``accuracy``, and ``probe_kappa`` and ``probe_ci95`` of the linear probe on the frozen
        encoder, None without one.
    """
    table = []
    for method in curve.methods:
        for size in curve.sizes:
            scores, probes = curve.results(method, size), curve.probes(method, size)
            if not scores:
                continue
            names, counts = _stacked(scores.values())
            kappa, *ci95 = curve_interval(counts)
            row: Row = {"method": method, "size": size, "seeds": len(scores)}
            row |= {"persons": len(names), "kappa": kappa, "ci95": ci95}
            for key in ("kappa_mean", "macro_f1", "accuracy"):
                row[key] = _mean(score[key] for score in scores.values())
            row |= {"probe_kappa": None, "probe_ci95": None}
            if probes:
                row["probe_kappa"], *row["probe_ci95"] = curve_interval(
                    _stacked(probes.values())[1]
                )
            table.append(row)
    return table


def differences(curve: Curve, reference: str = REFERENCE) -> list[Row]:
    """Return each method's paired difference to a reference, by method and size.

    Only seeds that both have are paired. p values are adjusted over the whole table.

    Returns
    -------
    list of dict
        ``method``, ``size``, ``difference`` (method minus reference, mean over test persons) and
        ``ci95`` over persons, ``p``, ``p_adjusted``, ``persons``, ``left_out`` (persons without a
        defined kappa), ``seeds``, ``pooled_difference`` and ``pooled_ci95`` over persons and
        seeds, and ``supported``.
    """
    return _compared(
        (method, size, curve.results(method, size), curve.results(reference, size))
        for method in curve.methods
        for size in curve.sizes
        if method != reference
    )


def probe_gains(curve: Curve) -> list[Row]:
    """Return what pretraining adds to a linear probe: to that on an untrained encoder.

    As ``differences``, whose p values these do not touch.
    """
    return _compared(
        (method, size, curve.probes(method, size), curve.results(UNTRAINED, size))
        for method in curve.methods
        for size in curve.sizes
    )


def is_supported(row: Mapping[str, Any]) -> bool:
    """Tell whether a difference stands.

    It does where the adjusted p is below 0.05 and both intervals lie on the same side of 0: that
    over persons, and that over persons and seeds. One seed supports nothing about a method.
    """
    if row["seeds"] < 2 or row["p_adjusted"] is None or row["p_adjusted"] >= LEVEL:
        return False
    limits = [*row["ci95"], *row["pooled_ci95"]]
    return None not in limits and bool(min(limits) > 0 or max(limits) < 0)


def _compared(pairs: Iterable[tuple[str, int, Scores, Scores]]) -> list[Row]:
    """Pair scores by seed and person and adjust p over all pairs; pairs without a seed go."""
    table = []
    for method, size, mine, other in pairs:
        seeds = sorted(mine.keys() & other.keys())
        if not seeds:
            continue
        names, counts = _stacked([*(mine[s] for s in seeds), *(other[s] for s in seeds)])
        if not names:
            continue
        found = paired_difference(counts[: len(seeds)], counts[len(seeds) :])
        pooled, *pooled_ci95 = found.pooled
        row: Row = {"method": method, "size": size, "difference": found.difference}
        row |= {"ci95": [found.low, found.high], "p": found.p, "persons": found.persons}
        row |= {"left_out": found.left_out, "seeds": found.seeds}
        table.append(row | {"pooled_difference": pooled, "pooled_ci95": pooled_ci95})
    for row, p in zip(table, adjusted([row["p"] for row in table]), strict=True):
        row["p_adjusted"] = p
        row["supported"] = is_supported(row)
    return table


def _stacked(scores: Iterable[Mapping[str, Any]]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the persons that all scores have, and their confusions (scores, persons, L, L)."""
    tables = [score["confusion_by_person"] for score in scores]
    names = sorted(set(tables[0]).intersection(*tables[1:]))
    return names, np.array([[table[name] for name in names] for table in tables])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def verdict(curve: Curve, reference: str = REFERENCE) -> list[str]:
    """Say in sentences what the data support, and what they do not."""
    table = differences(curve, reference)
    said = ["The recordings are simulated: no figure here is a result."] if curve.simulated else []
    said += _basis(curve)
    if table:
        said += [*_told(table, curve.unit, reference), *_power(table)]
    else:
        said.append(f"Without {_called(reference)} beside another method nothing can be compared.")
    said += _baselines(curve, reference)
    return [*said, *_probed(curve, reference)]


def _called(method: str) -> str:
    return method.upper() if method == "part" else method


def _with(sizes: Sequence[int], unit: str) -> str:
    """Return sizes in words, for instance 'with 1, 2 and 10 labelled persons'."""
    listed = " and ".join(", ".join(map(str, part)) for part in (sizes[:-1], sizes[-1:]) if part)
    return f"with {listed} labelled {unit}{'' if list(sizes) == [1] else 's'}"


def _basis(curve: Curve) -> Iterator[str]:
    """Say on how many persons, seeds and cells all rests."""
    seeds = [len(curve.results(m, s)) for m in curve.methods for s in curve.sizes]
    low, high = min(filter(None, seeds), default=0), max(seeds, default=0)
    span = f"{low}" if low == high else f"{low} to {high}"
    yield (
        f"Test persons: {len(curve.test_persons)}; seeds per method and size: {span}. Each seed is "
        "a new training from the start and a new draw of labelled persons, the same for all."
    )
    failed, missing = (
        [name for name in names if re.search(r"-s\d+-seed\d+$", name)]
        for names in (curve.failed, curve.missing)
    )
    whole = len(curve.cells) + len(failed) + len(missing)
    if failed or missing:
        yield (
            f"{len(failed) + len(missing)} of {whole} cells "
            f"({(len(failed) + len(missing)) / whole:.0%}) are not there: {len(failed)} failed, "
            f"{len(missing)} not done yet; what rests on fewer seeds is less sure."
        )


def _told(table: Sequence[Row], unit: str, reference: str) -> Iterator[str]:
    """Say which differences stand, and which do not."""
    name, stand = _called(reference), [row for row in table if row["supported"]]
    for sign, word in ((1, "above"), (-1, "below")):
        mine = [row for row in stand if sign * row["difference"] > 0]
        for method in dict.fromkeys(row["method"] for row in mine):
            found = [
                f"{row['difference']:+.3f} kappa per person {_with([row['size']], unit)} (95 % "
                f"{row['ci95'][0]:+.3f} to {row['ci95'][1]:+.3f}, adjusted p "
                f"{row['p_adjusted']:.3f}, {row['seeds']} seeds)"
                for row in mine
                if row["method"] == method
            ]
            yield f"The data support that {method} is {word} {name}: {'; '.join(found)}."
    sizes: dict[str, list[int]] = {}
    for row in table:
        if not row["supported"]:
            sizes.setdefault(row["method"], []).append(row["size"])
    alike: dict[str, list[str]] = {}
    for method, untold in sizes.items():
        alike.setdefault(_with(untold, unit), []).append(method)
    if not stand:
        yield f"The data tell no method from {name}, at any size compared."
    elif alike:
        parts = [f"{', '.join(methods)} {where}" for where, methods in alike.items()]
        yield f"The data do not tell from {name}: {'; '.join(parts)}."
    if alike:
        yield "What is not told apart is not shown to be equal."


def _power(table: Sequence[Row]) -> Iterator[str]:
    """Say what could not have been found, whatever the truth."""
    persons, tests = max(row["persons"] for row in table), sum(r["p"] is not None for r in table)
    lowest = smallest_p(persons)
    if persons < FEWEST:
        yield (
            f"No test is possible: {persons} test persons have a defined kappa, whose smallest "
            f"p is {lowest:.3g}; at least {FEWEST} are needed. Intervals over so few persons are "
            "too narrow."
        )
    elif lowest * tests >= LEVEL:
        yield (
            f"With {persons} test persons the smallest p is {lowest:.2g}: if one of {tests} "
            f"comparisons alone differed, its adjusted p could not come below {LEVEL}, however "
            "large the difference."
        )
    if all(row["seeds"] == 1 for row in table):
        yield "With one seed a difference may be the seed's, so none is taken for the method's."
    elif any(row["seeds"] == 1 for row in table):
        few = [f"{row['method']} at {row['size']}" for row in table if row["seeds"] == 1]
        yield f"One seed only to compare, so nothing is taken as supported: {', '.join(few)}."
    if left := max(row["left_out"] for row in table):
        yield (
            f"Up to {left} test persons have no defined kappa in some cell (one class only) and "
            "are left out of the differences per person."
        )


def _baselines(curve: Curve, reference: str) -> Iterator[str]:
    """Say where a baseline without pretraining has a higher mean than the reference."""
    means = {(row["method"], row["size"]): row["kappa"] for row in summary(curve)}
    for name, what in BASELINES.items():
        above = {}
        for size in curve.sizes:
            mine, theirs = means.get((name, size)), means.get((reference, size))
            if mine is not None and theirs is not None and mine > theirs:
                above[size] = f"{mine:.3f} against {theirs:.3f}"
        if above:
            yield (
                f"{name} ({what}) has the higher mean kappa than {_called(reference)} "
                f"{_with(list(above), curve.unit)}: {', '.join(above.values())}."
            )


def _probed(curve: Curve, reference: str) -> Iterator[str]:
    """Say whether pretraining helped a linear probe on the frozen encoder of the reference."""
    mine = [row for row in probe_gains(curve) if row["method"] == reference]
    words: dict[str, list[int]] = {"above": [], "below": [], "not told from": []}
    for row in mine:
        sign = "above" if (row["difference"] or 0) > 0 else "below"
        words[sign if row["supported"] else "not told from"].append(row["size"])
    parts = [f"{word} it {_with(sizes, curve.unit)}" for word, sizes in words.items() if sizes]
    if parts:
        yield (
            f"A linear probe on the frozen {_called(reference)} encoder, against one on an "
            f"untrained encoder, is {', '.join(parts)}."
        )
