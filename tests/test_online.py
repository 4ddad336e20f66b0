"""A probe while training: what it measures, on whom, when, and that it changes nothing."""

import copy

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.preprocessing import StandardScaler

from biopart.data import open_cohort
from biopart.experiment import open_experiment
from biopart.nn import Model
from biopart.probing import features
from biopart.recipe import resolve
from biopart.run import Run
from biopart.terminal import Output
from biopart.train import loop
from biopart.verbs.info import run_info
from biopart.verbs.listing import runs_in
from biopart.verbs.pretrain import pretrain, resume

CHANGING = ["encoder.drop_path=0.5", "pretrain.ema=0.9"]  # random and averaged: easily disturbed
PROBED = ["pretrain.probe_every=2"]
# 5 persons x 24 windows / batch 16 = 8 steps an epoch; 24 steps are 3 epochs.


def made(small_recipe, changes):
    return resolve(copy.deepcopy(small_recipe), changes, "small")


@pytest.fixture
def probed(small_recipe, tmp_path):
    return pretrain(made(small_recipe, [*PROBED, *CHANGING]), out=tmp_path / "probed", latest=False)


def probe_rows(run):
    return [row for row in run.metrics() if "probe/kappa" in row]


def test_a_probe_changes_no_bit_of_the_training(probed, small_recipe, tmp_path):
    plain = pretrain(made(small_recipe, CHANGING), out=tmp_path / "plain", latest=False)
    for name in ("encoder.safetensors", "objective.safetensors", "last/checkpoint.safetensors"):
        assert (plain.path / name).read_bytes() == (probed.path / name).read_bytes()
    assert [row["step"] for row in probe_rows(probed)] == [0, 16, 24]
    others = [
        [{**row, "windows_per_second": 0} for row in run.metrics() if "probe/kappa" not in row]
        for run in (plain, probed)
    ]
    assert others[0] == others[1]


@pytest.mark.parametrize("stop", [0, 1, 10, 16, 20])
def test_a_resumed_run_has_each_probe_once(probed, small_recipe, tmp_path, stop, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)

    def report(row):
        if row["step"] == stop:
            raise KeyboardInterrupt

    halted, recipe = Run(tmp_path / "halted"), made(small_recipe, [*PROBED, *CHANGING])
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, out=halted.path, latest=False, report=report)
    resume(halted.path)
    assert halted.encoder.read_bytes() == probed.encoder.read_bytes()
    rows = [[{**r, "windows_per_second": 0} for r in run.metrics()] for run in (probed, halted)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("changes", [[], ["pretrain.ema=0.9"], ["finetune.class_weights=true"]])
def test_the_last_probe_is_of_the_encoder_that_is_saved(small_recipe, tmp_path, changes):
    recipe = made(small_recipe, [*PROBED, *changes])
    run = pretrain(recipe, out=tmp_path / "run", latest=False)
    experiment = open_experiment(recipe)
    split, model = experiment.split, Model.load(run)
    parts = [experiment.source(p, labelled=True) for p in (split.finetune, split.validation)]
    train, held = (model.embed(source[:].values).detach().double().numpy() for source in parts)
    scaler = StandardScaler().fit(train)
    weight = "balanced" if changes == ["finetune.class_weights=true"] else None
    probe = LogisticRegression(class_weight=weight, max_iter=5000)
    predicted = probe.fit(scaler.transform(train), parts[0].labels).predict(scaler.transform(held))
    last = probe_rows(run)[-1]
    assert last["probe/kappa"] == pytest.approx(cohen_kappa_score(parts[1].labels, predicted))
    near = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (held, train)]
    cosine = near[0] @ near[1].T
    best = np.argsort(-cosine, axis=1)[:, :20]
    votes = np.zeros((len(held), 5))
    for item, places in enumerate(best):
        np.add.at(votes[item], parts[0].labels[places], np.exp(cosine[item, places] / 0.07))
    assert last["probe/knn"] == pytest.approx((votes.argmax(1) == parts[1].labels).mean())
    values = np.sqrt(np.linalg.eigvalsh(held.T @ held).clip(0))
    shares = values / values.sum()
    shares = shares[shares > 1e-12]
    assert last["probe/rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    unit = held / np.sqrt((held**2).sum(1))[:, None]
    spread = np.sqrt((unit**2).mean(0) - unit.mean(0) ** 2).mean() * 4  # sqrt(dim 16)
    assert last["probe/std"] == pytest.approx(spread, rel=1e-4)


def test_the_persons_of_a_probe_are_never_those_of_the_test(small_recipe, tmp_path, monkeypatch):
    read, predict = [], features.predict

    def reading(model, source, fabric):
        read.append(source)
        return predict(model, source, fabric)

    monkeypatch.setattr(features, "predict", reading)
    recipe = made(small_recipe, [*PROBED, "pretrain.probe_windows=20"])
    pretrain(recipe, out=tmp_path / "run", latest=False)
    split = open_experiment(recipe).split
    assert [len(source) for source in read] == [20] * 6  # two parts, three times
    persons = [set(source.persons) for source in read]
    assert all(part == set(split.validation) for part in persons[::2])
    assert all(part <= set(split.finetune) for part in persons[1::2])
    assert len(persons[1]) > 1
    assert read[0].labels.min() >= 0


def test_items_are_drawn_by_the_seed_in_their_order(small_store):
    source = open_cohort(small_store).source()
    names = source.keys(range(len(source)))
    drawn = [names.index(key) for key in source.drawn(30, 1).keys(range(30))]
    assert drawn == sorted(set(drawn))
    assert drawn == [names.index(key) for key in source.drawn(30, 1).keys(range(30))]
    assert drawn != [names.index(key) for key in source.drawn(30, 2).keys(range(30))]
    assert drawn[-1] > 150  # of 216: spread over the records, not the first ones
    assert len(source.drawn(1000, 0)) == 216


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("split.validation_persons=0", "there are none; raise split.validation_persons"),
        ("pretrain.probe_windows=2", "the validation persons have only W; choose another"),
    ],
)
def test_a_probe_without_labels_to_score_is_refused_at_once(
    small_recipe, tmp_path, change, message
):
    with pytest.raises(ValueError, match=message):
        pretrain(made(small_recipe, [*PROBED, change]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_newest_probe_stands_in_info_and_in_the_table_of_runs(probed, small_run):
    last = probe_rows(probed)[-1]
    info = run_info(probed)
    assert [info[key] for key in ("probe/kappa", "probe/rank")] == [
        last["probe/kappa"],
        last["probe/rank"],
    ]
    assert [row["probe_kappa"] for row in runs_in(probed.path.parent)] == [last["probe/kappa"]]
    assert "probe/kappa" not in run_info(small_run)
    assert [row["probe_kappa"] for row in runs_in(small_run.path.parent)] == [None]


def test_the_progress_line_keeps_the_newest_probe(capsys):
    with Output(as_json=False, quiet=False).progress("pretrain") as report:
        report({"step": 0, "probe/kappa": 0.25})
        report({"step": 10, "steps": 20, "train/loss": 0.5})
        report({"step": 20, "validation/r2": 0.125})
    assert capsys.readouterr().err.splitlines() == [
        "pretrain step 0: probe/kappa 0.250",
        "pretrain step 20: validation/r2 0.125  probe/kappa 0.250",
    ]
