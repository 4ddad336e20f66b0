"""Segmentation: maps and pyramids on any axes, what is learnt from, trainings to their scores."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from biopart.cli import main
from biopart.data import Batch, DenseBatch, open_cohort
from biopart.data.dense import DenseImages, DenseWindows
from biopart.images.annotated import read_annotated
from biopart.nn import ViT
from biopart.nn.fpn import SemanticFpn
from biopart.nn.resnet import ResNet
from biopart.nn.vit import evenly
from biopart.objectives import Segment
from biopart.recipe import SegmentSettings, resolve
from biopart.store.parts_card import PartsCard
from biopart.tasks.segment import fitted
from biopart.verbs.info import info
from biopart.verbs.pretrain import pretrain
from biopart.verbs.segment import segment

GRIDS = [((40,), (8,)), ((12, 20), (4, 4)), ((6, 4, 8), (2, 2, 4))]


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("cls", [True, False])
def test_maps_are_the_tokens_after_evenly_spaced_blocks(shape, patch, cls):
    torch.manual_seed(0)
    net = ViT(shape, patch, 2, 12, 4, 2, position="sincos", cls=cls).eval()
    values = torch.randn(2, 2, *shape)
    maps = net.maps(values, 2)
    kept = []
    hook = net.blocks[evenly(4, 2)[0]].register_forward_hook(lambda _, __, out: kept.append(out))
    last = net.encode(values)
    hook.remove()
    patches = kept[0][:, 1:] if cls else kept[0]
    counts = net.counts
    assert maps[0].shape == (2, 12, *counts)
    torch.testing.assert_close(maps[0].flatten(2).transpose(1, 2), patches)
    torch.testing.assert_close(maps[1].flatten(2).transpose(1, 2), last[:, 1:])
    assert len(net.maps(values, 6)) == 6  # of four blocks, the first one several times


def test_an_encoder_without_equal_layers_gives_its_last_map():
    net = ResNet((16,), (4,), 1, width=2).eval()
    one, two = net.maps(torch.randn(2, 1, 16), 2)
    assert one is two
    assert one.shape == (2, net.dim, 4)


@pytest.mark.parametrize("counts", [(5,), (3, 7), (2, 3, 4), (1, 8)])
def test_a_pyramid_gives_four_places_per_token_on_every_axis(counts):
    torch.manual_seed(0)
    head = SemanticFpn(8, counts, 3, pyramid=8, channels=8)
    maps = [torch.randn(2, 8, *counts) for _ in range(4)]
    outputs = head(maps)
    assert outputs.shape == (2, 3, *(4 * count for count in counts))
    for number, one in enumerate(maps):  # every level takes part
        other = [m if k != number else m + 1 for k, m in enumerate(maps)]
        assert not torch.allclose(head(other), outputs), number
        assert one.shape[1] == 8


def test_unknown_places_do_not_count_and_the_loss_is_the_mean_of_the_others():
    torch.manual_seed(0)
    objective = Segment(ViT((8,), (2,), 1, 8, 1, 2), SegmentSettings(classes=3, head="linear"))
    values, dense = torch.randn(2, 1, 8), torch.randint(0, 3, (2, 8))
    dense[0, :5] = -1
    batch = DenseBatch(values, torch.zeros(2).long(), ["p"] * 2, ["k"] * 2, dense=dense)
    output = objective(batch)
    logs = objective.logits(values).log_softmax(1)
    own = [-logs[b, dense[b, t], t] for b in range(2) for t in range(8) if dense[b, t] >= 0]
    assert output.loss.item() == pytest.approx(torch.stack(own).mean().item(), rel=1e-5)
    assert output.weight.item() == len(own) == 11
    changed = DenseBatch(values, batch.label, ["p"] * 2, ["k"] * 2, dense=torch.full((2, 8), -1))
    assert objective(changed).loss.item() == 0
    with pytest.raises(ValueError, match="needs a class for every place"):
        objective(Batch(values, batch.label, ["p"] * 2, ["k"] * 2))


def test_windows_move_with_the_epoch_and_keep_their_events(pulse_store):
    cohort = open_cohort(pulse_store)
    source = DenseWindows(cohort.source(persons=["p0"], keep_bad=True))
    before = source.__getitems__(np.arange(12))
    source.start_epoch(3, 5)
    batch = source.__getitems__(np.arange(12))
    assert not torch.equal(before.values, batch.values)
    signal = torch.from_numpy(np.array(cohort.signal("r0")))
    codes = torch.zeros(960).long()
    for start, stop, code in cohort.events("r0").tolist():
        codes[start:stop] = 1 + code
    for item in range(12):
        first = int(source._first[item])
        assert torch.equal(batch.values[item], signal[:, first : first + 80])
        assert torch.equal(batch.dense[item], codes[first : first + 80])
    again = DenseWindows(cohort.source(persons=["p0"], keep_bad=True))
    again.start_epoch(3, 5)
    assert torch.equal(again.__getitems__(np.arange(12)).values, batch.values)


def halves(folder, count=6):
    """Write images whose red half is class x, green half class y, in both parts."""
    for place in ("i", "m"):
        (folder / place).mkdir(parents=True)
    for number in range(count):
        pixels = np.zeros((20, 30, 3), np.uint8)
        classes = np.zeros((20, 30), np.uint8)
        split = 8 + 2 * number
        pixels[:, :split, 0], pixels[:, split:, 1] = 200, 200
        classes[:, split:] = 1
        Image.fromarray(pixels).save(folder / f"i/{number}.png")
        Image.fromarray(classes).save(folder / f"m/{number}.png")
    card = {"name": "halves", "title": "t", "licence": "l", "citation": "c", "parts": "masks"}
    files = {"images": "i", "masks": "m"}
    card |= {"train": files, "test": files, "classes": ["x", "y"]}
    (folder / "halves.yaml").write_text(json.dumps(card))
    return PartsCard.model_validate(card)


def test_crops_of_images_and_their_classes_stay_together(tmp_path):
    train, _ = read_annotated(halves(tmp_path), tmp_path)
    source = DenseImages(train, 20, scale=(0.5, 2.0), flip=0.5)
    source.start_epoch(0, 1)
    batch = source.__getitems__(np.arange(6))
    red, green = batch.values[:, 0].int(), batch.values[:, 1].int()
    known = batch.dense >= 0
    clear = (red - green).abs() > 150  # not where resizing mixes both
    assert (batch.dense[known & clear] == (green > red)[known & clear].long()).all()
    assert (batch.values.permute(0, 2, 3, 1)[~known] == torch.tensor([124, 116, 104])).all()
    assert (~known).any()
    source.start_epoch(0, 2)
    assert not torch.equal(source.__getitems__(np.arange(6)).dense, batch.dense)


def test_images_are_fitted_in_whole_patches():
    assert fitted((375, 500), 512, (16, 16)) == (512, 688)
    assert fitted((11, 4), 8, (8, 8)) == (24, 8)


RECIPE = {
    "name": "pulses",
    "split": {"test_persons": 3, "validation_persons": 1},
    "encoder": {"patch": [5], "dim": 16, "depth": 1, "heads": 2},
    "compute": {"precision": "float32", "threads": 1},
    "segment": {
        **{"steps": 60, "batch": 16, "lr": 0.005, "warmup_epochs": 0},
        "model": {"pyramid": 8, "channels": 8},
    },
}


def recipe_of(store, **segment_settings):
    values = {**RECIPE, "data": {"store": str(store)}}
    return resolve({**values, "segment": {**RECIPE["segment"], **segment_settings}}, (), "test")


def test_events_are_learnt_and_scored_on_other_persons(pulse_store, tmp_path):
    run = segment(recipe_of(pulse_store), out=tmp_path / "run")
    scores = run.result()["scores"]
    assert scores["event detection, all, F1"]["value"] > 0.9
    assert scores["event segmentation, mIoU"]["value"] > 0.8
    assert set(run.result()["iou"]) == {"no event", "up", "down"}
    assert info(str(run.path))["kind"] == "segmentation"
    with pytest.raises(ValueError, match="is a segmentation run; a pretraining run is needed"):
        run.pretrained_weights()


def test_weights_that_have_seen_a_test_person_are_refused(pulse_store, tmp_path):
    part = {"objective": {"name": "part", "patches": 16, "pairs": 32}, "steps": 1, "batch": 8}
    values = {**RECIPE, "data": {"store": str(pulse_store)}, "pretrain": part}
    run = pretrain(resolve(values, (), "test"), out=tmp_path / "part", latest=False)
    started = segment(recipe_of(pulse_store, weights=str(run.path), steps=1), out=tmp_path / "ok")
    assert str(run.path) in started.provenance()["weights"]
    other = recipe_of(pulse_store, weights=str(run.path))
    other = other.model_copy(update={"split": other.split.model_copy(update={"seed": 3})})
    with pytest.raises(ValueError, match="the model has seen"):
        segment(other, out=tmp_path / "no")


def test_a_training_goes_on_from_its_checkpoint_bit_for_bit(pulse_store, tmp_path):
    from biopart.train import Stop, Stopped

    recipe = recipe_of(pulse_store, steps=12)
    whole = segment(recipe, out=tmp_path / "whole")

    class StopAt(Stop):
        """Asks for the end at the sixth step."""

        def __init__(self):
            super().__init__()
            self.steps = 0

        @property
        def asked(self):
            self.steps += 1
            return self.steps >= 6

        @asked.setter
        def asked(self, _):
            pass

    with pytest.raises(Stopped):
        segment(recipe, out=tmp_path / "parts", stop=StopAt())
    resumed = segment(recipe, out=tmp_path / "parts", resume=True)
    assert resumed.model.read_bytes() == whole.model.read_bytes()


def test_images_are_learnt_and_scored_in_their_own_size(tmp_path, capsys):
    halves(tmp_path)
    recipe = {
        "name": "halves",
        "data": {"normalise": "imagenet"},
        "encoder": {"patch": [4, 4], "dim": 16, "depth": 1, "heads": 2},
        "compute": {"precision": "float32", "threads": 1},
        "segment": {
            **{"card": str(tmp_path / "halves.yaml"), "canvas": 16, "steps": 60, "batch": 6},
            **{"lr": 0.005, "warmup_epochs": 0, "model": {"head": "linear"}},
        },
    }
    (tmp_path / "halves_recipe.yaml").write_text(json.dumps(recipe))
    given = ["segment", str(tmp_path / "halves_recipe.yaml"), "--raw", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main([*given, "--out", str(tmp_path / "run"), "--json", "--quiet"])
    assert stop.value.code == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["segmentation, mIoU"]["value"] > 0.85
    assert scores["segmentation, mIoU"]["ci95"] is not None  # six images
    with pytest.raises(SystemExit) as stop:
        main(["segment", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "give a recipe, for instance mitdb_segment, or --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("segment_settings", "message"),
    [
        ({"canvas": 64}, "card is null: there are no images, so canvas has no effect"),
        ({"model": {"head": "linear", "channels": 8}}, "head is linear, so channels has no effect"),
        ({"card": "c", "scale": [2, 1]}, "give 0 < smallest <= largest"),
    ],
)
def test_settings_without_effect_are_refused(segment_settings, message):
    with pytest.raises(ValueError, match=message):
        resolve({"segment": segment_settings}, (), "test")


def test_a_store_without_events_and_images_without_a_folder_are_refused(small_recipe, tmp_path):
    with pytest.raises(ValueError, match="has no events; state them in its card"):
        segment(resolve(small_recipe, (), "test"), out=tmp_path / "a")
    halves(tmp_path)
    card = {"segment": {"card": str(tmp_path / "halves.yaml")}, "encoder": {"patch": [4, 4]}}
    with pytest.raises(ValueError, match=r"give segment\.card and segment\.raw"):
        segment(resolve(card, (), "test"), out=tmp_path / "b")
