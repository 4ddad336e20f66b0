"""Tables and sentences of a curve say what its cells support, and no more."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biopart.studies.curve.table import (
    COLUMNS,
    Curve,
    Finished,
    differences,
    probe_gains,
    rows,
    summary,
    write_csv,
)
from biopart.studies.curve.verdict import verdict

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
) -> Finished:
    score = _score(right) | {"seconds": 1.5}
    return Finished(method, size, seed, score, None if probe is None else _score(probe))


def _curve(*cells: Finished, **changes: Any) -> Curve:
    curve = Curve("c", "person", cells, {}, (), (), False, {}, {}, {})
    return replace(curve, **changes)


def _two_seeds(method: str, right: Sequence[int], size: int = 5) -> list[Finished]:
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
    (row,) = summary(_curve(*cells))
    assert (row["method"], row["size"], row["seeds"], row["persons"]) == ("part", 5, 2, 1)
    assert [row["kappa"], *row["ci95"]] == pytest.approx([0.8, 0.6, 1.0])
    assert [row["probe_kappa"], *row["probe_ci95"]] == pytest.approx([0.2, 0.2, 0.2])
    assert (row["kappa_mean"], row["macro_f1"], row["accuracy"]) == pytest.approx((0.8, 0.5, 0.25))


def test_baselines_have_no_probe() -> None:
    (row,) = summary(_curve(_cell("band-powers", 5, 0, [8])))
    assert row["probe_kappa"] is row["probe_ci95"] is None


def test_only_seeds_that_both_have_are_paired() -> None:
    cells = [_cell("part", 5, 0, [8]), _cell("part", 5, 1, [2]), _cell("mae", 5, 0, [9])]
    (row,) = differences(_curve(*cells, _cell("mp3", 5, 7, [9]), _cell("mae", 9, 0, [9])))
    assert (row["method"], row["size"], row["seeds"], row["persons"]) == ("mae", 5, 1, 1)
    assert row["difference"] == row["pooled_difference"] == pytest.approx(0.2)
    assert (row["p"], row["p_adjusted"], row["supported"]) == (None, None, False)


def test_p_is_adjusted_over_all_comparisons() -> None:
    cells = [*_two_seeds("part", EIGHT), *_two_seeds("mae", BETTER)]
    cells += [*_two_seeds("mp3", (1, 4, 4, 5, 6, 7, 8, 9)), *_two_seeds("droppos", EIGHT[::-1])]
    mae, mp3, droppos = differences(_curve(*cells))
    assert mae["p"] == pytest.approx(2 / 2**8)
    assert mae["p_adjusted"] == pytest.approx(2 * 2 / 2**8)  # two tests: mp3 moves two persons
    assert (mp3["p"], mp3["p_adjusted"]) == (None, None)
    assert droppos["p_adjusted"] == droppos["p"] == 1.0
    assert [row["supported"] for row in (mae, mp3, droppos)] == [True, False, False]


def test_one_seed_supports_nothing_about_a_method() -> None:
    (row,) = differences(_curve(_cell("part", 5, 0, EIGHT), _cell("mae", 5, 0, BETTER)))
    assert row["p_adjusted"] < 0.05
    assert row["ci95"][0] > 0
    assert row["supported"] is False


def test_seeds_that_contradict_each_other_support_nothing() -> None:
    part = [_cell("part", 5, seed, EIGHT) for seed in range(3)]
    worse = tuple(right - 1 for right in EIGHT)
    mae = [_cell("mae", 5, 0, [10] * 8), *(_cell("mae", 5, seed, worse) for seed in (1, 2))]
    (row,) = differences(_curve(*part, *mae))
    assert row["pooled_ci95"][0] < 0 < row["pooled_ci95"][1]
    assert row["supported"] is False


def test_probes_are_compared_with_the_untrained_encoder() -> None:
    cells = [_cell("part", 5, seed, EIGHT, BETTER) for seed in (0, 1)]
    (row,) = probe_gains(_curve(*cells, *_two_seeds("untrained", EIGHT)))
    assert row["difference"] == pytest.approx((sum(BETTER) - sum(EIGHT)) / 8 / 5)
    assert row["supported"] is True
    said = " ".join(verdict(_curve(*cells, *_two_seeds("untrained", EIGHT))))
    assert "frozen PART encoder, against one on an untrained encoder, is above it with 5 " in said


def test_verdict_names_what_is_supported_and_what_is_not() -> None:
    cells = [*_two_seeds("part", EIGHT), *_two_seeds("mae", BETTER), *_two_seeds("mp3", EIGHT)]
    said = verdict(_curve(*cells))
    assert "Test persons: 8; seeds per method and size: 2." in said[0]
    assert said[1].startswith("With 5 labelled persons every seed has the same ones")
    assert said[2].startswith(
        "The data support that mae is above PART: +0.375 kappa per person with 5 labelled persons"
    )
    assert "The data do not show these to differ from PART: mp3 with 5 labelled persons." in said
    assert "What is not told apart is not shown to be equal." in said


def test_verdict_calls_the_worse_method_below() -> None:
    said = verdict(_curve(*_two_seeds("part", BETTER), *_two_seeds("mae", EIGHT)))
    assert any("support that mae is below PART: -0.375 kappa" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([], "Without PART beside another method nothing can be compared."),
        (_two_seeds("part", EIGHT[:5]), "No test is possible: 5 test persons"),
        (
            _two_seeds("part", EIGHT[:5]),
            "The data show no method to differ from PART, at any size compared.",
        ),
        ([_cell("part", 5, 0, EIGHT)], "With one seed a difference may be the seed's"),
        ([_cell("part", 5, 9, EIGHT)], "Without PART beside another method"),
    ],
)
def test_verdict_says_what_cannot_be_known(cells: list[Finished], sentence: str) -> None:
    others = _two_seeds(
        "mae", BETTER[: len(cells[0].result["confusion_by_person"]) if cells else 8]
    )
    assert sentence in " ".join(verdict(_curve(*cells, *others)))


def test_verdict_says_that_many_comparisons_hide_a_lone_difference() -> None:
    cells = [c for size in range(1, 8) for c in _two_seeds("part", EIGHT, size)]
    cells += [c for size in range(1, 8) for c in _two_seeds("mae", EIGHT[::-1], size)]
    said = " ".join(verdict(_curve(*cells)))
    assert "the smallest p is 0.0078: if one of 7 comparisons alone differed" in said


def test_verdict_names_baselines_with_a_higher_mean() -> None:
    cells = [*_two_seeds("part", [6, 6]), *_two_seeds("band-powers", [7, 7])]
    cells += [*_two_seeds("part", [9, 9], 10), *_two_seeds("band-powers", [7, 7], 10)]
    said = " ".join(verdict(_curve(*cells)))
    assert (
        "without a network) has the higher mean kappa than PART with 5 labelled persons: " in said
    )
    assert "0.400 against 0.200." in said
    assert "untrained (" not in said


def test_verdict_counts_cells_that_are_not_there() -> None:
    failed = {"mp3-s5-seed0": "ValueError: NaN", "mp3-seed0": "a pretraining, no cell of the table"}
    curve = _curve(
        *_two_seeds("part", EIGHT), failed=failed, missing=("mae-s5-seed0",), simulated=True
    )
    said = verdict(curve)
    assert said[0] == "The recordings are simulated: no figure here is a result."
    assert "2 of 4 cells (50%) are not there: 1 failed, 1 not done yet" in said[3]


def test_persons_of_one_class_are_left_out_and_named() -> None:
    part, mae = _two_seeds("part", EIGHT), _two_seeds("mae", BETTER)
    for cell in (*part, *mae):
        cell.result["confusion_by_person"]["p0"] = [[20, 0], [0, 0]]
    (row,) = differences(_curve(*part, *mae))
    assert (row["persons"], row["left_out"]) == (7, 1)
    assert "Up to 1 test persons have no defined kappa" in " ".join(verdict(_curve(*part, *mae)))
