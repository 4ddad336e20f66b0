"""Train Mask R-CNN on an encoder, and score it by COCO's own evaluation."""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from biopart.compute import cores, describe, open_fabric
from biopart.data import SceneSource
from biopart.data.scenes import Jitter, draw
from biopart.evaluation.detection import check_installed, score_detections
from biopart.files import write_json, write_text
from biopart.images.annotations import reasons, total
from biopart.images.coco import Coco, Scene, read_coco
from biopart.images.outlines import encode
from biopart.nn import Normalise, ViT
from biopart.nn.weights import save_tensors
from biopart.objectives import Detect
from biopart.recipe import Recipe, ScenesSettings
from biopart.run import Run, new_run, one_process, origins
from biopart.train import Row, Task, fit
from biopart.verbs.pretrain import stored_recipe
from biopart.verbs.weights import start_encoder

SURE = 0.5  # from which on a pixel of a mask belongs to the object


def detect(
    recipe: Recipe,
    *,
    out: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Train a detector by the recipe's ``detect`` section and score it, once, on its test scenes.

    Parameters
    ----------
    recipe : Recipe
        ``encoder`` is the trunk, ``detect`` the rest; of a resumed run its own is taken.
    out : Path, optional
        The run folder; ``runs/<name>/<time>`` by default.
    resume : bool
        Go on with ``out`` from its last checkpoint.
    dry_run : bool
        One step on one batch, in a folder that is thrown away.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        With model.safetensors and result.json.

    Raises
    ------
    FileNotFoundError
        If annotations, images or weights are missing.
    ValueError
        If faster-coco-eval is not there, weights do not fit, or the encoder is not of images.
    """
    check_installed()
    if resume:
        if out is None:
            raise ValueError("resume goes on with a run; give its folder by --out")
        recipe = stored_recipe(Run(out), kind="detection")
    if dry_run:
        recipe = recipe.model_copy(update={"detect": recipe.detect.model_copy(update={"steps": 1})})
    train, test = (open_scenes(recipe, part) for part in (recipe.detect.train, recipe.detect.test))
    if train.classes != test.classes:
        raise ValueError("the scenes of detect.train and detect.test have different classes")
    objective, taken = build(recipe, len(train.classes))
    fabric = open_fabric(recipe.compute)
    source = SceneSource(
        train,
        recipe.detect.canvas,
        jitter=recipe.detect.jitter,
        flip=recipe.detect.flip,
        threads=cores(),
    )
    task = Task(objective, source, recipe.detect, recipe.data.normalise, recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        if dry_run:
            run = Run(Path(folder))
        else:
            assert out is not None or not resume
            run = Run(out) if resume and out is not None else new_run(recipe.name, out)
        about: dict[str, Any] = {"kind": "detection", "weights": taken, "seed": recipe.seed}
        about |= {"chosen": describe(fabric, source), "steps": task.steps}
        about["parameters"] = sum(p.numel() for p in objective.parameters())
        about |= {"left_out": {"train": train.left_out, "test": test.left_out}}
        about |= {"remarks": {"train": train.remarks, "test": test.remarks}}
        if not resume:
            write_json(run.path / "provenance.json", {**origins(), **about})
            write_text(run.path / "recipe.yaml", recipe.to_yaml())
        begun = time.perf_counter()
        with one_process(run):
            fit(task, fabric, run, report)
        state = {"classes": train.classes, "canvas": recipe.detect.canvas}
        save_tensors(run.model, objective.state_dict(), {**state, "recipe": recipe.name})
        if not dry_run:
            result = scored(objective, test, recipe, fabric)
            result |= {"seconds": time.perf_counter() - begun, "left_out": test.left_out}
            write_json(run.path / "result.json", result)
    return run


def open_scenes(recipe: Recipe, part: ScenesSettings) -> Coco:
    """Read the scenes of a part."""
    root, most = recipe.detect.root, recipe.detect.max_bad
    keypoints = None if part.keypoints is None else root / part.keypoints
    coco = read_coco(root / part.annotations, root / part.images, keypoints)
    count = total(coco.left_out)
    if count > most:
        raise ValueError(
            f"{root / part.annotations}: {count} images or objects were left out, detect.max_bad "
            f"allows {most}: {reasons(coco.left_out, coco.named)}"
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
        draw(scene, Jitter((1.0, 1.0)), 1)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def build(recipe: Recipe, classes: int) -> tuple[Detect, str]:
    """Build the detector on a new or a pretrained encoder; say which."""
    settings, side = recipe.encoder, recipe.detect.canvas
    if len(settings.patch) != 2:
        raise ValueError(
            f"detection is of images; encoder.patch is {settings.patch}, so give two sides"
        )
    torch.manual_seed(recipe.seed)
    encoder = ViT(
        (side, side),
        settings.patch,
        3,
        settings.dim,
        settings.depth,
        settings.heads,
        position="learned",
        drop_path=settings.drop_path,
    )
    taken, where = "a new encoder", recipe.detect.weights
    if where is not None:
        taken = start_encoder(where, encoder, positions=recipe.detect.keep_positions)
    model = recipe.detect.model.model_copy(update={"classes": classes})
    return Detect(encoder, model), taken


def scored(objective: Detect, scenes: Coco, recipe: Recipe, fabric: Fabric) -> dict[str, Any]:
    """Detect on scenes and score boxes and masks."""
    source = SceneSource(scenes, recipe.detect.canvas, threads=cores())
    prepare = Normalise(recipe.data.normalise)
    objective.to(fabric.device).eval()
    found: list[dict[str, Any]] = []
    for start in range(0, len(source), recipe.detect.batch):
        items = np.arange(start, min(start + recipe.detect.batch, len(source)))
        values = prepare(source.__getitems__(items).values.to(fabric.device))
        with fabric.autocast():
            answers = objective.predict(values)
        for item, answer in zip(items.tolist(), answers, strict=True):
            found += on_scene(source, item, answer)
    scores = score_detections(scenes.to_json(), found)
    return {**scores, "n_images": len(source), "n_detections": len(found)}


def on_scene(source: SceneSource, item: int, answer: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Take what was detected on a canvas back to its scene, in COCO's form."""
    scene, ids = source.coco.scenes[item], list(source.coco.classes)
    scale = torch.tensor(source.lie(item).scale * 2, device=answer["boxes"].device)
    boxes = (answer["boxes"] / scale).cpu()
    limits = torch.tensor([scene.width, scene.height] * 2)
    boxes = boxes.clamp(min=torch.zeros(4), max=limits)
    sides = (round(scene.height * scale[1].item()), round(scene.width * scale[0].item()))
    detections = []
    for number, box in enumerate(boxes.tolist()):
        covered = answer["masks"][number : number + 1, :, : sides[0], : sides[1]]
        whole = torch.nn.functional.interpolate(
            covered, (scene.height, scene.width), mode="bilinear", align_corners=False
        )
        outline = encode((whole[0, 0] >= SURE).cpu().numpy().astype(np.uint8))
        detections.append(
            {
                "image_id": scene.number,
                "category_id": ids[int(answer["labels"][number]) - 1],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "score": float(answer["scores"][number]),
                "segmentation": outline,
            }
        )
    return detections
