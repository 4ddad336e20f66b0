"""Tables and sentences of a curve state what its trainings show, and no more."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biopart.studies.compare.table import (
    COLUMNS,
    Comparison,
    Scored,
    is_significant,
    rows,
    write_csv,
)
from biopart.studies.compare.verdict import verdict, why_not

EIGHT = (2, 3, 4, 5, 6, 7, 8, 9)
BETTER = (3, 5, 7, 8, 8, 9, 9, 10)


def _score(right: Sequence[int]) -> dict[str, Any]:
    """Score persons p0, p1 ... of 20 windows in two classes; kappa of a person = right / 5 - 1."""
    kappas = {f"p{at}": r / 5 - 1 for at, r in enumerate(right)}
    mean = sum(kappas.values()) / len(kappas)
    return {
        "kappa": mean,
        "kappa_mean": mean,
        "kappa_by_person": kappas,
        "macro_f1": 0.5,
        "accuracy": 0.25,
        "confusion_by_person": {f"p{at}": [[r, 10 - r], [10 - r, r]] for at, r in enumerate(right)},
        "train_persons": ["t1", "t0"],
    }


def _cell(
    method: str, size: int, seed: int, right: Sequence[int], probe: Sequence[int] | None = None
) -> Scored:
    score = _score(right) | {"seconds": 1.5}
    return Scored(method, size, seed, score, None if probe is None else _score(probe))


def _curve(*trainings: Scored, **changes: Any) -> Comparison:
    curve = Comparison("c", "person", trainings, {}, (), (), False, {}, {}, {})
    return replace(curve, **changes)


def _two_seeds(method: str, right: Sequence[int], size: int = 5) -> list[Scored]:
    return [_cell(method, size, seed, right) for seed in (0, 1)]


def test_rows_stand_by_method_as_first_met_then_size_and_seed() -> None:
    cells = [_cell("part", 10, 1, [8]), _cell("mae", 1, 0, [8]), _cell("part", 2, 0, [8], [7])]
    table = rows(_curve(*cells))
    assert [(row["method"], row["size"], row["seed"]) for row in table] == [
        ("part", 2, 0),
        ("part", 10, 1),
        ("mae", 1, 0),
    ]
    assert tuple(table[0]) == COLUMNS
    assert table[0]["probe_kappa"] == pytest.approx(0.4)
    assert (table[0]["persons"], table[0]["seconds"]) == ("t1 t0", 1.5)


def test_csv_is_read_back_and_what_is_unknown_is_empty(tmp_path: Path) -> None:
    cell = _cell("untrained", 1, 0, [8])
    del cell.result["seconds"]  # type: ignore[attr-defined]
    write_csv(tmp_path / "curve.csv", rows(_curve(cell)))
    with (tmp_path / "curve.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert (row["method"], row["persons"]) == ("untrained", "t1 t0")
    assert float(row["kappa"]) == cell.result["kappa"]
    assert row["probe_kappa"] == row["seconds"] == ""


def test_summary_gives_means_over_seeds_with_intervals() -> None:
    cells = [_cell("part", 5, 0, [8], [6]), _cell("part", 5, 1, [10], [6])]
    (row,) = _curve(*cells).summary
    assert (row["method"], row["size"], row["seeds"], row["persons"]) == ("part", 5, 2, 1)
    assert [row["kappa"], *row["ci95"]] == pytest.approx([0.8, 0.6, 1.0])
    assert [row["probe_kappa"], *row["probe_ci95"]] == pytest.approx([0.2, 0.2, 0.2])
    assert (row["kappa_mean"], row["macro_f1"], row["accuracy"]) == pytest.approx((0.8, 0.5, 0.25))


def test_baselines_have_no_probe() -> None:
    (row,) = _curve(_cell("band-powers", 5, 0, [8])).summary
    assert row["probe_kappa"] is row["probe_ci95"] is None


def test_only_seeds_that_both_have_are_paired() -> None:
    cells = [_cell("part", 5, 0, [8]), _cell("part", 5, 1, [2]), _cell("mae", 5, 0, [9])]
    (row,) = _curve(*cells, _cell("mp3", 5, 7, [9]), _cell("mae", 9, 0, [9])).differences
    assert (row["method"], row["size"], row["seeds"], row["persons"]) == ("mae", 5, 1, 1)
    assert row["difference"] == row["pooled_difference"] == pytest.approx(0.2)
    assert (row["p"], row["p_adjusted"], row["supported"]) == (None, None, False)


def test_p_is_adjusted_over_all_comparisons() -> None:
    cells = [*_two_seeds("part", EIGHT), *_two_seeds("mae", BETTER)]
    cells += [*_two_seeds("mp3", (1, 4, 4, 5, 6, 7, 8, 9)), *_two_seeds("droppos", EIGHT[::-1])]
    mae, mp3, droppos = _curve(*cells).differences
    assert mae["p"] == pytest.approx(2 / 2**8)
    assert mae["p_adjusted"] == pytest.approx(2 * 2 / 2**8)  # two tests: mp3 moves two persons
    assert (mp3["p"], mp3["p_adjusted"]) == (None, None)
    assert droppos["p_adjusted"] == droppos["p"] == 1.0
    assert [row["supported"] for row in (mae, mp3, droppos)] == [True, False, False]


def test_one_seed_shows_nothing_about_a_method() -> None:
    (row,) = _curve(_cell("part", 5, 0, EIGHT), _cell("mae", 5, 0, BETTER)).differences
    assert row["p_adjusted"] < 0.05
    assert row["ci95"][0] > 0
    assert row["supported"] is False


def test_seeds_that_contradict_each_other_show_nothing() -> None:
    part = [_cell("part", 5, seed, EIGHT) for seed in range(3)]
    worse = tuple(right - 1 for right in EIGHT)
    mae = [_cell("mae", 5, 0, [10] * 8), *(_cell("mae", 5, seed, worse) for seed in (1, 2))]
    (row,) = _curve(*part, *mae).differences
    assert row["pooled_ci95"][0] < 0 < row["pooled_ci95"][1]
    assert row["supported"] is False


def test_probes_are_compared_with_the_untrained_encoder() -> None:
    cells = [_cell("part", 5, seed, EIGHT, BETTER) for seed in (0, 1)]
    (row,) = _curve(*cells, *_two_seeds("untrained", EIGHT)).probe_gains
    assert row["difference"] == pytest.approx((sum(BETTER) - sum(EIGHT)) / 8 / 5)
    assert row["supported"] is True
    text = " ".join(verdict(_curve(*cells, *_two_seeds("untrained", EIGHT))))
    assert (
        "the frozen PART encoder is significantly better than one on an untrained encoder with 5 "
        "labelled persons."
    ) in text


def test_verdict_names_what_is_significant_and_why_the_rest_is_not() -> None:
    cells = [*_two_seeds("part", EIGHT), *_two_seeds("mae", BETTER), *_two_seeds("mp3", EIGHT)]
    lines = verdict(_curve(*cells))
    assert "Test persons: 8; seeds per method and size: 2." in lines[0]
    assert lines[1].startswith("With 5 labelled persons every seed uses the same ones")
    assert lines[2].startswith(
        "mae is significantly better than PART: +0.375 kappa per person with 5 labelled persons "
        "(95 % interval +0."
    )
    assert (
        "The difference from PART is not significant (a 95 % interval includes zero): mp3 with 5 "
        "labelled persons."
    ) in lines
    assert "A difference that is not significant does not show that two methods are equal." in lines


def test_verdict_calls_the_worse_method_worse() -> None:
    lines = verdict(_curve(*_two_seeds("part", BETTER), *_two_seeds("mae", EIGHT)))
    assert any("mae is significantly worse than PART: -0.375 kappa" in line for line in lines)


ALL_ABOVE = {"ci95": [0.1, 0.2], "pooled_ci95": [0.1, 0.2], "seeds_ci95": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"pooled_ci95": [-0.1, 0.3]}, "a 95 % interval includes zero"),
        ({"seeds_ci95": [None, None], "seeds": 1}, "only one seed can be compared"),
        ({"p_adjusted": None}, "no test is possible"),
        ({"p_adjusted": 0.05}, "the adjusted p is not below 0.05"),
        ({"seeds_ci95": [-0.2, -0.1]}, "the intervals over persons and over seeds contradict"),
    ],
)
def test_a_difference_that_is_not_significant_has_the_right_reason(
    row: dict[str, Any], reason: str
) -> None:
    whole = ALL_ABOVE | {"p_adjusted": 0.01, "seeds": 2}
    assert is_significant(whole)
    assert not is_significant(whole | row)
    assert why_not(whole | row).startswith(reason)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([], "PART and another method are needed for a comparison."),
        (_two_seeds("part", EIGHT[:5]), "No test is possible: with 5 test persons that have"),
        (_two_seeds("part", EIGHT[:5]), "p cannot be below 0.0625; at least 6 are needed."),
        (_two_seeds("part", EIGHT[:5]), "is not significant (no test is possible): mae with 5"),
        ([_cell("part", 5, 0, EIGHT)], "With one seed, a difference may be due to the seed"),
        ([_cell("part", 5, 0, EIGHT)], "is not significant (only one seed can be compared): mae"),
        ([_cell("part", 5, 9, EIGHT)], "PART and another method are needed"),
    ],
)
def test_verdict_states_what_cannot_be_known(cells: list[Scored], sentence: str) -> None:
    others = _two_seeds(
        "mae", BETTER[: len(cells[0].result["confusion_by_person"]) if cells else 8]
    )
    assert sentence in " ".join(verdict(_curve(*cells, *others)))


def test_verdict_states_that_many_comparisons_hide_a_lone_difference() -> None:
    cells = [c for size in range(1, 8) for c in _two_seeds("part", EIGHT, size)]
    cells += [c for size in range(1, 8) for c in _two_seeds("mae", EIGHT[::-1], size)]
    text = " ".join(verdict(_curve(*cells)))
    assert "With 8 test persons, p cannot be below 0.0078: if only one of 7 comparisons" in text


def test_verdict_names_baselines_with_a_higher_mean() -> None:
    cells = [*_two_seeds("part", [6, 6]), *_two_seeds("band-powers", [7, 7])]
    cells += [*_two_seeds("part", [9, 9], 10), *_two_seeds("band-powers", [7, 7], 10)]
    text = " ".join(verdict(_curve(*cells)))
    assert "without a network) has a higher mean kappa than PART with 5 labelled persons: " in text
    assert "0.400 against 0.200." in text
    assert "untrained (" not in text


def test_verdict_counts_trainings_without_a_score() -> None:
    failed = {"mp3-s5-seed0": "ValueError: NaN", "mp3-seed0": "a pretraining, not in the table"}
    curve = _curve(
        *_two_seeds("part", EIGHT), failed=failed, missing=("mae-s5-seed0",), simulated=True
    )
    lines = verdict(curve)
    assert lines[0] == "The recordings are simulated: these scores are not results."
    assert "2 of 4 trainings (50%) have no score: 1 failed, 1 not done yet" in lines[3]


def test_persons_of_one_class_are_left_out_and_named() -> None:
    part, mae = _two_seeds("part", EIGHT), _two_seeds("mae", BETTER)
    for training in (*part, *mae):
        training.result["confusion_by_person"]["p0"] = [[20, 0], [0, 0]]
    (row,) = _curve(*part, *mae).differences
    assert (row["persons"], row["left_out"]) == (7, 1)
    text = " ".join(verdict(_curve(*part, *mae)))
    assert "Up to 1 test person without a defined kappa in some training" in text
