"""Detection from files to figures, on rectangles whose places are known."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision import tv_tensors

from biopart.data import Batch
from biopart.data.scenes import Jitter, SceneSource
from biopart.images.coco import read_coco
from biopart.nn import ViT
from biopart.nn.weights import save_tensors
from biopart.objectives import Detect
from biopart.recipe import DetectSettings, Recipe
from biopart.run import Run
from biopart.tasks.detect import open_scenes, scene_detections
from biopart.verbs.check import check_run
from biopart.verbs.detect import detect
from biopart.verbs.finetune import finetune
from biopart.verbs.info import info
from biopart.verbs.show import open_part_run

COLOURS = ((230, 30, 30), (30, 30, 230))
SMALL = {"channels": 16, "box_dim": 32, "proposals": 32, "window": 2, "anchor": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four images of 48 x 64, each with a red and a blue rectangle and a crowd, in COCO's form."""
    folder = tmp_path_factory.mktemp("coco")
    rng, images, objects = np.random.default_rng(0), [], []
    for number in range(4):
        image = Image.new("RGB", (64, 48), (128, 128, 128))
        for kind, colour in enumerate(COLOURS):
            width, height = (int(v) for v in rng.integers(12, 24, 2))
            left = int(rng.integers(0, 64 - width) // 2 + 20 * kind)
            top = int(rng.integers(0, 48 - height))
            right, bottom = min(left + width, 64), top + height
            ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colour)
            outline = [left, top, right, top, right, bottom, left, bottom]
            box = [left, top, right - left, bottom - top]
            objects.append({"bbox": box, "category_id": 1 + kind, "segmentation": [outline]})
            objects[-1] |= {"id": len(objects), "image_id": number, "iscrowd": 0}
        crowd = {"size": [48, 64], "counts": [0, 48, 48 * 63]}
        objects.append({"bbox": [0, 0, 1, 48], "category_id": 1, "segmentation": crowd})
        objects[-1] |= {"id": len(objects), "image_id": number, "iscrowd": 1}
        image.save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    given = {"images": images, "annotations": objects, "categories": categories}
    (folder / "objects.json").write_text(json.dumps(given))
    return folder


def recipe_of(root, **changes):
    files = {"annotations": "objects.json", "images": "."}
    values = {"root": str(root), "train": files, "test": files, "canvas": 64, "jitter": [1, 1]}
    values |= {"flip": 0.0, "steps": 2, "batch": 4, "warmup_epochs": 0, "model": SMALL}
    return Recipe.model_validate(
        {
            "name": "rectangles",
            "data": {"normalise": "imagenet"},
            "encoder": {"patch": [8, 8], "dim": 16, "depth": 2, "heads": 2},
            "detect": values | changes,
            "compute": {"precision": "float32", "threads": 1},
        }
    )


def test_a_scene_lies_on_its_canvas_as_its_pixels_say(root):
    coco = read_coco(root / "objects.json", root)
    batch = SceneSource(coco, 128).__getitems__([2, 0])
    assert (batch.values.shape, batch.values.dtype) == ((2, 3, 128, 128), torch.uint8)
    assert batch.key == ["2.png", "0.png"]
    target = batch.targets[0]
    assert target["labels"].tolist() == [1, 2]  # the crowd is no object to learn
    assert torch.equal(target["boxes"], torch.from_numpy(2 * coco.scenes[2].boxes[:2]))
    for box, mask, colour in zip(target["boxes"], target["masks"], COLOURS, strict=True):
        left, top, right, bottom = box.long().tolist()
        assert mask.sum() == (right - left) * (bottom - top)
        y, x = (top + bottom) // 2, (left + right) // 2
        assert batch.values[0, :, y, x].tolist() == list(colour)
    assert batch.values[0, :, 100, 5].tolist() == [124, 116, 104]  # below 96 is padding


def test_jittered_scenes_keep_boxes_on_their_colours(root):
    coco = read_coco(root / "objects.json", root)
    source = SceneSource(coco, 64, jitter=(0.5, 2.0), flip=0.5)
    seen, looked = set(), 0
    for epoch in range(12):
        source.start_epoch(3, epoch)
        batch = source.__getitems__(range(4))
        for item in range(4):
            seen.add(source.lie(item).mirrored)
            target = batch.targets[item]
            for box in target["boxes"][target["labels"] == 2]:  # blue was painted last
                if (box[2:] - box[:2]).min() > 6:
                    x, y = ((box[:2] + box[2:]) / 2).long().tolist()
                    off = (batch.values[item, :, y, x].float() - torch.tensor(COLOURS[1])).abs()
                    assert off.max() < 40
                    looked += 1
    assert looked > 20
    assert seen == {True, False}


def test_the_epoch_and_the_item_decide_the_jitter(root):
    source = SceneSource(read_coco(root / "objects.json", root), 64, jitter=(0.1, 2.0), flip=0.5)
    lies = {}
    for epoch in (0, 1):
        source.start_epoch(0, epoch)
        lies[epoch] = [source.lie(item) for item in range(4)]
    assert len({str(lie) for pair in lies.values() for lie in pair}) == 8
    source.start_epoch(0, 0)
    assert [source.lie(item) for item in range(4)] == lies[0]


def test_boxes_are_moved_mirrored_and_clipped_by_hand():
    boxes = tv_tensors.BoundingBoxes([[10.0, 20, 30, 40]], format="XYXY", canvas_size=(60, 50))
    assert Jitter((100, 30)).place(boxes, 64).tolist() == [[20, 10, 60, 20]]
    assert Jitter((100, 120), (30, 50)).place(boxes, 64).tolist() == [[0, 0, 30, 30]]
    assert Jitter((50, 60), (0, 0), True).place(boxes, 64).tolist() == [[34, 20, 54, 40]]


def test_a_detection_goes_back_to_where_it_is_in_the_scene(root):
    coco = read_coco(root / "objects.json", root)
    source = SceneSource(coco, 128)
    target = source.__getitems__([1]).targets[0]
    answer = {
        "boxes": target["boxes"],
        "labels": target["labels"],
        "scores": torch.ones(2),
        "masks": target["masks"][:, None].float(),
    }
    found = scene_detections(source, 1, answer)
    truth = [o for o in coco.to_json()["annotations"] if o["image_id"] == 1 and not o["iscrowd"]]
    assert [one["bbox"] for one in found] == [one["bbox"] for one in truth]
    assert [one["category_id"] for one in found] == [1, 2]


def test_a_few_steps_lower_the_loss_of_known_objects(root):
    source = SceneSource(read_coco(root / "objects.json", root), 64)
    torch.manual_seed(0)
    encoder = ViT((64, 64), (8, 8), 3, 16, 2, 2)
    objective = Detect(encoder, DetectSettings(classes=2, **SMALL))
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    batch = source.__getitems__(range(4))
    batch.values = batch.values.float() / 64 - 2
    losses = []
    for _ in range(12):
        torch.manual_seed(1)
        output = objective(batch)
        losses.append(output.loss.item())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    parts = ["classifier", "box_reg", "mask", "objectness", "rpn_box_reg"]
    assert sorted(output.metrics) == sorted(parts)
    assert losses[-1] < 0.75 * losses[0]
    assert encoder.cls_token.grad is None
    assert all(p.grad is not None for p in encoder.blocks.parameters())


def test_single_images_are_refused():
    objective = Detect(ViT((64, 64), (8, 8), 3, 16, 1, 2), DetectSettings(classes=2, **SMALL))
    with pytest.raises(ValueError, match="canvases with their objects"):
        objective(Batch(torch.zeros(1, 3, 64, 64), torch.zeros(1).long(), ["a"], ["a"]))


def test_a_detector_is_trained_and_scored_and_goes_on(root, tmp_path):
    recipe = recipe_of(root)
    run = detect(recipe, out=tmp_path / "run")
    result = run.result()
    assert set(result["box"]) >= {"AP", "AP50", "AP75", "AR100"}
    assert result["n_images"] == 4
    assert run.model.is_file()
    assert run.provenance()["weights"] == "a new encoder"
    again = detect(recipe, out=tmp_path / "run", resume=True)  # nothing is left to be done
    assert again.result()["box"] == result["box"]
    before = sorted(tmp_path.iterdir())
    detect(recipe, dry_run=True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("devices", "parts"), [(2, 1), (1, 2), (2, 2)])
def test_processes_and_parts_share_the_batch_of_a_detector(root, tmp_path, devices, parts):
    # Of the losses only that of the proposals' boxes is without torchvision's own random choice:
    # all anchors on objects are used.
    first = {}
    for name, (count, split) in {"alone": (1, 1), "shared": (devices, parts)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(recipe_of(root, accumulate=split).to_yaml())
        command = [sys.executable, "-m", "biopart", "detect", "recipe.yaml", "--out", "run"]
        answer = subprocess.run(
            [*command, "--devices", str(count), "--json"],
            cwd=tmp_path / name,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["n_images"] == 4  # once for all processes
        rows = [row for row in Run(tmp_path / name / "run").metrics() if "train/loss" in row]
        assert [row["step"] for row in rows] == [1, 2]
        first[name] = rows[0]["train/rpn_box_reg"]
    assert first["shared"] == pytest.approx(first["alone"], rel=1e-4)


def test_a_run_of_detection_says_what_it_is_and_is_no_pretraining(root, tmp_path):
    run = detect(recipe_of(root), out=tmp_path / "run")
    about = info(str(run.path))
    assert (about["kind"], about["step"], about["steps"]) == ("detection", 2, 2)
    assert about["box"] == run.result()["box"]
    assert check_run(run)["problems"] == []
    for use in (finetune, open_part_run):
        with pytest.raises(ValueError, match="is a detection run; a pretraining run is needed"):
            use(run)
    run.model.unlink()
    assert check_run(run)["problems"] == [
        "the detector is missing: continue with biopart detect --resume"
    ]


def test_an_encoder_of_another_patch_is_refused(root, tmp_path):
    torch.manual_seed(0)
    save_tensors(tmp_path / "w.safetensors", ViT((64, 64), (4, 4), 3, 16, 2, 2).state_dict(), {})
    recipe = recipe_of(root, weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match=r"differ: patch \[4, 4\] and \[8, 8\]"):
        detect(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scenes_are_found_under_the_root(root, tmp_path):
    assert len(open_scenes(recipe_of(root), recipe_of(root).detect.train).scenes) == 4
    with pytest.raises(FileNotFoundError, match=r"objects\.json does not exist"):
        detect(recipe_of(tmp_path))
