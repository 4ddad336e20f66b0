"""The tables of a study: scores, means with intervals, paired differences."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.metrics import merged
from biopart.evaluation.paired import adjusted, curve_interval, paired_difference
from biopart.files import write_text
from biopart.studies.compare.words import WORDS, Words

SCORES = ("kappa", "kappa_mean", "macro_f1", "accuracy")
COLUMNS = ("method", "size", "seed", *SCORES, "probe_kappa", "seconds", "persons")
REFERENCE = "part"
METHODS = {
    "part": "pairwise relative translations between patches off the grid",
    "part-grid": "the same between the patches of the grid",
    "mae": "masked autoencoder: three of four patches are hidden and reconstructed",
    "mp3": "the position of every patch is predicted, from a part of the patches",
    "droppos": "the positions of visible patches whose positions are hidden",
    "dino": "a teacher's assignment of another view to prototypes",
    "byol": "a teacher's projection of another view",
    "moby": "a teacher's projection of another view, found among earlier ones",
    "selfpatch": "the same of every patch, from its most similar neighbours, beside whole views",
    "cossl": "a teacher's projection of another view, predicted from every place of a view too",
    "supervised": "no pretraining, learned positions",
    "supervised-nopos": "no pretraining and no positions",
    "supervised-relative": "no pretraining, a trained bias of the attention by relative positions",
}
UNTRAINED = "untrained"
BASELINES = {
    UNTRAINED: "a linear probe on an untrained encoder",
    "band-powers": "logistic regression on band powers, without a network",
    "pixels": "logistic regression on images averaged to 8 x 8 pixels, without a network",
}
LEVEL = 0.05

Row = dict[str, Any]
Scores = Mapping[int, Mapping[str, Any]]
"""Results of one method and size by seed."""


@dataclass(frozen=True)
class Scored:
    """A finished training: the score of a fine-tuning or baseline, and of the probe beside it.

    ``result`` and ``probe`` are as result.json; a baseline has no probe. In a
    cross-validation the trainings of all folds are joined into one; ``parts`` has their seeds.
    ``variant`` is the name of its runs, where it is not the method.
    """

    method: str
    size: int
    seed: int
    result: Mapping[str, Any]
    probe: Mapping[str, Any] | None = None
    parts: tuple[int, ...] = ()
    variant: str | None = None

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Name and seed of the runs behind it, one of each fold."""
        seeds = self.parts or (self.seed,)
        return [(f"{self.variant or self.method}-seed{seed}", seed) for seed in seeds]

    @property
    def searches(self) -> list[Sequence[Mapping[str, Any]]]:
        """What the searches of its fine-tunings tried, with the kappa on validation persons."""
        tried = self.result.get("tried")
        found: list[Sequence[Mapping[str, Any]]] = self.result.get("searches", [])
        return found if tried is None else [tried]


def joined_folds(trainings: Sequence[Scored], folds: int) -> list[Scored]:
    """Join the trainings of the folds of a cross-validation, each round of them into one.

    Parameters
    ----------
    trainings : sequence of Scored
        One per seed; the seeds of a round follow each other.
    folds : int
        Folds of a round; the seeds of round r are r * folds and the next ones.

    Returns
    -------
    list of Scored
        One per complete round, under the number of the round; its result and its probe are of the
        test persons of all folds.
    """
    rounds: dict[tuple[str, int, int], list[Scored]] = {}
    for training in trainings:
        key = (training.method, training.size, training.seed // folds)
        rounds.setdefault(key, []).append(training)
    return [joined(key, parts) for key, parts in rounds.items() if len(parts) == folds]


def joined(key: tuple[str, int, int], parts: Sequence[Scored]) -> Scored:
    """Join the trainings of one round, of a method, a size and a number."""
    method, size, number = key
    result = merged([part.result for part in parts])
    persons = sorted({name for part in parts for name in part.result.get("train_persons", ())})
    warnings = [text for part in parts for text in part.result.get("warnings", ())]
    seconds = [part.result.get("seconds") for part in parts]
    result |= {"train_persons": persons, "warnings": list(dict.fromkeys(warnings))}
    result["searches"] = [search for part in parts for search in part.searches]
    result["seconds"] = None if None in seconds else sum(s for s in seconds if s is not None)
    probes = [part.probe for part in parts if part.probe is not None]
    probe = merged(probes) if len(probes) == len(parts) else None
    return Scored(method, size, number, result, probe, tuple(part.seed for part in parts))


@dataclass(frozen=True)
class Comparison:
    """The finished trainings of a study, and what is known about it.

    Attributes
    ----------
    title, unit : str
        Name of the recipe, and what sizes count: "person" or "per_class" (images).
    trainings : tuple of Scored
        Method by method; the methods of a sweep are its variants.
    failed : mapping
        Name of a training to the reason.
    missing : tuple of str
        Names of trainings still to be done.
    notes : tuple of str
        Notes for the reader.
    simulated : bool
        Whether the recordings are simulated: their scores are not results.
    published : mapping
        A paper's kappas by method and size.
    settings, provenance : mapping
        The recipe; versions, commit, machine.
    folds : int
        Number of cross-validation folds; a seed in the tables covers all of them; 1 = no
        cross-validation.
    """

    title: str
    unit: str
    trainings: tuple[Scored, ...]
    failed: Mapping[str, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    simulated: bool
    published: Mapping[str, Mapping[int, float]]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    folds: int = 1

    @property
    def methods(self) -> list[str]:
        """Methods in the order of their first training."""
        return list(dict.fromkeys(training.method for training in self.trainings))

    @property
    def sizes(self) -> list[int]:
        """Sizes, rising."""
        return sorted({training.size for training in self.trainings})

    @property
    def test_persons(self) -> list[str]:
        """Test persons with a known truth, by name; of images the blocks of them."""
        return sorted({p for training in self.trainings for p in counts_of(training.result)})

    @property
    def words(self) -> Words:
        """What sizes and the test are counted in."""
        return WORDS[self.unit]

    def results(self, method: str, size: int) -> Scores:
        """Return the results of a method and size by seed."""
        return {t.seed: t.result for t in self._of(method, size)}

    def runs(self, method: str, size: int) -> list[tuple[str, int]]:
        """Return the runs of a method and size with their seeds, of all folds."""
        return [run for training in self._of(method, size) for run in training.runs]

    def probes(self, method: str, size: int) -> Scores:
        """Return the scores of linear probes on a method's encoders by seed."""
        return {t.seed: t.probe for t in self._of(method, size) if t.probe is not None}

    @cached_property
    def summary(self) -> list[Row]:
        """Means over seeds per method and size, with intervals over test persons and seeds.

        ``method``, ``size``, ``seeds``, ``persons`` (test persons), ``kappa`` (pooled over persons,
        mean over seeds) and ``ci95`` [low, high], ``kappa_mean``, ``macro_f1``, ``accuracy``, and
        ``probe_kappa`` and ``probe_ci95`` of the linear probe on the frozen encoder, None without.
        """
        table = []
        for method, size in self._lines:
            scores, probes = self.results(method, size), self.probes(method, size)
            if not scores:
                continue
            names, counts = _stacked(scores.values())
            kappa, *ci95 = curve_interval(counts)
            row: Row = {"method": method, "size": size, "seeds": len(scores)}
            row |= {"persons": len(names), "kappa": kappa, "ci95": ci95}
            row |= {key: _mean(score.get(key) for score in scores.values()) for key in SCORES[1:]}
            row |= {"probe_kappa": None, "probe_ci95": None}
            if probes:
                _, counts = _stacked(probes.values())
                row["probe_kappa"], *row["probe_ci95"] = curve_interval(counts)
            table.append(row)
        return table

    @cached_property
    def differences(self) -> list[Row]:
        """Paired differences of each method to PART, by method and size.

        Only seeds that both have are paired; p values are adjusted over the whole table.
        ``method``, ``size``, ``difference`` (method minus PART, mean over test persons) and
        ``ci95`` over persons, ``p``, ``p_adjusted``, ``persons``, ``left_out`` (persons without a
        defined kappa), ``seeds``, ``pooled_difference``, ``pooled_ci95`` over persons and seeds,
        ``seeds_ci95`` over seeds alone, and ``supported``: whether the difference is significant.
        """
        return compared(
            (
                {"method": method, "size": size},
                self.results(method, size),
                self.results(REFERENCE, size),
            )
            for method, size in self._lines
            if method != REFERENCE
        )

    @cached_property
    def probe_gains(self) -> list[Row]:
        """Paired differences of linear probes to the one on an untrained encoder.

        As ``differences``; the p values are adjusted separately.
        """
        return compared(
            (
                {"method": method, "size": size},
                self.probes(method, size),
                self.results(UNTRAINED, size),
            )
            for method, size in self._lines
        )

    @cached_property
    def searched(self) -> list[Row]:
        """Values that a search tried, by method: ``chosen`` in so many of ``searches``."""
        table: list[Row] = []
        for method in self.methods:
            counts: dict[str, int] = {}
            own = [s for t in self.trainings if t.method == method for s in t.searches]
            for search in own:
                best = max(search, key=lambda row: row["validation_kappa"])
                for row in search:
                    counts[values_text(row)] = counts.get(values_text(row), 0) + (row is best)
            table += [
                {"method": method, "values": values, "chosen": count, "searches": len(own)}
                for values, count in counts.items()
            ]
        return table

    @property
    def _lines(self) -> list[tuple[str, int]]:
        return [(method, size) for method in self.methods for size in self.sizes]

    def _of(self, method: str, size: int) -> list[Scored]:
        scored = [t for t in self.trainings if (t.method, t.size) == (method, size)]
        return sorted(scored, key=lambda training: training.seed)


def values_text(row: Mapping[str, Any]) -> str:
    """Return the values that a row of a search tried.

    Examples
    --------
    >>> values_text({"finetune.lr": 0.001, "validation_kappa": 0.5})
    'finetune.lr 0.001'
    """
    return ", ".join(f"{key} {value}" for key, value in row.items() if key != "validation_kappa")


def rows(study: Comparison) -> list[Row]:
    """Return a row per training with the columns of curve.csv, by method, size and seed."""
    order = study.methods
    return [
        {
            **{"method": training.method, "size": training.size, "seed": training.seed},
            **{key: training.result.get(key) for key in SCORES},
            "probe_kappa": None if training.probe is None else training.probe["kappa"],
            "seconds": training.result.get("seconds"),
            "persons": " ".join(training.result.get("train_persons", ())),
        }
        for training in sorted(
            study.trainings, key=lambda t: (order.index(t.method), t.size, t.seed)
        )
    ]


def write_csv(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS
) -> None:
    """Write rows as CSV; unknown values stay empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def is_significant(row: Mapping[str, Any]) -> bool:
    """Tell whether a difference is significant.

    It is significant if the adjusted p is below 0.05 and all intervals are on the same side of 0:
    over persons, over persons and seeds, and Student's over seeds. One seed is no evidence about
    a method.
    """
    if row["p_adjusted"] is None or row["p_adjusted"] >= LEVEL:
        return False
    limits = [*row["ci95"], *row["pooled_ci95"], *row["seeds_ci95"]]
    return None not in limits and bool(min(limits) > 0 or max(limits) < 0)


def compared(pairs: Iterable[tuple[Row, Scores, Scores]]) -> list[Row]:
    """Pair scores by seed and person and adjust p over all pairs; skip pairs without a seed.

    Each pair has what names its row, and two scores, of which the second is subtracted; the rows
    are those of ``Comparison.differences``.
    """
    table = []
    for about, own, other in pairs:
        seeds = sorted(own.keys() & other.keys())
        if not seeds:
            continue
        names, counts = _stacked([*(own[s] for s in seeds), *(other[s] for s in seeds)])
        if not names:
            continue
        difference = paired_difference(counts[: len(seeds)], counts[len(seeds) :])
        pooled, *pooled_ci95 = difference.pooled
        row: Row = {**about, "difference": difference.difference}
        row |= {
            "ci95": [difference.low, difference.high],
            "p": difference.p,
            "persons": difference.persons,
        }
        row |= {"left_out": difference.left_out, "seeds": difference.seeds}
        row |= {"pooled_difference": pooled, "pooled_ci95": pooled_ci95}
        table.append(row | {"seeds_ci95": list(difference.by_seed[1:])})
    for row, p in zip(table, adjusted([row["p"] for row in table]), strict=True):
        row["p_adjusted"] = p
        row["supported"] = is_significant(row)
    return table


def _stacked(scores: Iterable[Mapping[str, Any]]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the persons that all scores have, and their confusions (scores, persons, L, L)."""
    tables = [counts_of(score) for score in scores]
    names = sorted(set(tables[0]).intersection(*tables[1:]))
    return names, np.array([[table[name] for name in names] for table in tables])


def counts_of(score: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the confusion of each test person, or of each block of test images."""
    counts: Mapping[str, Any] = score.get("confusion_by_person") or score["confusion_by_block"]
    return counts


def drawn_by(score: Mapping[str, Any]) -> frozenset[str]:
    """Return the labelled persons of a score; for images the hash of their names."""
    names = score.get("train_persons")
    return frozenset([score["train_images_sha256"]] if names is None else names)


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None
