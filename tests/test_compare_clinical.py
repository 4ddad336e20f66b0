"""Predictions become nights for YASA, and what YASA says of them is kept."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from biopart.evaluation.clinical import agreement, hypnograms, is_installed
from biopart.nn.weights import save_tensors
from biopart.studies.compare.clinical import first_night, is_sleep, of_study, read_nights
from biopart.studies.compare.table import Comparison, Scored

STAGES = ["W", "N1", "N2", "N3", "R"]
TRUTH = np.array([0, 0, 1, 2, 2, 2, 3, 3, 4, 4])


def _predictions(path: Path, classes: list[str]) -> Path:
    """Write two nights: a with epochs 1 and 3, b with epoch 0; in an order of no meaning."""
    tensors = {
        "record": torch.tensor([1, 0, 0], dtype=torch.int32),
        "epoch": torch.tensor([0, 3, 1], dtype=torch.int32),
        "truth": torch.tensor([4, 2, 0], dtype=torch.int8),
        "predicted": torch.tensor([4, 3, 0], dtype=torch.int8),
    }
    save_tensors(path, tensors, {"records": ["a", "b"], "classes": classes})
    return path


def _curve() -> Comparison:
    score = {"confusion_by_person": {"p": [[1]]}, "train_persons": []}
    trainings = (Scored("part", 5, 0, score), Scored("supervised", 5, 0, score))
    return Comparison("c", "person", trainings, {}, (), (), False, {}, {}, {})


def test_nights_hold_each_epoch_in_its_place_and_gaps_are_unscored(tmp_path: Path) -> None:
    truth, predicted = read_nights(_predictions(tmp_path / "p.safetensors", STAGES))
    assert {name: night.tolist() for name, night in truth.items()} == {
        "a": [-1, 0, -1, 2],
        "b": [4],
    }
    assert predicted["a"].tolist() == [-1, 0, -1, 3]


def test_classes_in_another_order_become_the_same_stages(tmp_path: Path) -> None:
    path = _predictions(tmp_path / "p.safetensors", ["N3", "N2", "R", "W", "N1"])
    truth, _ = read_nights(path)
    assert truth["a"].tolist() == [-1, 3, -1, 4]  # index 2 is R, 0 is N3


def test_other_classes_are_no_stages(tmp_path: Path) -> None:
    assert not is_sleep(["rest", "arithmetic"])
    path = _predictions(tmp_path / "p.safetensors", ["a", "b", "c", "d", "e"])
    with pytest.raises(ValueError, match="predicts a, b, c, d, e; agreement by YASA takes W, N1"):
        read_nights(path)


def test_without_yasa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yasa", None)
    with pytest.raises(ImportError, match=r"pip install 'biopart\[clinical\]'"):
        agreement({"a": TRUTH}, {"a": TRUTH})


def test_curve_without_predictions_has_no_agreement(tmp_path: Path) -> None:
    assert of_study(tmp_path, _curve()) == []
    assert first_night(tmp_path, _curve()) is None


@pytest.mark.skipif(not is_installed(), reason="needs the extra clinical")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
class TestWithYasa:
    def test_agreement_is_that_of_the_epochs(self) -> None:
        half = np.where(np.arange(10) < 5, TRUTH, (TRUTH + 1) % 5)
        rows = agreement({"a": TRUTH, "b": TRUTH}, {"a": TRUTH, "b": half})
        assert [row["night"] for row in rows] == ["a", "b", "mean"]
        assert [row["accuracy"] for row in rows] == pytest.approx([100, 50, 75])
        assert rows[0]["kappa"] == pytest.approx(1.0)

    def test_unscored_epochs_do_not_count(self) -> None:
        gaps = np.where(np.arange(10) == 0, -1, TRUTH)
        wrong_there = np.where(np.arange(10) == 0, 3, TRUTH)
        (row, _) = agreement({"a": gaps}, {"a": wrong_there})
        assert row["accuracy"] == pytest.approx(100)

    def test_hypnogram_shows_both_scorers(self) -> None:
        figure = hypnograms({"a": TRUTH}, {"a": TRUTH}, "a")
        legend = figure.axes[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["scored", "predicted"]

    def test_curve_has_a_row_per_method_with_predictions(self, tmp_path: Path) -> None:
        for run in ("part-seed0/finetune/s5-seed0", "supervised-seed0/finetune/scratch-s5-seed0"):
            _predictions(tmp_path / "runs" / run / "predictions.safetensors", STAGES)
        rows = of_study(tmp_path, _curve())
        assert [(row["method"], row["seeds"], row["nights"]) for row in rows] == [
            ("part", 1, 2),
            ("supervised", 1, 2),
        ]
        assert rows[0]["accuracy"] == pytest.approx(75)  # night a 1 of 2, night b 1 of 1
        figure = first_night(tmp_path, _curve())
        assert figure is not None
        assert figure.get_suptitle() == "a: part, s5-seed0"
