"""Robustness: corruptions by hand, and scores that fall as they grow."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from biopart.evaluation.probes import fit_linear_probe
from biopart.experiment import open_experiment, stored_recipe
from biopart.figures import corrupted
from biopart.nn import Model
from biopart.probing.corruptions import (
    blurred,
    corruptions_of_images,
    corruptions_of_signals,
    drifting,
    dropped_out,
    humming,
    noisy,
    noisy_pixels,
)
from biopart.studies.robustness import lines_of, run_robustness
from biopart.verbs.probe import probe
from biopart.verbs.robustness import Probed, attacked, embedded, masked, plain_values, robustness


def generator():
    return torch.Generator().manual_seed(0)


def test_corruptions_by_hand():
    zeros, ones = torch.zeros(40, 1, 1000), torch.ones(40, 2, 100)
    assert noisy(zeros, 0.5, generator()).std() == pytest.approx(0.5, rel=0.02)
    pixels = noisy_pixels(torch.full((8, 3, 32, 32), 128.0), 0.1, generator())
    assert pixels.std() == pytest.approx(25.5, rel=0.03)
    assert noisy_pixels(torch.full((8, 3, 32, 32), 250.0), 0.5, generator()).max() == 255
    gone = dropped_out(ones, 0.3, generator())
    assert (gone == 0).sum((1, 2)).tolist() == [60] * 40
    edges = (gone[:, 0].diff() != 0).sum(1)
    assert edges.max() <= 2  # one piece
    slow = drifting(zeros, 2.0, generator())
    assert 1.9 < slow.abs().max() <= 2.0
    assert (slow[:, 0].diff().sign().diff() != 0).sum(1).max() <= 1  # half a period
    hum = humming(200.0, 50.0)(torch.zeros(2, 1, 400), 0.7, generator())
    spectrum = torch.fft.rfft(hum[0, 0]).abs() / 200
    assert int(spectrum.argmax()) == 100  # 50 Hz in steps of 0.5
    assert spectrum.max() == pytest.approx(0.7, rel=1e-3)
    dot = torch.zeros(1, 1, 33, 33)
    dot[..., 16, 16] = 1.0
    smooth = blurred(dot, 1.0, generator())
    assert smooth[0, 0, 16, 17] / smooth[0, 0, 16, 16] == pytest.approx(np.exp(-0.5), rel=1e-4)


def test_strengths_are_those_of_the_benchmarks():
    assert corruptions_of_images(32)[0].levels == (0.04, 0.06, 0.08, 0.09, 0.10)
    assert corruptions_of_images(224)[0].levels == (0.08, 0.12, 0.18, 0.26, 0.38)
    assert corruptions_of_images(224)[1].levels == (1.0, 2.0, 3.0, 4.0, 6.0)
    names = [kind.name for kind in corruptions_of_signals(100.0)]
    assert names == ["noise", "drop-outs", "drift", "50 Hz"]


@pytest.fixture(scope="module")
def probed(small_run):
    experiment = open_experiment(recipe_of(small_run))
    source = experiment.source(experiment.split.finetune, labelled=True)
    model = Model.load(small_run)
    features = embedded(model, source, lambda values: values)
    return Probed(model, fit_linear_probe(features, source.labels, seed=0)), source


def recipe_of(run):
    return stored_recipe(run)


def test_clean_features_are_the_models_own(probed):
    one, source = probed
    with torch.no_grad():
        expected = one.model.embed(source.__getitems__(range(len(source))).values)
    found = embedded(one.model, source, lambda values: values)
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_masking_averages_the_tokens_that_are_left(probed):
    one, source = probed
    with torch.no_grad():
        values = plain_values(one.model, source.__getitems__(range(len(source))).values)
        tokens = one.model.tokens(values)[:, 1:].numpy()
    left = masked(one, source, 0.8)  # of six tokens one is left
    distance = np.abs(tokens - left[:, None]).max(-1).min(1)
    assert distance.max() < 1e-5


def test_the_sign_of_the_gradient_raises_the_probes_loss(probed):
    one, source = probed
    labels = torch.from_numpy(source.labels.copy())
    losses = []
    for features in (
        embedded(one.model, source, lambda values: values),
        attacked(one, source, 0.02),
        attacked(one, source, 0.05),
    ):
        probability = torch.from_numpy(one.probe.predict_log_proba(features.astype(np.float64)))
        column = torch.searchsorted(torch.from_numpy(one.probe.classes_), labels)
        losses.append(float(F.nll_loss(probability, column)))
    assert losses == sorted(losses)
    assert losses[2] > losses[0] + 0.05


def test_the_clean_score_is_that_of_the_probe(small_run):
    found = robustness(small_run)
    assert found["clean"]["pretrained"] == pytest.approx(
        probe(small_run)["pretrained_mean"]["kappa"]
    )
    names = [curve.name for curve in found["curves"]]
    assert names == ["noise", "drop-outs", "drift", "50 Hz", "masking", "FGSM"]
    for curve in found["curves"]:
        assert {len(kappas) for kappas in curve.kappa.values()} == {len(curve.levels)} == {5}


def test_a_page_and_a_table_are_written(small_run):
    found = run_robustness(small_run)
    page = (small_run.path / "robustness/robustness.html").read_text()
    assert f"<h1>Robustness of {recipe_of(small_run).name}</h1>" in page
    assert page.count("<h2>") == 7  # six corruptions and the settings
    stored = json.loads((small_run.path / "robustness/robustness.json").read_text())
    assert stored["curves"] == found["curves"]
    lines = lines_of(found)
    assert lines[1].startswith("clean")
    assert len(lines) == 1 + 2 + 12 + 1


def test_a_picture_needs_a_corruption():
    with pytest.raises(ValueError, match="no corruption"):
        corrupted({}, {})
