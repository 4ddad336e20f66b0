"""Simulated nights and drawn images to try biopart on, made once per folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biopart.images import ingest_images
from biopart.recipe import Recipe, load_recipe
from biopart.run import Run
from biopart.signals.simulate import simulate_cohort
from biopart.store.image_card import load_image_card
from biopart.studies.demo.demo import finetuned, prepare, pretrained, simulate

WORK = Path("work")
CLASSES = ("disc", "square", "stripes")


def simulated_store(folder: Path = WORK) -> Path:
    """Simulate ten persons' nights of half an hour and prepare them; return the store."""
    raw, store = folder / "simulated", folder / "simulated.zarr"
    simulate(raw, 10, 0.5, lambda line: None)
    return prepare(raw, store)[0]


def simulated_recipe(folder: Path = WORK, steps: int = 300, changes: Sequence[str] = ()) -> Recipe:
    """Return the recipe of ``biopart demo`` for that store: smaller, with windows of 6 s."""
    return load_recipe(
        "demo",
        (
            f"data.store={simulated_store(folder)}",
            "data.window_s=6",
            "split.test_persons=4",
            "split.validation_persons=2",
            "encoder.patch=[100]",
            "pretrain.objective.position_hint=0.25",
            "pretrain.objective.patches=24",
            f"pretrain.steps={steps}",
            "pretrain.batch=64",
            "pretrain.lr=2e-3",
            "pretrain.validate_every=5",
            "finetune.epochs=30",
            "finetune.lr=1e-3",
            "finetune.layer_decay=0.75",
            "finetune.validate_every=1",
            "finetune.position=learned",
            "finetune.pool=cls",
            "compute.precision=auto",
            *changes,
        ),
    )


def simulated_run(folder: Path = WORK) -> Run:
    """Pretrain and fine-tune on that store, or reuse existing trainings; return the fine-tuning."""
    run, _ = pretrained(simulated_recipe(folder), folder / "run", lambda line: None)
    return finetuned(run, 4, "part", changes=())[0]


def simulated_night(folder: Path = WORK) -> Path:
    """Simulate the night of one more person, of two hours, as EDF with an expert's hypnogram."""
    path, *_ = simulate_cohort(folder / "new", persons=1, hours=2.0, seed=1, kind="edf")
    return path


def drawn_images(folder: Path = WORK) -> Path:
    """Draw small images of three shapes, 120 to train on and 60 to test, and prepare them."""
    raw, store = folder / "drawn", folder / "drawn.zarr"
    for part, count in (("train", 120), ("test", 60)):
        rng = np.random.default_rng(count)
        for number in range(count):
            name = CLASSES[number % len(CLASSES)]
            path = raw / part / name / f"{number:03d}.png"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(drawn_image(name, rng)).save(path)
    ingest_images(load_image_card("cifar10_folders", ()), raw, store)
    return store


def drawn_image(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image (32, 32, 3) of a shape in two colours.

    Examples
    --------
    >>> image = drawn_image("disc", np.random.default_rng(0))
    >>> image.shape, len(np.unique(image.reshape(-1, 3), axis=0))
    ((32, 32, 3), 2)
    """
    y, x = np.mgrid[:32, :32] - rng.uniform(11, 21, (2, 1, 1))
    radius = rng.uniform(5, 9)
    shapes = {
        "disc": np.hypot(y, x) < radius,
        "square": np.maximum(np.abs(y), np.abs(x)) < radius,
        "stripes": (x + y) % radius < radius / 2,
    }
    paper, ink = rng.integers(0, 100, 3), rng.integers(156, 256, 3)
    return np.where(shapes[name][..., None], ink, paper).astype(np.uint8)
