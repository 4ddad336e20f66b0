"""Lengths of pretraining: a curve of each, and gains by hand."""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from biopart.recipe import Recipe
from biopart.studies.compare.lengths import (
    Lengths,
    picture,
    points,
    publish_lengths,
    verdict,
)
from biopart.studies.compare.study import announce, lines_of, run_study
from biopart.studies.compare.table import Comparison, Scored, rows
from biopart.studies.compare.variants import methods_of
from biopart.studies.compare.work import Workers

LOW, MIDDLE, HIGH = (1, 2, 3, 4, 5, 6, 7, 8), (2, 3, 4, 5, 6, 7, 8, 9), (3, 4, 5, 6, 7, 8, 9, 10)


def score(right):
    """Persons of 20 windows in two classes, half of each: kappa of one is right / 5 - 1."""
    counts = {f"p{at}": [[r, 10 - r], [10 - r, r]] for at, r in enumerate(right)}
    kappa = sum(right) / len(right) / 5 - 1
    about = {"kappa_mean": kappa, "macro_f1": 0.5, "accuracy": 0.25, "train_persons": ["t0"]}
    return {"kappa": kappa, "confusion_by_person": counts, "seconds": 1.0} | about


def study_of(**methods):
    """Two seeds of one size; of each method the kappas of fine-tuning and of its probe, or None."""
    trainings = tuple(
        Scored(name, 5, seed, score(right), None if probe is None else score(probe))
        for name, (right, probe) in methods.items()
        for seed in (0, 1)
    )
    about = ({}, {}, {})
    return Comparison("night", "person", trainings, {}, (), (), False, *about)


@pytest.fixture
def lengths():
    """PART of 600 and 3,000 steps, the recipe's; MAE of 3,000; what is not pretrained."""
    methods = {"part@600": (LOW, LOW), "part": (HIGH, MIDDLE), "mae": (MIDDLE, HIGH)}
    methods |= {"supervised": (MIDDLE, None), "untrained": (LOW, None), "band-powers": (LOW, None)}
    return Lengths(study_of(**methods), 3000)


def test_every_length_is_a_curve_with_what_is_not_pretrained(lengths):
    assert {steps: curve.methods for steps, curve in lengths.curves.items()} == {
        600: ["part", "supervised", "untrained", "band-powers"],
        3000: ["part", "mae", "supervised", "untrained", "band-powers"],
    }
    short, long = lengths.curves.values()
    assert short.results("part", 5)[0]["kappa"] == pytest.approx(4.5 / 5 - 1)
    assert long.results("part", 5)[0]["kappa"] == pytest.approx(6.5 / 5 - 1)
    assert short.runs("part", 5) == [("part@600-seed0", 0), ("part@600-seed1", 1)]
    assert long.runs("part", 5) == [("part-seed0", 0), ("part-seed1", 1)]
    assert (short.settings["pretrain"]["steps"], long.settings["pretrain"]["steps"]) == (600, 3000)


def test_gains_are_paired_differences_of_kappa(lengths):
    (gain,) = lengths.gains  # MAE has one length
    assert {k: gain[k] for k in ("method", "size", "from", "steps")} == {
        "method": "part",
        "size": 5,
        "from": 600,
        "steps": 3000,
    }
    assert gain["difference"] == pytest.approx(2 / 5)  # two more right of ten, for every person
    assert (gain["persons"], gain["seeds"]) == (8, 2)
    scratch = {(r["method"], r["steps"]): r["difference"] for r in lengths.over_scratch}
    assert scratch == {
        ("part", 600): pytest.approx(-0.2),
        ("part", 3000): pytest.approx(0.2),
        ("mae", 3000): pytest.approx(0.0),
    }
    probes = {(r["method"], r["steps"]): r["difference"] for r in lengths.over_untrained}
    assert probes == {
        ("part", 600): pytest.approx(0.0),
        ("part", 3000): pytest.approx(0.2),
        ("mae", 3000): pytest.approx(0.4),
    }


def test_tables_have_a_row_per_length_and_one_of_what_is_not_pretrained(lengths):
    shown = [(row["method"], row["steps"]) for row in lengths.summary]
    assert shown == [
        *(("part", 600), ("part", 3000), ("mae", 3000)),
        *(("supervised", None), ("untrained", None), ("band-powers", None)),
    ]
    assert [(row["method"], row["steps"], row["seed"]) for row in lengths.with_steps(rows)][:3] == [
        ("part", 600, 0),
        ("part", 600, 1),
        ("part", 3000, 0),
    ]
    assert len(lengths.with_steps(rows)) == 12


def test_the_untrained_encoder_is_drawn_beside_probes_and_scratch_beside_fine_tunings(lengths):
    tuned = points(lengths, 5, "kappa", "ci95")
    assert list(tuned) == ["part", "mae", "supervised", "band-powers"]
    assert [(x, round(y, 9)) for x, y, *_ in tuned["supervised"]] == [(600, 0.1), (3000, 0.1)]
    assert list(points(lengths, 5, "probe_kappa", "probe_ci95")) == ["part", "mae", "untrained"]
    left, right = picture(lengths).axes
    assert left.get_position().x0 < right.get_position().x0
    assert left.get_title("left") == "Fine-tuned with 5 labelled persons"
    assert [text.get_text() for text in left.get_xticklabels()] == ["600", "3000"]


def test_sentences_say_what_longer_pretraining_changes(lengths):
    said = " ".join(verdict(lengths))
    gain = (
        "After the longest pretraining kappa is significantly higher than after the shortest: part "
        "with 5 labelled persons, 600 to 3,000 steps: +0.400 per person (adjusted p 0.008)."
    )
    assert gain in said  # Wilcoxon of eight equal signs: p = 2 / 2^8
    scratch = "Kappa is significantly {} after training from scratch (supervised): part with 5"
    assert f"{scratch.format('higher than')} labelled persons, 3,000 steps: +0.200" in said
    assert f"{scratch.format('lower than')} labelled persons, 600 steps: -0.200" in said
    rest = "different from that after training from scratch (supervised): mae in 1 of 1 comparison."
    assert rest in said
    assert "from that on an untrained encoder: part in 1 of 2 comparisons." in said
    assert "does not show that two methods are equal" in said


def test_what_a_short_length_lacks_is_said(lengths):
    cut = tuple(t for t in lengths.study.trainings if (t.method, t.seed) != ("part@600", 1))
    study = replace(lengths.study, trainings=cut, failed={"part@600-s5-seed1": "NaN"})
    said = " ".join(verdict(Lengths(study, 3000)))
    assert "seeds per method and size: 1 to 2" in said
    assert "1 of 12 trainings (8%) have no score: 1 failed, 0 not done yet" in said


def test_with_few_persons_no_test_is_possible_and_the_page_says_so():
    few = {
        "part@600": (LOW[:4], LOW[:4]),
        "part": (HIGH[:4], HIGH[:4]),
        "untrained": (LOW[:4], None),
    }
    said = " ".join(verdict(Lengths(study_of(**few), 3000)))
    assert "No test is possible: with 4 test persons" in said


def test_a_size_without_probes_has_a_row_of_its_own():
    trainings = [
        Scored(name, size, 0, score(LOW), score(LOW) if size == 2 else None)
        for name in ("part@600", "part")
        for size in (1, 2)
    ]
    study = replace(study_of(), trainings=tuple(trainings))
    lone, tuned, frozen = (axis.get_position() for axis in picture(Lengths(study, 3000)).axes)
    assert lone.width > tuned.width + frozen.width
    assert (tuned.y0, tuned.x1 < frozen.x0) == (frozen.y0, True)


def test_failed_and_missing_trainings_stand_on_the_page_of_their_length(lengths, tmp_path):
    names = ("part@600-s5-seed2", "part-s5-seed2", "supervised-s5-seed2")
    lengths = Lengths(replace(lengths.study, failed=dict.fromkeys(names, "no reason")), 3000)
    short, long = lengths.curves.values()
    assert list(short.failed) == ["part@600-s5-seed2", "supervised-s5-seed2"]
    assert list(long.failed) == ["part-s5-seed2", "supervised-s5-seed2"]
    found = publish_lengths(
        tmp_path, lengths.study, Recipe.model_validate({"pretrain": {"steps": 3000}})
    )
    page = (tmp_path / "lengths.html").read_text()
    assert 'href="curve-600.html"' in page
    assert 'href="curve.html"' in page  # of the recipe's own length
    assert "600 to 3,000" in page
    with (tmp_path / "lengths.csv").open(newline="") as file:
        assert [row["steps"] for row in csv.DictReader(file)][:4] == ["600", "600", "3000", "3000"]
    lines = lines_of(found | {"failed": {}})
    assert lines[0].startswith("part                     5     600 steps  kappa -0.100")
    assert lines[3].startswith("supervised               5                kappa 0.100")


def test_a_study_whose_pretrainings_all_failed_has_the_page_of_a_curve(tmp_path):
    study = study_of(supervised=(LOW, None), untrained=(LOW, None))
    study = replace(study, failed={"part@600-seed0": "ValueError: NaN"})
    publish_lengths(tmp_path, study, Recipe())
    assert "part@600-seed0: ValueError: NaN" in (tmp_path / "curve.html").read_text()


def test_pretrainings_by_epochs_of_an_earlier_call_are_named(tmp_path):
    both = {"part": (LOW, LOW), "part@600": (LOW, LOW), "part@3000": (HIGH, HIGH)}
    found = publish_lengths(tmp_path, study_of(**both), Recipe())
    assert {row["steps"] for row in found["summary"]} == {600, 3000}
    page = (tmp_path / "lengths.html").read_text()
    assert "pretrained for epochs by an earlier call, so without a place among steps: part" in page


def test_one_seed_is_called_no_evidence_only_where_there_is_one(lengths):
    said = "With one seed, a difference may be due to the seed and not to the method."
    assert said not in verdict(lengths)
    once = tuple(t for t in lengths.study.trainings if t.seed == 0)
    assert said in verdict(Lengths(replace(lengths.study, trainings=once), 3000))


def test_each_fold_of_a_cross_validation_is_pretrained_for_each_length(small_curve, tmp_path):
    small_curve["curve"] |= {"methods": ["part"], "sizes": [2], "lengths": [2, 4]}
    small_curve["split"] = {"folds": 3, "validation_persons": 1, "seed": 0}
    with ThreadPoolExecutor(1) as executor:
        found = run_study(
            "curve", Recipe.model_validate(small_curve), tmp_path, Workers(executor=executor)
        )
    runs = sorted(path.name for path in (tmp_path / "runs").glob("part*"))
    assert runs == [f"part{mark}-seed{fold}" for mark in ("", "@2") for fold in range(3)]
    scored = [row for row in found["summary"] if row["method"] == "part"]
    assert [(row["steps"], row["seeds"]) for row in scored] == [(2, 1), (4, 1)]
    assert len({row["persons"] for row in scored}) == 1


def test_a_method_is_pretrained_for_every_length_under_a_name_of_its_own(small_curve):
    small_curve["curve"] |= {"methods": ["mae", "supervised"], "lengths": [6, 2, 4]}
    variants = methods_of(Recipe.model_validate(small_curve))
    assert {v.name: v.recipe.pretrain.steps for v in variants} == {
        "mae@2": 2,
        "mae": 4,
        "mae@6": 6,
        "supervised": 4,
    }


def test_a_finished_curve_goes_on_with_other_lengths(small_curve, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        workers = Workers(executor=executor)
        first = run_study("curve", Recipe.model_validate(small_curve), tmp_path, workers)
        table = (tmp_path / "curve.csv").read_text()
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}
        small_curve["curve"]["lengths"] = [2, 4]
        recipe = Recipe.model_validate(small_curve)
        plan = announce("curve", recipe, tmp_path, workers)["variants"]
        left = {name: variant["left"] for name, variant in plan.items()}
        assert left == {"part@2": 2, "part": 0, "supervised": 0, "untrained": 0, "band-powers": 0}
        found = run_study("curve", recipe, tmp_path, workers)
    assert before.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.glob("cells/*")}.items()
    kappas = {(row["method"], row["steps"]): row["kappa"] for row in found["summary"]}
    once = {row["method"]: row["kappa"] for row in first["summary"]}
    assert kappas.pop(("part", 2)) is not None
    assert {method: value for (method, _), value in kappas.items()} == once
    assert set(found["files"]) == {"csv", "png", "html", "2 steps", "4 steps"}
    assert (tmp_path / "curve.csv").read_text() == table  # 4 steps are the recipe's own
    small_curve["curve"]["lengths"] = []
    alone = run_study("curve", Recipe.model_validate(small_curve), tmp_path, workers)
    assert {row["method"] for row in alone["summary"]} == set(once)  # and not part@2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["supervised"]}, "no method of the curve is pretrained; add one to methods"),
        (
            {"changes": {"part": {"pretrain.steps": 9}}},
            "pretrain.steps of part in changes both say how long it is pretrained",
        ),
        ({"lengths": [0]}, "greater than or equal to 1"),
    ],
)
def test_lengths_that_mean_nothing_are_refused(small_curve, changes, message):
    small_curve["curve"] |= {"lengths": [2, 4], **changes}
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(small_curve)
