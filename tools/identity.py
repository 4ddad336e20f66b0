"""Show that a refactor changes no result: run every kind of training and hash what it leaves.

    python tools/identity.py before.json            in a checkout of the state before
    python tools/identity.py after.json --against before.json

Everything goes through the command line and the files of a run, which outlive a refactor. Tensors
are compared by their names and bytes, figures by their values; times, dates, versions and paths
are left out. Takes a few minutes on one core; nights are simulated and images drawn.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from PIL import Image
from safetensors import safe_open

from biopart.cli import main

COMPUTE = "compute: {device: cpu, precision: float32, threads: 1}"
SIGNALS = f"""
name: identity
data: {{card: physionet2018, store: nights.zarr, channels: [F3-M2, C4-M1]}}
split: {{test_persons: 2, validation_persons: 1}}
encoder: {{patch: [100], dim: 32, depth: 2, heads: 2}}
pretrain:
  objective: {{name: part, patches: 12, pairs: 24, position_hint: 0.5}}
  steps: 12
  batch: 16
  warmup_epochs: 0.5
  validation_windows: 32
finetune: {{subjects: 2, epochs: 2, batch: 16, warmup_epochs: 0, layer_decay: 0.8, ema: 0.9,
  sequence: {{epochs: 1, batch: 8}}}}
{COMPUTE}
"""
IMAGES = f"""
name: identity-images
data: {{card: cifar10_folders, store: images.zarr, normalise: imagenet}}
split: {{test_part: test, validation_persons: 12}}
encoder: {{patch: [8, 8], dim: 32, depth: 2, heads: 2, drop_path: 0.1}}
pretrain:
  objective: {{name: part, patches: 12, pairs: 24, scale: [0.5, 2.0]}}
  augment: {{crop: [0.5, 1.0], flip: 0.5}}
  steps: 6
  batch: 16
  validation_windows: 12
finetune: {{subjects: 6, steps: 6, batch: 8, warmup_epochs: 0, pool: mean,
  augment: {{flip: 0.5, mixup: 0.8, cutmix: 1.0, smoothing: 0.1, erase: 0.25}}}}
{COMPUTE}
"""
SCENES = f"""
name: identity-scenes
data: {{normalise: imagenet}}
encoder: {{patch: [16, 16], dim: 32, depth: 2, heads: 2}}
detect:
  root: scenes
  train: {{annotations: all.json, images: images}}
  test: {{annotations: all.json, images: images}}
  canvas: 64
  steps: 3
  batch: 2
  warmup_epochs: 0
  jitter: [0.8, 1.2]
  model: {{window: 2, channels: 16, box_dim: 32, proposals: 16}}
{COMPUTE}
"""
SCORES = ("kappa", "kappa_mean", "kappa_ci95", "accuracy", "macro_f1", "confusion", "temperature")


def call(*arguments: str) -> None:
    """Run a command of biopart in this process."""
    print(" ".join(arguments), file=sys.stderr, flush=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main([*arguments, "--json", "--quiet"], standalone_mode=False)
    except click.ClickException as error:
        raise SystemExit(f"{' '.join(arguments)}: {error.format_message()}") from error


def tensors(path: Path) -> str:
    """Return a hash of the names and bytes of a file's tensors."""
    digest = hashlib.sha256()
    with safe_open(path, framework="np") as file:
        for name in sorted(file.keys()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(file.get_tensor(name)).tobytes())
    return digest.hexdigest()


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without speeds."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key != "windows_per_second"}
        for line in lines
    ]


def kept(result: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of a result."""
    return {key: result[key] for key in SCORES if key in result}


def told(path: Path) -> dict[str, Any]:
    """Return everything that a folder of results holds and that must not change."""
    found: dict[str, Any] = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = re.sub(r"-[0-9a-f]{6}/", "/", str(file.relative_to(path)))  # a mark of settings
        if file.suffix == ".safetensors":
            found[name] = tensors(file)
        elif file.name == "metrics.jsonl":
            found[name] = rows(file)
        elif file.name == "result.json":
            found[name] = kept(json.loads(file.read_text(encoding="utf-8")))
        elif file.parent.name == "probe":
            values = json.loads(file.read_text(encoding="utf-8"))
            found[name] = {feature: kept(scores) for feature, scores in values.items()}
        elif file.name in ("hypnogram.csv", "quality.csv"):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name in ("curve.csv", "sweep.csv"):
            with file.open(newline="", encoding="utf-8") as text:
                table = list(csv.DictReader(text))
            found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in table]
    return found


def draw_images(folder: Path) -> None:
    """Draw small images of three classes, and scenes with one square each."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 24)):
        for number in range(count):
            name = ("dark", "bright", "striped")[number % 3]
            pixels = rng.integers(0, 90, (32, 32, 3))
            pixels = pixels + {"dark": 0, "bright": 120, "striped": 0}[name]
            if name == "striped":
                pixels[::4] += 120
            path = folder / "raw_images" / part / name / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    images, objects = [], []
    (folder / "scenes" / "images").mkdir(parents=True)
    for number in range(4):
        pixels = rng.integers(0, 60, (48, 60, 3)).astype(np.uint8)
        left, top = (int(n) for n in rng.integers(2, 20, 2))
        pixels[top : top + 20, left : left + 24] = 220
        Image.fromarray(pixels).save(folder / "scenes" / "images" / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "height": 48, "width": 60})
        corners = [left, top, left + 24, top, left + 24, top + 20, left, top + 20]
        objects.append(
            {"id": number + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0}
            | {"bbox": [left, top, 24, 20], "area": 480, "segmentation": [corners]}
        )
    scenes = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "square"}]}
    (folder / "scenes" / "all.json").write_text(json.dumps(scenes), encoding="utf-8")


def run_all(folder: Path) -> dict[str, Any]:
    """Run every kind of training in a folder, and return what it left."""
    os.chdir(folder)
    for name, text in (("signals", SIGNALS), ("images", IMAGES), ("scenes", SCENES)):
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    draw_images(folder)
    call("simulate", "raw", "--persons", "7", "--hours", "0.25")
    call("prepare", "physionet2018", "--raw", "raw", "--out", "nights.zarr")
    call("prepare", "cifar10_folders", "--raw", "raw_images", "--out", "images.zarr")
    for name in ("part", "mae", "mp3", "droppos"):
        objective = f"pretrain.objective={{name: {name}}}"
        if name in ("mae", "droppos"):
            sizes = "decoder_dim: 16, decoder_depth: 1, decoder_heads: 2"
            objective = f"pretrain.objective={{name: {name}, {sizes}}}"
        for kind in ("signals", "images"):
            change = () if name == "part" else ("--set", objective)
            call("pretrain", f"{kind}.yaml", "--out", f"{kind}-{name}", *change)
    call("finetune", "--run", "signals-part")
    call("finetune", "--run", "signals-part", "--context", "3")
    call("finetune", "--run", "signals-mae", "--set", "finetune.keep_positions=true")
    call("finetune", "--run", "images-part", "--set", "finetune.class_weights=true")
    call("finetune", "--run", "signals-part", "--from-scratch")
    call("probe", "--run", "signals-part")
    call("probe", "--run", "images-mae")
    persons = ("--persons", ",".join(json.loads(read("signals-mae/provenance.json"))["test"]))
    call("evaluate", "--run", "signals-mae", "--store", "nights.zarr", *persons)
    raw = str(sorted(Path("raw").rglob("*.hea"))[-1])
    for name, tuned in (("part", "signals-part/finetune/s2-seed0"), ("mae", "signals-mae")):
        options = ("--quality",) if name == "part" else ()
        call("stage", raw, "--run", tuned, "--out", f"staged-{name}", *options)
    call(
        "stage", raw, "--run", "signals-part/finetune/s2-seed0-context3", "--out", "staged-context"
    )
    for run in ("signals-part", "images-mae"):
        call("export", run, "--to", "safetensors", "--out", f"exported/{run}")
    call("embed", "nights.zarr", "--run", "signals-part", "--out", "embedded.parquet")
    call("detect", "scenes.yaml", "--out", "detected")
    few = ("--repeats", "1", "--set", "pretrain.steps=3", "--set", "finetune.steps=3")
    call("curve", "signals.yaml", "--sizes", "1,2", "--out", "curve", *few)
    over = ("--over", "pretrain.objective.pairs=12,24", "--out", "sweep")
    call("sweep", "signals.yaml", *over, *few)
    call("show", "signals-part", "--items", "2", "--out", "shown")
    found = told(folder)
    table = pd.read_parquet("embedded.parquet")
    found["embedded.parquet"] = hashlib.sha256(table.to_numpy(str).tobytes()).hexdigest()
    return found


def read(path: str) -> str:
    """Read a text of the folder."""
    return Path(path).read_text(encoding="utf-8")


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Return the places where two trees of values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in dict.fromkeys([*before, *after]):
            lines += differences(before.get(key), after.get(key), f"{where}/{key}")
        return lines
    return [] if before == after else [f"{where}: {str(before)[:100]} -> {str(after)[:100]}"]


def cli() -> None:
    """Read the arguments, run, write and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="JSON file of the state before")
    given = parser.parse_args()
    out, against = given.out.resolve(), given.against and given.against.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        found = run_all(Path(folder))
    out.write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
    if against is not None:
        lines = differences(json.loads(against.read_text(encoding="utf-8")), found)
        print("\n".join(lines) or f"identical: {len(found)} results")
        sys.exit(bool(lines))


if __name__ == "__main__":
    cli()
