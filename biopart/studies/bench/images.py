"""Benchmark: images from a store and from files, and a step on them."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image

from biopart.data import ImageSource, Sampler, open_cohort
from biopart.data.images import ResidentImages
from biopart.experiment.stored import build_objective
from biopart.images.folders import SHARE, FolderPart, find_folders
from biopart.nn import ViT
from biopart.objectives import Part
from biopart.recipe import MaeSettings, PartSettings
from biopart.store import Images, create_store, write_record
from biopart.store.image_card import ImageCard
from biopart.studies.bench.objectives import bare_step, inputs_of, random_batch, step
from biopart.studies.bench.turns import in_turns, limited

Say = Callable[[str], None]
BATCH = 256


def bench_images(
    repeats: int,
    say: Say = lambda line: None,
    *,
    images: int = 20_000,
    files: Sequence[tuple[int, int]] = ((32, 2048), (224, 256)),
    encoder: ViT | None = None,
    grids: int = 8,
) -> dict[str, Any]:
    """Measure reading images from a store, decoding files, and a PART step.

    Parameters
    ----------
    repeats : int
        Turns that count.
    say : callable
        Gets a line before each measurement.
    images : int
        Images of 32 x 32 in the store, of random values.
    files : sequence of (side, count)
        JPEG files that are decoded, of smooth random colours.
    encoder : ViT, optional
        Of the step; ViT-S/16 at 224 by default.
    grids : int
        Images in a step.

    Returns
    -------
    dict
        ``store``, ``decoding`` by side and processes, ``step``.
    """
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "repeats": repeats}
    with tempfile.TemporaryDirectory(prefix="biopart-bench-") as name:
        say(f"reading shuffled batches of {images} images of 32 x 32 from a store")
        result["store"] = bench_store(Path(name) / "store.zarr", images, repeats)
        result["decoding"] = {}
        for side, count in files:
            say(f"decoding {count} JPEG files of {side} x {side}, beside PIL alone")
            part = jpegs(Path(name) / str(side), side, count)
            for jobs in (1, 2):
                found = bench_decoding(part, jobs, repeats)
                result["decoding"][f"{side}px_{jobs}_processes"] = found
    if encoder is None:
        encoder = ViT((224, 224), (16, 16), 3, 384, 12, 6, position="sincos")
    say(f"a PART step beside its encoder and MAE's, {encoder.shape}, {grids} images")
    result["step"] = bench_image_step(encoder, grids, repeats)
    return result


def bench_store(path: Path, count: int, repeats: int) -> dict[str, Any]:
    """Time an epoch of shuffled batches, mapped and held in memory."""
    rng = np.random.default_rng(0)
    card = ImageCard(
        name="random", title="random", licence="", citation="", images="folders", size=(32, 32)
    )
    create_store(path, card.store_attributes(["none"]))
    pixels = rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
    names = tuple(f"random/{number:06d}" for number in range(count))
    write_record(path, "train", Images(pixels, np.zeros(count, np.int16), names, {"part": "train"}))
    source = open_cohort(path).source()
    assert isinstance(source, ImageSource)
    resident = ResidentImages(source, "cpu")

    def epoch(images: ImageSource | ResidentImages) -> None:
        for items in Sampler(count, BATCH, 0).batches(0):
            images.__getitems__(items)

    timing = in_turns(
        {"mapped": partial(epoch, source), "resident": partial(epoch, resident)}, repeats
    )
    seconds = timing.medians()
    figures = {
        "images": count,
        "resident_images_per_second": count / seconds["resident_s"],
        "images_per_second": count / seconds["mapped_s"],
        "images_per_cpu_second": count / seconds["mapped_cpu_s"],
    }
    return limited(figures, "images_per_second", at_least=20_000)


def jpegs(folder: Path, side: int, count: int) -> FolderPart:
    """Write JPEG files of smooth random colours into a folder of one class."""
    rng = np.random.default_rng(side)
    place = folder / "train" / "one"
    place.mkdir(parents=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.save(place / f"{number:05d}.jpg", quality=90)
    card = ImageCard(
        name="jpegs",
        title="jpegs",
        licence="",
        citation="",
        images="folders",
        size=(side, side),
        parts={"train": "train"},
    )
    part = find_folders(card, folder).parts["train"]
    assert isinstance(part, FolderPart)
    return part


def bench_decoding(part: FolderPart, jobs: int, repeats: int) -> dict[str, Any]:
    """Time our reader in turns with PIL's decoding alone, in as many processes."""
    count = len(part.names)
    paths = [part.root / name for name in part.names]
    shares = [paths[start : start + SHARE] for start in range(0, count, SHARE)]

    def alone() -> None:
        Parallel(n_jobs=jobs)(delayed(decoded)(share) for share in shares)

    timing = in_turns({"ours": lambda: part.read(0, count, jobs), "pil": alone}, repeats)
    seconds = timing.medians()
    figures = {
        "images_per_second": count / seconds["ours_s"],
        "pil_images_per_second": count / seconds["pil_s"],
        "ratio": timing.ratio("pil", "ours"),
    }
    return limited(figures, "ratio", at_least=0.9)


def decoded(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Decode images by PIL and do nothing else."""
    pixels = []
    for path in paths:
        with Image.open(path) as image:
            pixels.append(np.asarray(image.convert("RGB")))
    return pixels


def bench_image_step(encoder: ViT, grids: int, repeats: int) -> dict[str, Any]:
    """Time a PART step in turns with its bare encoder and with MAE's published decoder.

    As many patches off the grid as the grid has, four pairs of each; MAE with its decoder of
    512 x 8 on a quarter of them.
    """
    count = encoder.n_patches
    part = Part(encoder, PartSettings(patches=count, pairs=4 * count))
    mae = build_objective(encoder, MaeSettings())
    batch = random_batch(encoder, grids)
    inputs, options = inputs_of(part, encoder, batch)
    timing = in_turns(
        {
            "part": partial(step, part, batch),
            "encoder": partial(bare_step, encoder, inputs, options),
            "mae": partial(step, mae, batch),
        },
        repeats,
    )
    ratios = {
        "ratio": timing.ratio("part", "encoder"),
        "cpu_ratio": timing.cpu_ratio("part", "encoder"),
    }
    to_mae = {"ratio_to_mae": timing.ratio("part", "mae")}
    return {
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        "images": grids,
        "patches": count,
        **timing.medians(),
        "to_encoder": limited(ratios, "ratio", at_most=1.3),
        "to_mae": limited(to_mae, "ratio_to_mae", at_most=1.0),
    }
