"""The part-aware evaluation from a run to its page, and its answers by hand."""

import json

import numpy as np
import pytest
import torch

from biopart.cli import main
from biopart.data.pictures import PersonCrops
from biopart.evaluation.answers import class_answers, dense_answers, mean_answer
from biopart.experiment.stored import load_objective
from biopart.images.annotated import Annotated
from biopart.nn import About, Model, ViT
from biopart.probing import dense, linear
from biopart.probing.dense import upsampled
from biopart.probing.encoders import candidates, name_of, projection_of
from biopart.probing.pose import gaussians, pose_answers
from biopart.probing.tokens import Tokens
from biopart.recipe import resolve
from biopart.run import as_run
from biopart.studies.suite import run_suite
from biopart.studies.suite.page import better
from biopart.verbs.pretrain import pretrain
from biopart.verbs.suite import Data

pytestmark = pytest.mark.xdist_group("suite")  # one process makes its runs
BYOL = {
    "name": "byol",
    "hidden": 16,
    "out": 8,
    "views": {"global_size": [60], "values": {"noise": 0.1}},
}


@pytest.fixture(scope="module")
def runs(pulse_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    values = {
        "name": "pulses",
        "data": {"store": str(pulse_store)},
        "split": {"test_persons": 3, "validation_persons": 1},
        "encoder": {"patch": [5], "dim": 16, "depth": 1, "heads": 2},
        "compute": {"precision": "float32", "threads": 1},
    }
    found = []
    for objective in ({"name": "part", "patches": 16, "pairs": 32}, BYOL):
        recipe = resolve(
            {**values, "pretrain": {"objective": objective, "steps": 2, "batch": 8}}, (), "test"
        )
        found.append(pretrain(recipe, out=folder / objective["name"], latest=False))
    return found


@pytest.fixture(scope="module")
def result(runs, pulse_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "one"
    return run_suite(runs, Data(pulse_store), out), out


def score(result, task, measure, name="untrained", features="best"):
    for row in result["rows"]:
        if (row["task"], row["measure"], row["features"]) == (task, measure, features):
            return row["scores"][name]
    raise LookupError(task)


def test_pulses_are_found_in_time_and_told_apart_even_by_an_untrained_encoder(result):
    found, _ = result
    assert found["encoders"] == ["untrained", "part", "untrained, as byol", "byol"]
    assert score(found, "event detection, all", "F1")["value"] > 0.8
    assert score(found, "event segmentation", "mIoU")["value"] > 0.7
    assert score(found, "event localisation", "mean onset error (s)")["value"] < 0.1
    assert score(found, "event k-NN", "accuracy")["value"] > 0.9
    assert score(found, "event retrieval", "AP")["items"] == 36
    assert score(found, "event retrieval", "AP")["ci95"] is None  # three persons


def test_an_attentive_probe_tells_events_apart_by_the_tokens_that_they_cover(result):
    found, _ = result
    attentive = score(found, "event classification, attentive", "accuracy")
    assert attentive["value"] > 0.9
    assert attentive["items"] == 36


def test_a_repeated_suite_trains_no_probe_and_says_the_same(result, runs, pulse_store, monkeypatch):
    found, out = result
    for module in (linear, dense):
        monkeypatch.setattr(module, "train_probe", None)  # whoever calls it fails
    again = run_suite(runs, Data(pulse_store), out.parent / "two")
    assert again["rows"] == found["rows"]


def test_a_kept_probe_is_of_one_encoder_and_all_that_its_training_depends_on(tmp_path):
    torch.manual_seed(0)
    encoders = [ViT((40,), (5,), 1, 16, 1, 2) for _ in range(2)]
    trainings = []

    def asked(encoder, *about):
        tokens = Tokens(Model(encoder, About()), tmp_path)

        def train():
            trainings.append(about)
            return linear.LinearProbe(4, len(trainings)).eval()

        return tokens.probe(about, linear.LinearProbe(4, 1), train)

    first = asked(encoders[0], np.array([0, 1]), 0.4)
    again = asked(encoders[0], np.array([0, 1]), 0.4)
    assert torch.equal(first.head.weight, again.head.weight)
    assert len(trainings) == 1
    asked(encoders[0], np.array([1, 1]), 0.4)
    asked(encoders[0], np.array([0, 1]), 0.5)
    asked(encoders[1], np.array([0, 1]), 0.4)
    assert len(trainings) == 4


def test_differences_are_to_the_baseline_and_the_better_features_are_chosen(result):
    found, _ = result
    one = score(found, "window retrieval", "AP", "byol")
    base = score(found, "window retrieval", "AP", "untrained, as byol")
    assert one["difference"] == pytest.approx(one["value"] - base["value"])
    assert "difference" not in base
    kinds = [
        score(found, "window retrieval", "AP", "byol", kind)["value"]
        for kind in ("cls", "mean", "projected")
    ]
    assert one["value"] == max(kinds)
    assert score(found, "window retrieval", "AP", "part", "projected") is None


def test_the_page_and_the_file_have_the_same_scores(result):
    found, out = result
    written = json.loads((out / "suite.json").read_text())
    assert written["compared_with"] == {
        "untrained": "",
        "part": "untrained",
        "untrained, as byol": "",
        "byol": "untrained, as byol",
    }
    assert written["about"]["byol"]["objective"] == "byol"
    assert (written["n_units"], written["units"]) == (3, "persons")
    assert len(written["rows"]) == len(found["rows"])
    page = (out / "suite.html").read_text()
    value = score(found, "event retrieval", "AP")["value"]
    assert f"{value:.3f}" in page
    assert "part: windows" in page
    assert "3 test persons are too few for intervals, which need 6" in page
    assert (
        len(list((out.parent / "tokens").glob("*.npy"))) == 4 * 6
    )  # kinds of items of each encoder


def test_tokens_are_computed_once_and_equal_the_models(runs, pulse_store, tmp_path, monkeypatch):
    one = candidates(runs[:1], pulse_store)[1]
    source = one.experiment.source(one.experiment.split.test, labelled=True)
    from biopart.data.items import SourceItems

    items, tokens = SourceItems(source), Tokens(one.model, tmp_path)
    kept = tokens.of(items)
    with torch.no_grad():
        expected = one.model.tokens(items.values(np.arange(5)))
    np.testing.assert_allclose(kept[:5], expected.numpy(), atol=1e-6)
    pooled = tokens.pooled(items)
    np.testing.assert_allclose(pooled["mean"][:5], expected[:, 1:].mean(1).numpy(), atol=1e-6)
    monkeypatch.setattr(Model, "tokens", None)
    np.testing.assert_array_equal(Tokens(one.model, tmp_path).of(items), kept)


def test_projected_features_are_the_methods_own(runs):
    assert projection_of(runs[0], torch.device("cpu")) is None
    project = projection_of(runs[1], torch.device("cpu"))
    tokens = np.random.default_rng(0).normal(size=(3, 17, 16)).astype(np.float32)
    objective = load_objective(runs[1])
    with torch.no_grad():
        expected = objective.projector(torch.from_numpy(tokens[:, 0]))
    np.testing.assert_allclose(project(tokens), expected.numpy(), atol=1e-6)


def test_the_command_writes_the_page_and_options_that_miss_are_named(
    runs, pulse_store, tmp_path, capsys
):
    given = ["probe", str(runs[0].path), "--suite", "part-aware", "--data", str(pulse_store)]
    with pytest.raises(SystemExit) as stop:
        main([*given, "--items", "40", "--out", str(tmp_path / "o"), "--json", "--quiet"])
    assert stop.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["encoders"] == ["untrained", "part"]
    for arguments, sentence in (
        (given[:4], "--suite needs --data"),
        ([*given[:2], "--items", "9"], "--items needs --suite part-aware"),
        ([*given, "--jobs", "2"], "--jobs has no effect with --suite"),
        ([*given, "--baseline", "x"], "there is no encoder 'x'; choose one of untrained, part"),
        (
            [*given[:5], "coco_parts", "--raw", str(tmp_path)],
            "untrained is an encoder of 1 x 80 values; coco_parts needs one of colour",
        ),
        (
            [*given[:5], "coco_parts"],
            "coco_parts is a card of images; give their folder with --raw",
        ),
        (
            [*given[:5], str(tmp_path / "no")],
            "no is neither a store nor a card of annotated images",
        ),
        ([*given, "--raw", str(tmp_path)], "is a store, so --raw has no effect; leave it out"),
        ([given[0], given[1], *given[1:]], "is given twice; give it once"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--out", str(tmp_path / "p")])
        assert stop.value.code in (1, 2)
        assert sentence in capsys.readouterr().err


def test_names_of_runs_are_short_and_different(tmp_path):
    paths = [tmp_path / "x/one", tmp_path / "y/one"]
    for path in paths:
        path.mkdir(parents=True)
        (path / "recipe.yaml").write_text("name: n\n")
    taken: list[str] = []
    for path in paths:
        taken.append(name_of(as_run(path), taken))
    assert taken == ["one", "y/one"]
    assert name_of(as_run(paths[0]).__class__(tmp_path / "untrained"), []) != "untrained"


def test_answers_add_up_over_units():
    labels, guess = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    right, kappa = class_answers("t", "f", labels, guess, units=["a", "a", "b", "b"])
    assert (right.value, kappa.value) == (0.75, 0.5)
    assert right.sums.values.tolist() == [[1, 2], [2, 2]]
    known = mean_answer(("t", "f", "m"), np.array([1.0, np.nan, 0.0]), ["a", "a", "b"])
    assert (known.value, known.n_items) == (0.5, 2)
    counts = np.array([[[1, 0], [1, 1], [2, 0]], [[1, 1], [1, 1], [1, 1]]])
    miou, macc, aacc = dense_answers("t", "f", counts, ["a", "b"])
    assert miou.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (macc.value, aacc.value) == (0.75, 0.75)
    assert better([right, kappa], "t", "accuracy") is right
    assert better([right], "t", "other") is None


def test_outputs_are_interpolated_along_every_axis():
    line = upsampled(torch.tensor([[[0.0, 4.0]]]), (2,), (4,))
    assert line.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]  # centres at 1 and 3 of 4
    plane = upsampled(torch.tensor([[[0.0, 4.0]]]), (1, 2), (2, 4))
    assert plane[0, 0].tolist() == [[0.0, 1.0, 3.0, 4.0]] * 2


def person(tmp_path, shift):
    """Return a person of 100 x 100 pixels with all keypoints, and where they were predicted."""
    from biopart.images.coco import Scene

    points = np.stack([np.linspace(10, 90, 17), np.linspace(20, 80, 17), np.full(17, 2)], 1)
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    one = Scene(
        1,
        path,
        "a.png",
        120,
        120,
        boxes=np.array([[0, 0, 100, 100]], np.float32),
        classes=np.zeros(1, np.int64),
        outlines=(None,),
        crowd=np.zeros(1, bool),
        keypoints=points[None].astype(np.float32),
        areas=np.array([10_000.0]),
    )
    table = np.array([[0, 0, 0, 100, 100, 0]])
    crops = PersonCrops(Annotated((one,)), table, np.array([[0, 0]]), (50, 50))
    moved = points[:, :2] + np.asarray(shift)
    return crops, (moved[None, :, ::-1] * 0.5)


def test_pose_by_hand(tmp_path):
    pytest.importorskip("faster_coco_eval")
    crops, places = person(tmp_path, (0.0, 0.0))
    correct, precision = pose_answers(crops, places, np.ones(1))
    assert correct.value == 1.0
    assert precision.value == pytest.approx(1.0)
    # Object keypoint similarity: the mean of exp(-d^2 / (2 s^2 k^2)), k = 2 sigma, s^2 = area.
    sigmas = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
    distance = 11.0
    similarity = np.exp(-(distance**2) / (2 * 10_000 * (2 * sigmas) ** 2)).mean()
    expected = (similarity >= np.arange(0.5, 1.0, 0.05)).mean()
    assert 0 < expected < 1
    crops, places = person(tmp_path, (distance, 0.0))
    correct, precision = pose_answers(crops, places, np.ones(1))
    assert (correct.value, correct.n_items) == (0.0, 17)  # further than a tenth of 100 pixels
    assert precision.value == pytest.approx(expected, abs=1e-6)


def test_heat_maps_are_highest_at_their_keypoint():
    maps = gaussians(torch.tensor([[[3.5, 6.5], [0.5, 0.5]]]), (8, 10))
    torch.testing.assert_close(maps.sum(-1), torch.ones(1, 2))
    assert maps[0].argmax(-1).tolist() == [3 * 10 + 6, 0]


def test_real_images_of_coco_are_asked_about(real_data, tmp_path):
    from biopart.nn import About, ViT
    from biopart.probing.encoders import Candidate
    from biopart.verbs.suite import ask

    torch.manual_seed(0)
    net = ViT((32, 32), (8, 8), 3, 16, 1, 2)
    model = Model(net, About(normalise="imagenet", positions=True)).eval()
    from pathlib import Path

    data = Data(Path("coco_parts"), real_data / "images_coco", most=60)
    found = ask(Candidate("tiny", model), data, tmp_path)
    scores = {(a.task, a.features, a.measure): a for a in found.answers}
    assert scores["part retrieval", "mean", "AP"].n_items == 60
    assert 0.25 < scores["part retrieval", "mean", "AP"].value < 0.7  # three classes
    assert scores["object segmentation", "tokens", "aAcc"].n_items == 50
    assert len(found.retrieved["object"][1].names) == 80
