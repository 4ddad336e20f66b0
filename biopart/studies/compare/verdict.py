"""What the data of a curve show and what they do not, in sentences."""

import re
from collections.abc import Iterator, Sequence

from biopart.evaluation.paired import FEWEST, smallest_p
from biopart.studies.compare.table import BASELINES, LEVEL, REFERENCE, Comparison, Row, drawn_by
from biopart.studies.compare.words import Words

CALLED = REFERENCE.upper()
NOT_EQUAL = "A difference that is not significant does not show that two methods are equal."


def verdict(study: Comparison) -> list[str]:
    """State in sentences what the data show, and what they do not."""
    table = study.differences
    lines = ["The recordings are simulated: these scores are not results."] * study.simulated
    lines += basis(study)
    if table:
        lines += [*_significant(table, study.words), *_not_significant(table, study.words)]
        lines += power(table, study.words)
    else:
        lines.append(f"{CALLED} and another method are needed for a comparison.")
    return [*lines, *_baselines(study), *_probed(study)]


def basis(study: Comparison) -> Iterator[str]:
    """State how many persons, seeds and trainings there are."""
    words = study.words
    seeds = [row["seeds"] for row in study.summary]
    low, high = min(seeds, default=0), max(seeds, default=0)
    span = f"{low}" if low == high else f"{low} to {high}"
    yield (
        f"Test {words.tests}: {len(study.test_persons)}; seeds per method and size: {span}. Each "
        "seed is a new training from the start on a new draw of labelled "
        f"{words.labels}, which all methods share."
    )
    sets: dict[int, set[frozenset[str]]] = {}
    for training in study.trainings:
        sets.setdefault(training.size, set()).add(drawn_by(training.result))
    alike = sorted(size for size, drawn in sets.items() if len(drawn) == 1)
    if alike and high > 1:
        yield (
            f"{words.having(alike).capitalize()} every seed uses the same ones: the intervals "
            f"there reflect training and test {words.tests}, not the draw."
        )
    failed, missing = (
        sum(bool(re.search(r"-s\d+-seed\d+$", name)) for name in names)
        for names in (study.failed, study.missing)
    )
    if failed or missing:
        whole = len(study.trainings) + failed + missing
        yield (
            f"{failed + missing} of {whole} trainings ({(failed + missing) / whole:.0%}) have no "
            f"score: {failed} failed, {missing} not done yet. Fewer seeds make a result less "
            "certain."
        )


def _significant(table: Sequence[Row], words: Words) -> Iterator[str]:
    """State the significant differences."""
    for sign, word in ((1, "better"), (-1, "worse")):
        by_method: dict[str, list[str]] = {}
        for row in table:
            if row["supported"] and sign * row["difference"] > 0:
                low, high = row["ci95"]
                by_method.setdefault(row["method"], []).append(
                    f"{row['difference']:+.3f} kappa per {words.test} "
                    f"{words.having([row['size']])} (95 % interval {low:+.3f} to {high:+.3f}, "
                    f"adjusted p {row['p_adjusted']:.3f}, {row['seeds']} seeds)"
                )
        for method, gaps in by_method.items():
            yield f"{method} is significantly {word} than {CALLED}: {'; '.join(gaps)}."


def _not_significant(table: Sequence[Row], words: Words) -> Iterator[str]:
    """State the differences that are not significant, each with the reason."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for row in table:
        if not row["supported"]:
            sizes.setdefault((why_not(row), row["method"]), []).append(row["size"])
    for why in dict.fromkeys(why for why, _ in sizes):
        alike: dict[str, list[str]] = {}
        for (reason, method), where in sizes.items():
            if reason == why:
                alike.setdefault(words.having(where), []).append(method)
        parts = [f"{', '.join(methods)} {where}" for where, methods in alike.items()]
        yield f"The difference from {CALLED} is not significant ({why}): {'; '.join(parts)}."
    if sizes:
        yield NOT_EQUAL


def why_not(row: Row) -> str:
    """Return why a difference is not significant."""
    intervals = [row["ci95"], row["pooled_ci95"], row["seeds_ci95"]]
    if any(None not in (low, high) and low <= 0 <= high for low, high in intervals):
        return "a 95 % interval includes zero"
    if row["seeds"] == 1:
        return "only one seed can be compared"
    if row["p_adjusted"] is None:
        return "no test is possible"
    if row["p_adjusted"] >= LEVEL:
        return f"the adjusted p is not below {LEVEL}"
    return "the intervals over persons and over seeds contradict each other"


def power(table: Sequence[Row], words: Words) -> Iterator[str]:
    """State what could not have been found, whatever the truth."""
    persons, tests = max(row["persons"] for row in table), sum(r["p"] is not None for r in table)
    lowest = smallest_p(persons)
    if persons < FEWEST:
        yield (
            f"No test is possible: with {words.tested(persons)} that have a defined kappa, p "
            f"cannot be below {lowest:.3g}; at least {FEWEST} are needed. Intervals over so few "
            f"{words.tests} are too narrow."
        )
    elif lowest * tests >= LEVEL:
        yield (
            f"With {words.tested(persons)}, p cannot be below {lowest:.2g}: if only one of {tests} "
            f"comparisons differed, its adjusted p could not fall below {LEVEL}, however large the "
            "difference."
        )
    if all(row["seeds"] == 1 for row in table):
        yield "With one seed, a difference may be due to the seed and not to the method."
    if left := max(row["left_out"] for row in table):
        yield (
            f"Up to {words.tested(left)} without a defined kappa in some training (one class only) "
            f"are left out of the differences per {words.test}."
        )


def _baselines(study: Comparison) -> Iterator[str]:
    """State where a baseline without pretraining has a higher mean than the reference."""
    means = {(row["method"], row["size"]): row["kappa"] for row in study.summary}
    for name, what in BASELINES.items():
        above = {}
        for size in study.sizes:
            ours, theirs = means.get((name, size)), means.get((REFERENCE, size))
            if ours is not None and theirs is not None and ours > theirs:
                above[size] = f"{ours:.3f} against {theirs:.3f}"
        if above:
            yield (
                f"{name} ({what}) has a higher mean kappa than {CALLED} "
                f"{study.words.having(list(above))}: {', '.join(above.values())}."
            )


def _probed(study: Comparison) -> Iterator[str]:
    """State whether pretraining helped a linear probe on the frozen encoder of the reference."""
    sizes: dict[str, list[int]] = {}
    for row in study.probe_gains:
        if row["method"] == REFERENCE:
            word = "better than" if (row["difference"] or 0) > 0 else "worse than"
            outcome = (
                f"significantly {word}" if row["supported"] else "not significantly different from"
            )
            sizes.setdefault(outcome, []).append(row["size"])
    parts = [
        f"{word} one on an untrained encoder {study.words.having(sizes_of)}"
        for word, sizes_of in sizes.items()
    ]
    if parts:
        yield f"A linear probe on the frozen {CALLED} encoder is {', '.join(parts)}."
