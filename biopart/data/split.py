"""Division of a cohort by person."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Persons by their part in an experiment, and notes on counts that could not be met.

    Each image is a person of its own, and ``classes`` has the class of each labelled image.
    """

    test: tuple[str, ...]
    validation: tuple[str, ...]
    pretrain: tuple[str, ...]
    finetune: tuple[str, ...]
    notes: tuple[str, ...] = ()
    classes: Mapping[str, int] | None = None

    @property
    def most(self) -> int:
        """Largest subset: labelled persons, or images of the rarest class."""
        if self.classes is None:
            return len(self.finetune)
        counts = Counter(self.classes[name] for name in self.finetune)
        return min((counts[code] for code in set(self.classes.values())), default=0)

    def subset(self, count: int, seed: int) -> tuple[str, ...]:
        """Draw persons, or images of each class, for a fine-tuning; subsets are nested by count.

        A count larger than what is labelled takes all; ``shortage`` reports it.
        """
        if count < 1:
            raise ValueError(f"subjects is {count}; give at least 1")
        order = np.random.default_rng([seed, 2]).permutation(len(self.finetune))
        drawn = tuple(self.finetune[index] for index in order)
        if self.classes is None:
            return drawn[:count]
        of_class = [self.classes[name] for name in drawn]
        rank, met = [], Counter[int]()
        for one in of_class:
            rank.append(met[one])
            met[one] += 1
        return tuple(name for name, place in zip(drawn, rank, strict=True) if place < count)

    def shortage(self, count: int) -> list[str]:
        """Return a sentence if fewer are labelled than a subset needs, else nothing."""
        if count <= self.most:
            return []
        if self.classes is None:
            asked, there = "subjects", f"{self.most} labelled persons remain"
        else:
            asked, there = "images per class", f"the rarest class has {self.most}"
        return [f"{count} {asked} requested, but {there} beside test and validation; all are used"]


def fold_of(labelled: Sequence[str], folds: int, fold: int, seed: int) -> tuple[str, ...]:
    """Return the persons of one of several folds, which differ by one person at most.

    Raises ValueError if there are fewer persons than folds.

    Examples
    --------
    >>> [fold_of("abcde", 2, fold, seed=0) for fold in (0, 1)]
    [('c', 'd', 'b'), ('e', 'a')]
    """
    if folds > len(labelled):
        raise ValueError(
            f"{len(labelled)} labelled persons cannot be divided into {folds} folds; lower "
            "split.folds"
        )
    return tuple(_shuffled(labelled, [seed])[fold::folds])


def split_persons(
    everyone: Sequence[str],
    labelled: Sequence[str],
    *,
    test: int | Sequence[str],
    validation: int,
    pretrain: int | None = None,
    finetune: int | None = None,
    seed: int = 0,
    classes: Mapping[str, int] | None = None,
) -> Split:
    """Divide persons; test and validation persons are labelled and outside everything else.

    Parameters
    ----------
    everyone, labelled : sequence of str
        All persons, and those with labels.
    test : int or sequence of str
        Number of persons, or their names if they are fixed.
    validation, pretrain, finetune : int
        Number of persons; None = all that remain. A count larger than what exists takes all, with
        a note.
    seed : int
        Seed; the test persons depend on nothing else.
    classes : mapping, optional
        Class of each labelled image; subsets then count images per class.

    Raises
    ------
    ValueError
        If test and validation leave no labelled person.
    """
    kind = "persons" if classes is None else "images"
    fixed = () if isinstance(test, int) else tuple(test)
    tested = sorted(set(labelled).intersection(fixed))
    order = tested + _shuffled(set(labelled).difference(fixed), [seed])
    if fixed and not tested:
        raise ValueError(f"none of the given test {kind} has a label; choose others")
    count = test if isinstance(test, int) else len(tested)
    if count < 1 or count + validation >= len(order):
        raise ValueError(
            f"{count} test and {validation} validation {kind} leave none of {len(order)} labelled "
            f"{kind} to train on; lower split.test_persons or split.validation_persons"
        )
    held, pool = order[: count + validation], order[count + validation :]
    rest = _shuffled(set(everyone).difference(held, fixed), [seed, 1])
    notes = [
        f"{wanted} {name} {kind} requested, but only {len(found)} available"
        for name, wanted, found in (("pretrain", pretrain, rest), ("finetune", finetune, pool))
        if wanted is not None and wanted > len(found)
    ]
    return Split(
        tuple(held[:count]),
        tuple(held[count:]),
        tuple(rest[:pretrain]),
        tuple(pool[:finetune]),
        tuple(notes),
        classes,
    )


def _shuffled(names: Iterable[str], seed: Sequence[int]) -> list[str]:
    """Return names in an order that depends only on them and the seed."""
    ordered = sorted(names)
    return [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))]
