"""The whole path on images: the signal's commands, with images per class for persons."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from biopart.experiment.experiment import open_experiment
from biopart.images import ingest_images
from biopart.nn.model import load
from biopart.recipe import AugmentSettings, Recipe
from biopart.store import Images, create_store, write_record
from biopart.store.image_card import ImageCard
from biopart.studies.compare.study import compare
from biopart.verbs.evaluate import evaluate
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain
from biopart.verbs.probe import probe

CARD = ImageCard(name="dots", title="t", licence="l", citation="c", images="folders", size=(8, 8))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue images by turns: 30 to train on and 10 to test."""
    path = tmp_path_factory.mktemp("images") / "dots.zarr"
    create_store(path, CARD.store_attributes(["red", "blue"]))
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 10)):
        image = rng.integers(0, 100, (count, 3, 8, 8)).astype(np.uint8)
        label = (np.arange(count) % 2).astype(np.int16)
        for one, code in zip(image, label, strict=True):
            one[2 * code] += 120
        names = tuple(f"{part}/{number}" for number in range(count))
        write_record(path, part, Images(image, label, names, {"part": part}))
    return path


def recipe_of(store: Path, **changes: object) -> Recipe:
    values = {
        "data": {"store": str(store), "normalise": "imagenet"},
        "split": {"test_part": "test", "validation_persons": 6},
        "encoder": {"patch": [2, 2], "dim": 16, "depth": 1, "heads": 2},
        "pretrain": {"objective": {"name": "part", "patches": 9, "pairs": 12}, "steps": 3}
        | {"batch": 8, "warmup_epochs": 0, "validation_windows": 6},
        "finetune": {"subjects": 5, "steps": 40, "batch": 10, "lr": 3e-3, "layer_decay": 1.0}
        | {"warmup_epochs": 0, "patience": None},
        "compute": {"precision": "float32", "threads": 1},
    }
    return Recipe.model_validate(values | changes)


def test_the_test_part_is_the_test_and_subsets_count_images_per_class(store: Path) -> None:
    experiment = open_experiment(recipe_of(store))
    split = experiment.split
    assert sorted(split.test) == sorted(f"test/{number}" for number in range(10))
    assert not set(split.test) & {*split.validation, *split.pretrain, *split.finetune}
    assert (len(split.validation), len(split.pretrain), len(split.finetune)) == (6, 24, 24)
    small, large = split.subset(2, seed=1), split.subset(5, seed=1)
    assert set(small) < set(large)
    for count, drawn in ((2, small), (5, large)):
        codes = [int(name.removeprefix("train/")) % 2 for name in drawn]
        assert np.bincount(codes).tolist() == [count, count]
    rarest = min(np.bincount([int(name.removeprefix("train/")) % 2 for name in split.finetune]))
    assert split.most == rarest
    assert set(split.subset(99, seed=0)) == set(split.finetune)
    (said,) = split.shortage(99)
    assert said.startswith(f"99 images per class requested, but the rarest class has {rarest} ")


def test_an_encoder_of_images_is_probed_while_it_is_trained(store: Path, tmp_path: Path) -> None:
    recipe = recipe_of(store)
    probed = recipe.pretrain.model_copy(update={"probe_every": 1})
    run = pretrain(recipe.model_copy(update={"pretrain": probed}), out=tmp_path / "R", latest=False)
    rows = [row for row in run.metrics() if "probe/kappa" in row]
    assert [row["step"] for row in rows] == [0, 3]
    assert [row["probe/kappa"] for row in rows] == [1, 1]  # a colour is seen by any encoder
    assert all(1 < row["probe/rank"] <= 6 and 0 < row["probe/std"] < 1 for row in rows)


def test_a_part_that_is_not_there_is_refused_with_those_that_are(store: Path) -> None:
    with pytest.raises(ValueError, match="has no part 'val'; its parts: test, train"):
        open_experiment(recipe_of(store, split={"test_part": "val"}))


def test_an_encoder_is_pretrained_tuned_probed_and_scored_on_images(
    store: Path, tmp_path: Path
) -> None:
    run = pretrain(recipe_of(store), out=tmp_path / "run")
    tuned = finetune(run)
    result = tuned.result()
    assert result["n_images"] == 10
    assert result["n_train_images"] == 10  # five of each of two classes
    assert "train_persons" not in result
    assert result["accuracy"] == np.trace(result["confusion"]) / 10
    assert result["accuracy"] > 0.7  # the colours differ by far more than their noise
    found = probe(run, subjects=5)
    assert list(found) == ["pretrained_mean", "pretrained_cls", "untrained_mean", "pixels"]
    assert found["pixels"]["accuracy"] == 1.0
    logits = load(tuned)(
        open_experiment(recipe_of(store)).source(["test/0"]).__getitems__([0]).values
    )
    assert logits.shape == (1, 2)
    names = [f"test/{number}" for number in range(10)]
    again = evaluate(tuned, store, names, device="cpu")
    assert again["confusion"] == result["confusion"]
    unseen = evaluate(tuned, store, device="cpu")
    assert unseen["n_images"] == 10  # all of the training part were pretrained on or validate
    with pytest.raises(ValueError, match=r"seen train/0, train/1, .* and 10 more in pretraining"):
        evaluate(tuned, store, [f"train/{n}" for n in range(30)], device="cpu")


def test_a_store_of_another_size_does_not_fit_a_model(store: Path, tmp_path: Path) -> None:
    run = pretrain(recipe_of(store), out=tmp_path / "run")
    tuned = finetune(run, changes=["finetune.steps=1"])
    card = CARD.model_copy(update={"size": (4, 4)})
    create_store(tmp_path / "s.zarr", card.store_attributes(["red", "blue"]))
    image = np.zeros((2, 3, 4, 4), np.uint8)
    pack = Images(image, np.array([0, 1], np.int16), ("a", "b"), {"part": "test"})
    write_record(tmp_path / "s.zarr", "test", pack)
    with pytest.raises(ValueError, match=r"size \[8, 8\] and \[4, 4\]"):
        evaluate(tuned, tmp_path / "s.zarr", device="cpu")


def test_part_leaves_chance_on_real_images(real_data: Path, tmp_path: Path) -> None:
    """At chance R2 over 18,432 pairs is 0 with a standard error of at most 0.01: three of them."""
    card = ImageCard.model_validate(CARD.model_dump() | {"size": [32, 32], "name": "small"})
    ingest_images(card, real_data / "images_cifar10", tmp_path / "s.zarr")
    recipe = recipe_of(
        tmp_path / "s.zarr",
        encoder={"patch": [4, 4], "dim": 64, "depth": 2, "heads": 2},
        pretrain={"objective": {"name": "part", "patches": 36, "pairs": 72}, "steps": 100}
        | {"batch": 32, "lr": 2e-3, "warmup_epochs": 0, "validation_windows": 256},
        split={"test_part": "test", "validation_persons": 256},
    )
    rows = pretrain(recipe, out=tmp_path / "run").metrics()
    last = [row["validation/r2"] for row in rows if "validation/r2" in row][-1]
    assert last > 0.03
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["windows"] == 9744


def test_a_curve_over_images_per_class_compares_blocks_of_test_images(
    store: Path, tmp_path: Path
) -> None:
    curve = {"methods": ["part", "supervised"], "sizes": [2, 4, 99], "repeats": 2}
    recipe = recipe_of(store, curve=curve, name="dots")
    with ThreadPoolExecutor(1) as executor:
        found = compare(recipe, tmp_path / "curve", executor=executor)
    methods = {row["method"]: row for row in found["summary"]}
    assert list(methods) == ["part", "supervised", "untrained", "pixels"]
    assert methods["pixels"]["accuracy"] == 1.0
    most = open_experiment(recipe).split.most
    assert [row["size"] for row in found["summary"] if row["method"] == "part"] == [2, 4, most]
    text = (tmp_path / "curve" / "curve.html").read_text()
    assert "Test blocks: 2; seeds per method and size: 2." in text
    assert "a new draw of labelled images per class" in text
    assert "divided class by class into 2 blocks" in text
    assert "All methods had the same labelled images per class." in text
    assert "does not hold the smaller one" not in text  # which hashes of names cannot tell
    assert f"99 images per class requested, but the rarest class has {most} beside test" in text


SPLIT = {"test_persons": 2, "validation_persons": 1}


def test_a_dry_run_of_images_sorted_by_class_meets_all_classes(store: Path, tmp_path: Path) -> None:
    recipe = recipe_of(store, pretrain={**recipe_of(store).model_dump()["pretrain"], "steps": 1})
    run = pretrain(recipe, out=tmp_path / "run", latest=False)
    source = open_experiment(recipe).source(open_experiment(recipe).split.finetune, labelled=True)
    order = np.argsort(source.labels, kind="stable")
    spread = source.of_table(source._table[:, order]).thinned(4)
    assert sorted(spread.labels.tolist()) == [0, 0, 1, 1]
    finetune(run, dry_run=True, changes=["finetune.batch=4"])
    assert not (run.path / "finetune").exists()


DEIT = {
    "crop": [0.5, 1.0],
    "flip": 0.5,
    "randaugment": "rand-m5-mstd0.5-inc1",
    "erase": 0.25,
    "mixup": 0.4,
    "cutmix": 0.5,
    "smoothing": 0.1,
}


def test_augmented_fine_tuning_still_learns_colours_and_keeps_the_averaged_weights(
    store: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(store, pretrain={**recipe_of(store).model_dump()["pretrain"], "steps": 2})
    run = pretrain(recipe, out=tmp_path / "run", latest=False)
    tuning = {"augment": DEIT, "ema": 0.98, "repeats": 2, "drop_path": 0.1, "steps": 60, "lr": 6e-3}
    changes = [f"finetune.{key}={json.dumps(value)}" for key, value in tuning.items()]
    tuned = finetune(run, subjects=10, changes=changes, from_scratch=True)
    assert tuned.result()["accuracy"] >= 0.8  # 10 test images; chance 0.5


def test_augmentation_of_recordings_is_refused(small_store: Path) -> None:
    recipe = Recipe.model_validate({"data": {"store": str(small_store)}, "split": SPLIT})
    experiment = open_experiment(recipe)
    with pytest.raises(ValueError, match=r"finetune\.augment changes images, but .* recordings"):
        experiment.augment(AugmentSettings(flip=0.5), "finetune.augment")
    assert experiment.augment(AugmentSettings(), "finetune.augment") is None
