"""Pretraining, fine-tuning, probing and evaluating on a small store, from end to end."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import cohen_kappa_score

import biopart
from biopart.experiment.experiment import open_experiment
from biopart.nn import Model
from biopart.nn.positions import sincos_table
from biopart.nn.weights import load_tensors
from biopart.recipe import resolve
from biopart.run import Run
from biopart.store import Record, Store, create_store, write_record
from biopart.tasks.classify import Classification
from biopart.verbs.evaluate import evaluate
from biopart.verbs.finetune import finetune
from biopart.verbs.info import run_info
from biopart.verbs.pretrain import pretrain, resume
from biopart.verbs.probe import probe
from biopart.verbs.show import open_part_run


@pytest.fixture
def recipe(small_recipe):
    return resolve(small_recipe, [], "small")


@pytest.fixture
def run(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return pretrain(recipe, out=tmp_path / "R")


def test_a_run_folder_holds_what_the_design_says(run, recipe):
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "recipe.yaml",
        "provenance.json",
        "metrics.jsonl",
        "last",
        "encoder.safetensors",
        "objective.safetensors",
    }
    assert yaml.safe_load((run.path / "recipe.yaml").read_text())["name"] == "small"
    provenance, rows = run.provenance(), run.metrics()
    assert provenance["chosen"] == {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "resident": False,
    }
    assert provenance["steps"] == rows[-1]["step"] == 24
    assert {"step", "epoch", "train/loss", "train/mse", "train/r2", "windows_per_second"} <= set(
        rows[0]
    )
    assert rows[-1]["validation/chance_mse"] == pytest.approx(rows[0]["train/chance_mse"])
    assert not any(
        name.startswith("encoder.") for name in load_tensors(run.path / "objective.safetensors")[0]
    )


def test_test_and_validation_persons_are_outside_everything(run, recipe):
    experiment = open_experiment(recipe)
    split, seen = experiment.split, run.provenance()["seen_persons"]
    held = set(split.test) | set(split.validation)
    assert not held & set(seen)
    assert not held & set(split.finetune)
    assert "p7" in seen  # without labels, so never in test, validation or fine-tuning
    assert "p7" not in held | set(split.finetune)
    assert len(seen) == 9 - 4


@pytest.mark.parametrize("from_scratch", [False, True])
def test_a_finetuning_is_scored_once_on_test_persons(run, recipe, from_scratch):
    tuned = finetune(run, from_scratch=from_scratch)
    experiment, result = open_experiment(recipe), tuned.result()
    split, everybody = experiment.split, set(experiment.cohort.persons.values())
    assert tuned.path.name == ("scratch-s3-seed0" if from_scratch else "s3-seed0")
    assert result["test_persons"] == list(split.test)
    assert result["train_persons"] == list(split.subset(3, 0))
    assert sorted(result["kappa_by_person"]) == sorted(split.test)
    assert np.sum(result["confusion"]) == result["n_windows"] == 48
    assert result["kappa"] > 0.8  # two sines in noise
    assert result["test_set_lacks"] == ["N2", "N3", "R"]
    seen = set(Model.load(tuned).about.seen.among(experiment.cohort, everybody))
    pretrained = set() if from_scratch else set(run.provenance()["seen_persons"])
    assert seen == set(split.subset(3, 0)) | set(split.validation) | pretrained


def test_finetuning_starts_from_the_pretrained_weights_and_new_positions(run, monkeypatch):
    from biopart.tasks import runner as module

    started = {}

    def catch(task, *args):
        started.update({k: v.clone() for k, v in task.objective.encoder.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit", catch)
    with pytest.raises(KeyboardInterrupt):
        finetune(run)
    pretrained = Model.load(run).encoder.state_dict()
    equal = {name: torch.equal(started[name], pretrained[name]) for name in pretrained}
    assert [name for name, same in equal.items() if not same] == ["pos_embed"]


def test_a_loaded_model_gives_the_same_kappa(run, recipe):
    tuned = finetune(run)
    model, split = biopart.load(run.path), open_experiment(recipe).split
    source = biopart.open_cohort(recipe.data.store).source(labelled=True, persons=split.test)
    batch = source.__getitems__(range(len(source)))
    with torch.no_grad():
        predicted = model(batch.values).argmax(1)
        scaled = model(batch.values.float() * 0.1).argmax(1)  # microvolt: the same windows
    kappa = cohen_kappa_score(batch.label, predicted)
    assert kappa == pytest.approx(tuned.result()["kappa"])
    assert torch.equal(predicted, scaled)


def test_evaluate_refuses_seen_persons_by_name(run, recipe):
    tuned, split = finetune(run), open_experiment(recipe).split
    for person in (split.validation[0], split.finetune[0], "p7"):
        with pytest.raises(ValueError, match=f"has seen {person} in"):
            evaluate(run, recipe.data.store, [split.test[0], person])
    with pytest.raises(ValueError, match="has no person px"):
        evaluate(run, recipe.data.store, ["px"])
    result = evaluate(run, recipe.data.store, list(split.test))
    assert result["kappa"] == pytest.approx(tuned.result()["kappa"])
    written = tuned.path / "evaluation" / recipe.data.store.name / "result.json"
    assert json.loads(written.read_text())["kappa"] == result["kappa"]


def test_a_split_that_would_score_seen_persons_is_refused(run, recipe):
    seed = next(
        s
        for s in range(1, 50)
        if set(run.provenance()["seen_persons"])
        & set(open_experiment(resolve(recipe.model_dump(), [f"split.seed={s}"], "")).split.test)
    )
    for verb in (finetune, probe):
        with pytest.raises(ValueError, match=r"the model has seen p\d"):
            verb(run, changes=[f"split.seed={seed}"])
    assert not (run.path / "finetune").exists()
    finetune(run, changes=[f"split.seed={seed}"], from_scratch=True)


def test_a_store_that_grew_is_not_resumed(run, recipe, tmp_path):
    grown = tmp_path / "grown.zarr"
    shutil.copytree(recipe.data.store, grown)
    text = (run.path / "recipe.yaml").read_text()
    (run.path / "recipe.yaml").write_text(text.replace(str(recipe.data.store), str(grown)))
    resume(run.path)
    store = Store(grown)
    values = store.signal("n0")[:, ::-1], store.scale("n0"), store.label("n0"), store.bad("n0")
    write_record(grown, "n9", Record(*values, {"person": "p9"}))
    with pytest.raises(ValueError, match=r"has changed since .* was started"):
        resume(run.path)


def test_a_store_prepared_otherwise_is_refused_by_evaluate(run, recipe, tmp_path):
    tuned, other = finetune(run), tmp_path / "other.zarr"
    about = Store(recipe.data.store).attributes
    card = {**about["card"], "band_hz": [5.0, 9.0]}
    create_store(other, {**about, "card": card})
    store = Store(recipe.data.store)
    values = store.signal("n0"), store.scale("n0"), store.label("n0"), store.bad("n0")
    write_record(other, "x", Record(*values, {"person": "px"}))
    with pytest.raises(ValueError, match=r"prepared differently: band_hz None and \[5.0, 9.0\]"):
        evaluate(tuned, other)


def test_what_is_wrong_is_found_before_a_run_folder_is_made(small_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for change in ("encoder.patch=[70]", "data.channels=[Z]", "pretrain.objective.scale=[1,9]"):
        with pytest.raises(ValueError, match=r"tile|Z|scale"):
            pretrain(resolve(small_recipe, [change], "small"), out=tmp_path / "R")
    assert list(tmp_path.iterdir()) == []


def test_other_settings_make_another_finetuning(run):
    names = [
        finetune(run, changes=changes).path.name
        for changes in ([], ["finetune.pool=mean"], ["finetune.pool=null"], ["compute.threads=1"])
    ]
    assert names[0] == names[2] == names[3] == "s3-seed0"
    assert names[1].startswith("s3-seed0-")


def test_a_search_keeps_what_is_best_on_validation_persons(run):
    tuned = finetune(run, subjects=2, changes=["finetune.search={lr: [1e-9, 1e-3]}"])
    result = tuned.result()
    tried = {row["finetune.lr"]: row["validation_kappa"] for row in result["tried"]}
    assert set(tried) == {1e-9, 1e-3}
    kept = yaml.safe_load((tuned.path / "finetune.yaml").read_text())["finetune"]
    assert tried[kept["lr"]] == max(tried.values())
    assert (kept["pool"], kept["position"], kept["layer_decay"]) == ("cls", "learned", 1.0)
    others = [path for path in tuned.path.parent.iterdir() if path.name.startswith("s2-")]
    assert others == [tuned.path]
    best = max(row["validation/kappa"] for row in tuned.metrics() if "validation/kappa" in row)
    assert best == max(tried.values())


def test_a_search_scores_the_test_persons_once_with_the_chosen_values(run, monkeypatch):
    scored, score = [], Classification.score

    def counted(task, *where):
        scored.append(task.plan.settings.lr)
        return score(task, *where)

    monkeypatch.setattr(Classification, "score", counted)
    tuned = finetune(run, subjects=2, changes=["finetune.search={lr: [1e-9, 1e-3]}"])
    best = max(tuned.result()["tried"], key=lambda row: row["validation_kappa"])
    assert scored == [best["finetune.lr"]]


def test_a_search_leaves_other_fine_tunings_alone(run):
    plain = finetune(run, subjects=2)
    before = plain.model.read_bytes()
    rate = yaml.safe_load((plain.path / "finetune.yaml").read_text())["finetune"]["lr"]
    searched = finetune(run, subjects=2, changes=[f"finetune.search={{lr: [1e-9, {rate}]}}"])
    assert searched.path != plain.path
    assert plain.model.read_bytes() == before
    again = finetune(run, subjects=2, changes=[f"finetune.search={{lr: [1e-9, {rate}]}}"])
    assert again.path == searched.path
    assert sorted(path.name for path in plain.path.parent.iterdir()) == sorted(
        [plain.path.name, searched.path.name]
    )


def test_from_scratch_has_no_layer_decay_whatever_the_recipe_says(run):
    changes = ["finetune.layer_decay=0.5", "finetune.epochs=1"]
    for from_scratch, expected in ((True, 1.0), (False, 0.5)):
        tuned = finetune(run, changes=changes, from_scratch=from_scratch)
        written = yaml.safe_load((tuned.path / "finetune.yaml").read_text())["finetune"]
        assert written["layer_decay"] == expected


def test_a_search_without_validation_persons_is_refused(run):
    changes = ["finetune.search={lr: [1e-3, 1e-4]}", "split.validation_persons=0"]
    with pytest.raises(ValueError, match=r"finetune\.search needs validation persons"):
        finetune(run, subjects=2, changes=changes)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("{subjects: [1, 2]}", "subjects cannot be searched"),
        ("{rate: [1]}", "rate cannot be searched"),
        ("{lr: []}", "lr has no values to try"),
        ("{lr: [1e-3, 0.001]}", "lr has a value twice"),
        ("{lr: [-1.0]}", r"finetune: search tries lr -1\.0: lr is -1\.0; give more than 0$"),
    ],
)
def test_a_search_that_cannot_be_is_refused(run, search, message):
    with pytest.raises(ValueError, match=message):
        finetune(run, changes=[f"finetune.search={search}"])


def test_an_encoder_of_another_kind_is_refused(run):
    for change, message in (
        ("encoder.dim=32", "dim 16 and 32"),
        ("encoder.patch=[10]", r"patch \[20\] and \[10\]"),
        ("data.channels=[B, A]", "pretrained on A, B; the recipe now wants B, A"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(run, changes=[change])


@pytest.mark.parametrize("method", ["part", "mae"])
def test_pretraining_has_longer_windows_where_the_recipe_says_so(method, small_recipe, tmp_path):
    """Its windows are twice as long; fine-tuning, probe and show take those that they should."""
    changes = ["pretrain.window_s=6.0", "data.window_s=3.0", "finetune.epochs=1"]
    if method == "mae":
        small = "{name: mae, decoder_dim: 16, decoder_depth: 1, decoder_heads: 2}"
        changes.append(f"pretrain.objective={small}")
    recipe = resolve(small_recipe, changes, "small")
    run = pretrain(recipe, out=tmp_path / "R", latest=False)
    experiment = open_experiment(recipe)
    model = Model.load(run)
    assert model.encoder.shape == (2 * experiment.shape[0],)
    tuned = Model.load(finetune(run))
    assert tuned.encoder.shape == experiment.shape
    if method == "mae":  # its positions start as the first of the pretraining's table
        kept = model.encoder.pos_embed[:, : tuned.encoder.pos_embed.shape[1]]
        assert (tuned.encoder.pos_embed - kept).abs().max() < 0.05
        assert (tuned.encoder.pos_embed - kept.roll(1, 1)).abs().max() > 0.5
    scores = probe(run, features=["pretrained_mean"])
    assert set(scores) == {"pretrained_mean"}
    if method == "part":
        assert open_part_run(run).source.shape == model.encoder.shape
    with pytest.raises(ValueError, match=r"window of 60000 s is longer than every recording"):
        pretrain(resolve(small_recipe, ["pretrain.window_s=60000.0"], "small"), out=tmp_path / "L")


@pytest.mark.parametrize("position", ["learned", "none"])
def test_sines_and_cosines_go_on_where_fine_tuning_has_longer_windows(
    position, small_recipe, tmp_path
):
    small = "{name: mae, decoder_dim: 16, decoder_depth: 1, decoder_heads: 2}"
    changes = [f"pretrain.objective={small}", "pretrain.window_s=3.0", "data.window_s=6.0"]
    changes += ["finetune.epochs=1", "finetune.lr=1e-9", f"finetune.position={position}"]
    run = pretrain(resolve(small_recipe, changes, "small"), out=tmp_path / "R", latest=False)
    encoder = Model.load(finetune(run)).encoder
    if position == "learned":
        table = sincos_table(encoder.counts, encoder.dim)
        torch.testing.assert_close(encoder.pos_embed.detach(), table, rtol=0, atol=1e-6)


def test_longer_windows_than_in_pretraining_can_be_fine_tuned(small_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = pretrain(resolve(small_recipe, ["data.window_s=3.0"], "small"), out=tmp_path / "R")
    tuned = finetune(run, changes=["data.window_s=6.0"])
    assert load_tensors(tuned.model)[0]["encoder.pos_embed"].shape == (1, 1 + 6, 16)


def test_damaged_and_foreign_weights_are_named(run):
    whole = run.encoder.read_bytes()
    run.encoder.write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"encoder.safetensors is damaged .* create it again"):
        finetune(run)
    shutil.copy(run.path / "objective.safetensors", run.encoder)
    with pytest.raises(ValueError, match="a vision transformer with timm's names"):
        finetune(run)


def test_every_window_bad_is_counted_and_scored(run, recipe, tmp_path):
    tuned, other = finetune(run), tmp_path / "other.zarr"
    store = Store(recipe.data.store)
    create_store(other, store.attributes)
    signal = store.signal("n0").copy()
    signal[:, ::120] = -32768
    bad = np.array([[t, t + 1] for t in range(0, signal.shape[1], 120)])
    values = signal, store.scale("n0"), store.label("n0"), bad
    write_record(other, "x", Record(*values, {"person": "px"}))
    result = evaluate(tuned, other)
    assert result["n_windows_bad"] == result["n_windows"] == 24
    assert result["kappa"] > 0.8


def test_probes_use_the_persons_of_a_finetuning(run, recipe):
    results, split = probe(run), open_experiment(recipe).split
    assert set(results) == {"pretrained_mean", "pretrained_cls", "untrained_mean", "band_powers"}
    for result in results.values():
        assert result["train_persons"] == list(split.subset(3, 0))
        assert sorted(result["kappa_by_person"]) == sorted(split.test)
    assert results["band_powers"]["kappa"] > 0.8
    assert json.loads((run.path / "probe" / "s3-seed0.json").read_text()).keys() == results.keys()


def test_a_class_that_the_drawn_persons_lack_is_warned_of_with_its_holders(run, recipe):
    split = open_experiment(recipe).split
    assert "p8" in split.finetune  # the seed of the split: only p8 has N2
    seed = next(s for s in range(50) if "p8" not in split.subset(2, s))
    warnings = finetune(run, subjects=2, seed=seed).result()["warnings"]
    assert warnings[0] == "no window of N2 among the persons drawn; p8 has it"
    assert warnings[1] == "no window of N3 among the persons drawn; nobody has it"


def test_one_class_alone_is_refused(run, monkeypatch):
    from biopart.data import Source

    labels = Source.__init__

    def only_w(self, *args, **options):
        labels(self, *args, **options)
        self.labels = self.labels * 0

    monkeypatch.setattr(Source, "__init__", only_w)
    with pytest.raises(ValueError, match="have only W; draw more subjects"):
        finetune(run)


def test_more_subjects_than_are_labelled_take_all_and_say_so(run, recipe):
    result = finetune(run, subjects=50).result()
    assert result["train_persons"] == list(open_experiment(recipe).split.subset(4, 0))
    said = "50 subjects requested, but 4 labelled persons remain beside test and validation"
    assert result["warnings"][0] == f"{said}; all are used"


def test_class_weights_and_mean_pooling_change_the_training(run):
    changes = ([], ["finetune.class_weights=true"], ["finetune.pool=mean"])
    tuned = [finetune(run, changes=change).path / "model.safetensors" for change in changes]
    layers = [load_tensors(path)[0]["final_layer.weight"] for path in tuned]
    for one, other in itertools.combinations(layers, 2):
        assert not torch.allclose(one, other, atol=1e-5)


def test_a_run_without_weights_is_refused(run):
    run.encoder.unlink()
    with pytest.raises(FileNotFoundError, match="has no weights yet"):
        finetune(run)
    with pytest.raises(FileNotFoundError, match="no fine-tuned weights"):
        biopart.load(run.path)


def test_counts_larger_than_what_exists_are_noted(small_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_recipe["split"]["pretrain_persons"] = 500
    run = pretrain(resolve(small_recipe, ["pretrain.steps=1"], "small"), out=tmp_path / "R")
    assert run.provenance()["notes"] == ["500 pretrain persons requested, but only 5 available"]


def test_a_store_of_another_card_is_refused(small_recipe):
    small_recipe["data"]["card"] = "physionet2018"
    with pytest.raises(ValueError, match=r"wants a store made by card physionet2018; .* by small"):
        pretrain(resolve(small_recipe, [], "small"))


def test_missing_data_name_the_commands_that_make_them(small_recipe):
    small_recipe["data"] = {"store": "nowhere.zarr", "card": "physionet2018"}
    with pytest.raises(
        FileNotFoundError, match=r"biopart fetch .* biopart simulate .* biopart prep"
    ):
        pretrain(resolve(small_recipe, [], "small"))


def test_a_dry_run_keeps_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    pretrain(recipe, dry_run=True, report=rows.append)
    assert rows[0]["step"] == rows[0]["steps"] == 1
    assert list(tmp_path.iterdir()) == []


SLOWLY = """
import sys, time
from biopart import cli
from biopart.train import loop
loop.CHECKPOINT_EVERY_S = -1.0
stepping = loop.seed_step
def slowly(*args):
    time.sleep(0.02)
    stepping(*args)
loop.seed_step = slowly
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("lines", [0, 2, 3])
def test_kill_9_and_resume_give_the_same_weights(run, small_recipe, tmp_path, lines):
    through, killed = run, Run(tmp_path / "killed")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_recipe))
    command = [sys.executable, "-c", SLOWLY, "pretrain", "small.yaml", "--out", "killed", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        if (killed.path / "recipe.yaml").is_file() and len(killed.metrics()) >= lines:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not killed.encoder.is_file()
    resume(killed.path)
    for name in ("encoder.safetensors", "objective.safetensors"):
        assert (killed.path / name).read_bytes() == (through.path / name).read_bytes()
    rows = [[{**row, "windows_per_second": 0} for row in r.metrics()] for r in (through, killed)]
    assert rows[0] == rows[1]
    assert run_info(killed)["step"] == 24


def test_a_resume_by_another_recipe_names_the_keys_that_differ(run, recipe):
    changed = resolve(recipe.model_dump(mode="json"), ["pretrain.lr=0.5", "encoder.dim=32"], "x")
    with pytest.raises(ValueError, match=r"encoder\.dim is 32, was 16; pretrain\.lr is 0\.5, "):
        resume(run.path, recipe=changed)
    resume(run.path, recipe=recipe)
    text = (run.path / "recipe.yaml").read_text()
    (run.path / "recipe.yaml").write_text(text.replace("dim: 16", "dim: 32"))
    with pytest.raises(ValueError, match=r"was started with other settings: encoder\.dim is 32"):
        resume(run.path)


def test_a_store_with_a_damaged_signal_is_refused_before_training(recipe, tmp_path):
    store = tmp_path / "s.zarr"
    shutil.copytree(recipe.data.store, store)
    chunk = store / "n3/signal/c/0/0"
    raw = chunk.read_bytes()
    chunk.write_bytes(raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))
    values = recipe.model_dump(mode="json") | {"data": {"store": str(store)}}
    with pytest.raises(ValueError, match=r"the arrays of n3 in .* do not match the hash"):
        pretrain(resolve(values, [], "small"), out=tmp_path / "R")
    assert not (tmp_path / "R").exists()
