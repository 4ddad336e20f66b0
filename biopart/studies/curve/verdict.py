"""What the data of a curve support and what they do not, in sentences."""

import re
from collections.abc import Iterator, Sequence

from biopart.evaluation.paired import FEWEST, smallest_p
from biopart.studies.curve.table import BASELINES, LEVEL, REFERENCE, Curve, Row, drawn_by
from biopart.studies.curve.words import Words


def verdict(curve: Curve) -> list[str]:
    """Say in sentences what the data support, and what they do not."""
    table = curve.differences
    said = ["The recordings are simulated: no figure here is a result."] if curve.simulated else []
    said += _basis(curve)
    if table:
        said += [*_told(table, curve.words), *_power(table, curve.words)]
    else:
        said.append(f"Without {_called(REFERENCE)} beside another method nothing can be compared.")
    said += _baselines(curve)
    return [*said, *_probed(curve)]


def _called(method: str) -> str:
    return method.upper() if method == "part" else method


def _basis(curve: Curve) -> Iterator[str]:
    """Say on how many persons, seeds and cells all rests."""
    words = curve.words
    seeds = [len(curve.results(m, s)) for m in curve.methods for s in curve.sizes]
    low, high = min(filter(None, seeds), default=0), max(seeds, default=0)
    span = f"{low}" if low == high else f"{low} to {high}"
    yield (
        f"Test {words.tests}: {len(curve.test_persons)}; seeds per method and size: {span}. Each "
        "seed is a new training from the start and a new draw of labelled "
        f"{words.labels}, the same for all."
    )
    sets: dict[int, set[frozenset[str]]] = {}
    for cell in curve.cells:
        sets.setdefault(cell.size, set()).add(drawn_by(cell.result))
    alike = sorted(size for size, drawn in sets.items() if len(drawn) == 1)
    if alike and high > 1:
        yield (
            f"{words.having(alike).capitalize()} every seed has the same ones: intervals "
            f"there are of training and test {words.tests}, not of a draw."
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


def _told(table: Sequence[Row], words: Words) -> Iterator[str]:
    """Say which differences stand, and which do not."""
    name, stand = _called(REFERENCE), [row for row in table if row["supported"]]
    for sign, word in ((1, "above"), (-1, "below")):
        mine = [row for row in stand if sign * row["difference"] > 0]
        for method in dict.fromkeys(row["method"] for row in mine):
            found = [
                f"{row['difference']:+.3f} kappa per {words.test} {words.having([row['size']])} "
                f"(95 % {row['ci95'][0]:+.3f} to {row['ci95'][1]:+.3f}, adjusted p "
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
        alike.setdefault(words.having(untold), []).append(method)
    if not stand:
        yield f"The data show no method to differ from {name}, at any size compared."
    elif alike:
        parts = [f"{', '.join(methods)} {where}" for where, methods in alike.items()]
        yield f"The data do not show these to differ from {name}: {'; '.join(parts)}."
    if alike:
        yield "What is not told apart is not shown to be equal."


def _power(table: Sequence[Row], words: Words) -> Iterator[str]:
    """Say what could not have been found, whatever the truth."""
    persons, tests = max(row["persons"] for row in table), sum(r["p"] is not None for r in table)
    lowest = smallest_p(persons)
    if persons < FEWEST:
        yield (
            f"No test is possible: {words.tested(persons)} with a defined kappa, whose smallest p "
            f"is {lowest:.3g}; at least {FEWEST} are needed. Intervals over so few {words.tests} "
            "are too narrow."
        )
    elif lowest * tests >= LEVEL:
        yield (
            f"With {words.tested(persons)} the smallest p is {lowest:.2g}: if one of {tests} "
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
            f"Up to {left} test {words.tests} have no defined kappa in some cell (one class only) "
            f"and are left out of the differences per {words.test}."
        )


def _baselines(curve: Curve) -> Iterator[str]:
    """Say where a baseline without pretraining has a higher mean than the reference."""
    means = {(row["method"], row["size"]): row["kappa"] for row in curve.summary}
    for name, what in BASELINES.items():
        above = {}
        for size in curve.sizes:
            mine, theirs = means.get((name, size)), means.get((REFERENCE, size))
            if mine is not None and theirs is not None and mine > theirs:
                above[size] = f"{mine:.3f} against {theirs:.3f}"
        if above:
            yield (
                f"{name} ({what}) has the higher mean kappa than {_called(REFERENCE)} "
                f"{curve.words.having(list(above))}: {', '.join(above.values())}."
            )


def _probed(curve: Curve) -> Iterator[str]:
    """Say whether pretraining helped a linear probe on the frozen encoder of the reference."""
    mine = [row for row in curve.probe_gains if row["method"] == REFERENCE]
    words: dict[str, list[int]] = {"above": [], "below": [], "not told from": []}
    for row in mine:
        sign = "above" if (row["difference"] or 0) > 0 else "below"
        words[sign if row["supported"] else "not told from"].append(row["size"])
    parts = [f"{word} it {curve.words.having(sizes)}" for word, sizes in words.items() if sizes]
    if parts:
        yield (
            f"A linear probe on the frozen {_called(REFERENCE)} encoder, against one on an "
            f"untrained encoder, is {', '.join(parts)}."
        )
