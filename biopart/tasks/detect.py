"""Detect objects: Mask R-CNN on an encoder, scored by COCO's own evaluation."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from biopart.compute import cores, describe
from biopart.data.scenes import SceneSource, colours
from biopart.evaluation.detection import score_detections
from biopart.images.annotations import reasons, total
from biopart.images.coco import Coco, Scene, read_coco
from biopart.images.outlines import encode
from biopart.nn import Normalise, build_encoder
from biopart.nn.weights import save_tensors
from biopart.objectives import Detect
from biopart.recipe import Recipe, ScenesSettings, VitSettings
from biopart.run import Run
from biopart.tasks.own import OwnTask
from biopart.tasks.trunk import start_trunk
from biopart.train import Training

MASK_THRESHOLD = 0.5  # from which on a pixel of a mask belongs to the object


@dataclass
class Detection(OwnTask):
    """The training of a detector by a recipe's ``detect`` section.

    Attributes
    ----------
    recipe : Recipe
        ``encoder`` is the trunk, ``detect`` the rest.

    Raises
    ------
    FileNotFoundError
        If annotations, images or weights are missing.
    ValueError
        If weights do not fit, the encoder is not of images, or both parts have other classes.
    """

    def __post_init__(self) -> None:
        settings = self.recipe.detect
        self.train = open_scenes(self.recipe, settings.train)
        self.test = open_scenes(self.recipe, settings.test)
        if self.train.classes != self.test.classes:
            raise ValueError("the scenes of detect.train and detect.test have different classes")
        if self.recipe.data.normalise == "recording":
            raise ValueError(
                "scenes are images, which data.normalise=recording does not fit; give window, "
                "imagenet or none"
            )
        built = build(self.recipe, len(self.train.classes))
        self.objective, self.started_from, self.fresh = built

    def training(self, fabric: Fabric) -> Training:
        """Return what is trained on the scenes."""
        settings = self.recipe.detect
        source = SceneSource(
            self.train,
            settings.canvas,
            jitter=settings.jitter,
            flip=settings.flip,
            threads=cores(),
        )
        normalise, seed = self.recipe.data.normalise, self.recipe.seed
        training = Training(
            self.objective, source, settings, normalise, seed, fresh=tuple(self.fresh)
        )
        self.provenance = {
            "kind": "detection",
            "weights": self.started_from,
            "seed": seed,
            "chosen": describe(fabric, source),
            "steps": training.steps,
            "parameters": sum(p.numel() for p in self.objective.parameters()),
            "left_out": {"train": self.train.left_out, "test": self.test.left_out},
            "remarks": {"train": self.train.remarks, "test": self.test.remarks},
        }
        return training

    def save(self, path: Path) -> None:
        """Write the detector with its classes."""
        about = {"classes": self.train.classes, "canvas": self.recipe.detect.canvas}
        save_tensors(path, self.objective.state_dict(), {**about, "recipe": self.recipe.name})

    def score(self, run: Run, fabric: Fabric) -> dict[str, Any]:
        """Score boxes and masks on the test scenes."""
        result = score_scenes(self.objective, self.test, self.recipe, fabric)
        return {**result, "left_out": self.test.left_out}


def open_scenes(recipe: Recipe, part: ScenesSettings) -> Coco:
    """Read the scenes of a part."""
    root, limit = recipe.detect.root, recipe.detect.max_bad
    coco = read_coco(root / part.annotations, root / part.images)
    count = total(coco.left_out)
    if count > limit:
        raise ValueError(
            f"{root / part.annotations}: {count} images or objects were left out, detect.max_bad "
            f"allows {limit}: {reasons(coco.left_out, coco.named)}"
        )
    if not any((~scene.crowd).any() for scene in coco.scenes):
        raise ValueError(
            f"{root / part.annotations} has no object in its {len(coco.scenes)} images"
        )
    check_images(coco, cores())
    return coco


def check_images(coco: Coco, threads: int) -> None:
    """Refuse scenes whose file cannot be decoded or has another size, before anything is trained.

    Raises ValueError that names the first files at fault and counts them.
    """
    with ThreadPoolExecutor(threads) as pool:
        faults = [fault for fault in pool.map(fault_of, coco.scenes) if fault]
    if faults:
        raise ValueError(f"{len(faults)} images cannot be used: {'; '.join(faults[:5])}")


def fault_of(scene: Scene) -> str:
    """Say what is wrong with a scene's file; empty where nothing is."""
    try:
        colours(scene)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def build(recipe: Recipe, classes: int) -> tuple[Detect, str, list[nn.Parameter]]:
    """Build the detector on a new or a pretrained encoder.

    Returns it, what it started from, and the positions if they are new.
    """
    settings, side = recipe.encoder, recipe.detect.canvas
    if not isinstance(settings, VitSettings):
        raise ValueError(f"detection needs encoder vit; encoder.name is {settings.name}")
    if len(settings.patch) != 2:
        raise ValueError(
            f"recipe {recipe.name} is not for images (encoder.patch is {settings.patch}); take "
            "coco_maskrcnn, or give patches of two sides"
        )
    torch.manual_seed(recipe.seed)
    encoder = build_encoder(
        {
            **settings.model_dump(include={"patch", "dim", "depth", "heads", "drop_path"}),
            **{"shape": (side, side), "channels": 3, "position": "learned"},
        }
    )
    started_from, fresh = start_trunk(encoder, recipe.detect)
    model = recipe.detect.model.model_copy(update={"classes": classes})
    return Detect(encoder, model), started_from, fresh


def score_scenes(objective: Detect, scenes: Coco, recipe: Recipe, fabric: Fabric) -> dict[str, Any]:
    """Detect on scenes and score boxes and masks."""
    source = SceneSource(scenes, recipe.detect.canvas, threads=cores())
    prepare = Normalise(recipe.data.normalise)
    objective.to(fabric.device).eval()
    detections: list[dict[str, Any]] = []
    for start in range(0, len(source), recipe.detect.batch):
        items = np.arange(start, min(start + recipe.detect.batch, len(source)))
        values = prepare(source.__getitems__(items).values.to(fabric.device))
        with fabric.autocast():
            predictions = objective.predict(values)
        for item, prediction in zip(items.tolist(), predictions, strict=True):
            detections += scene_detections(source, item, prediction)
    scores = score_detections(scenes.to_json(), detections)
    return {**scores, "n_images": len(source), "n_detections": len(detections)}


def scene_detections(
    source: SceneSource, item: int, prediction: dict[str, Tensor]
) -> list[dict[str, Any]]:
    """Take what was detected on a canvas back to its scene, in COCO's form."""
    scene, ids = source.coco.scenes[item], list(source.coco.classes)
    width, height = source.lie(item).sides
    limits = torch.tensor([scene.width, scene.height] * 2)
    boxes = prediction["boxes"].cpu() * limits / torch.tensor([width, height] * 2)
    boxes = boxes.clamp(min=torch.zeros(4), max=limits)
    detections = []
    for number, box in enumerate(boxes.tolist()):
        covered = prediction["masks"][number : number + 1, :, :height, :width]
        mask = torch.nn.functional.interpolate(
            covered, (scene.height, scene.width), mode="bilinear", align_corners=False
        )
        outline = encode((mask[0, 0] >= MASK_THRESHOLD).cpu().numpy().astype(np.uint8))
        detections.append(
            {
                "image_id": scene.number,
                "category_id": ids[int(prediction["labels"][number]) - 1],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "score": float(prediction["scores"][number]),
                "segmentation": outline,
            }
        )
    return detections
