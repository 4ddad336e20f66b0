"""Answers of an encoder to a question, as sums over the units of a bootstrap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopart.evaluation.dense import dense_scores
from biopart.evaluation.events import joined, matched_events, runs_of
from biopart.evaluation.metrics import kappa_of
from biopart.evaluation.resampled import Statistic, Sums, difference_of, interval_of, sums_of

MOST_CELLS = 10**7  # of all confusions that are kept for an interval


@dataclass(frozen=True)
class Answer:
    """One score.

    Attributes
    ----------
    task, features, measure : str
        Such as "part retrieval", "mean", "AP".
    sums : Sums
        What each person or image adds.
    statistic : callable
        Sums (R, ...) -> scores (R,).
    n_items : int
        Number of items behind it.
    exact : float, optional
        The score itself where no sum gives it: then there is no interval.
    """

    task: str
    features: str
    measure: str
    sums: Sums
    statistic: Statistic
    n_items: int
    exact: float | None = None

    @property
    def value(self) -> float:
        """The score."""
        if self.exact is not None:
            return self.exact
        if not self.sums.units:
            return float("nan")
        return float(self.statistic(self.sums.values.sum(0)[None])[0])

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval over units."""
        return None if self.exact is not None else interval_of(self.sums, self.statistic)

    def beyond(self, other: "Answer") -> tuple[float, tuple[float, float] | None]:
        """Return the difference to another encoder's answer, and its interval over units."""
        if self.exact is not None or other.exact is not None:
            return self.value - other.value, None
        return difference_of(self.sums, other.sums, self.statistic)


def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean from sums and counts, (R, 2) -> (R,)."""
    counted: NDArray[np.float64] = np.where(
        sums[..., 1] > 0, sums[..., 0] / np.maximum(sums[..., 1], 1e-12), np.nan
    )
    return counted


def f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F1 from found, missed and false events, (R, 3) -> (R,)."""
    found, missed, false = np.moveaxis(sums, -1, 0)
    total = 2 * found + missed + false
    scores: NDArray[np.float64] = np.where(total > 0, 2 * found / np.maximum(total, 1), np.nan)
    return scores


def mean_answer(
    about: tuple[str, str, str], values: NDArray[np.floating], units: Sequence[str]
) -> Answer:
    """Return the mean of one value per item, without those that are NaN."""
    known = np.isfinite(values)
    sums = sums_of(units, np.stack([np.where(known, values, 0), known.astype(float)], 1))
    return Answer(*about, sums, ratio, int(known.sum()))


def class_answers(
    task: str,
    features: str,
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    *,
    units: Sequence[str],
) -> list[Answer]:
    """Return accuracy of classes of items, and Cohen's kappa unless classes are very many."""
    right = mean_answer((task, features, "accuracy"), (labels == predicted).astype(float), units)
    classes = int(max(labels.max(initial=0), predicted.max(initial=0))) + 1
    names, rows = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    if len(names) * classes**2 > MOST_CELLS:
        return [right]
    cells = np.zeros((len(names), classes, classes))
    np.add.at(cells, (rows.ravel(), labels, predicted), 1)
    sums = Sums(tuple(names.tolist()), cells)
    return [right, Answer(task, features, "kappa", sums, kappa_of, len(labels))]


def dense_answers(
    task: str, features: str, counts: NDArray[np.int64], units: Sequence[str]
) -> list[Answer]:
    """Return mean IoU, mean accuracy and accuracy from ``dense_counts`` of items (items, 3, L)."""
    sums = sums_of(units, counts)
    return [
        Answer(
            task,
            features,
            name,
            sums,
            lambda drawn, key=key: dense_scores(drawn)[key],  # type: ignore[misc]
            len(counts),
        )
        for key, name in (("miou", "mIoU"), ("macc", "mAcc"), ("aacc", "aAcc"))
    ]


@dataclass(frozen=True)
class PredictedRecording:
    """A recording with its events, and classes that were predicted for its samples.

    Attributes
    ----------
    person : str
        Whose it is.
    events : int64 (event, 3)
        True start, stop and code.
    predicted : int (samples,)
        0 = no event, 1 + code.
    sfreq_hz : float
        Sampling rate.
    gap_s, least_s : float
        Predicted events less than a gap apart are one; shorter ones are none.
    """

    person: str
    events: NDArray[np.int64]
    predicted: NDArray[np.integer]
    sfreq_hz: float
    gap_s: float = 0.0
    least_s: float = 0.0

    def found(self, code: int) -> NDArray[np.int64]:
        """Return start and stop of the predicted events of a class, in samples."""
        rate = self.sfreq_hz
        runs = runs_of(self.predicted, code + 1)
        return joined(runs, gap=self.gap_s * rate, least=self.least_s * rate)


def event_answers(
    what: str, names: Sequence[str], recordings: Sequence[PredictedRecording]
) -> Iterator[Answer]:
    """Yield F1 of events of all classes and of each (``names``), and the error of their onsets."""
    counts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    errors: list[NDArray[np.float64]] = [np.zeros(0)]
    owners: list[str] = []
    for one in recordings:
        for code, name in enumerate(names):
            truth = one.events[one.events[:, 2] == code][:, :2]
            found = matched_events(truth, one.found(code))
            counts[name].append(np.array([found.found, found.missed, found.false], float))
            errors.append(np.abs(found.onset_error) / one.sfreq_hz)
            owners += [one.person] * found.found
    persons = [one.person for one in recordings]
    every = np.sum([np.stack(rows) for rows in counts.values()], axis=0)
    yield _f1_answer(what, "all", every, persons)
    if len(counts) > 1:
        for name, rows in counts.items():
            if np.sum(rows):
                yield _f1_answer(what, name, np.stack(rows), persons)
    if owners:
        about = (f"{what} localisation", "tokens", "mean onset error (s)")
        yield mean_answer(about, np.concatenate(errors), owners)


def _f1_answer(what: str, name: str, rows: NDArray[np.float64], units: list[str]) -> Answer:
    n_events = int(rows[:, :2].sum())
    return Answer(f"{what} detection, {name}", "tokens", "F1", sums_of(units, rows), f1, n_events)
