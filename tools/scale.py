"""Measure how memory and time grow with the number of nights, or of images.

python tools/scale.py nights 10 100 1000     peak memory of a pretraining, mapped and over HTTP
python tools/scale.py images 1300000         seconds and megabytes of opening, dividing, sampling

Nights are one simulated night under many names, its files shared by links; images are of 2 x 2
pixels, so that what is measured is names and numbers.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

HOURS = 2.0
CHANNELS = ["F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1"]
RECIPE = {
    "name": "scale",
    "data": {"channels": CHANNELS},
    "split": {"test_persons": 1, "validation_persons": 1},
    "encoder": {"patch": [100], "dim": 64, "depth": 2, "heads": 4},
    "pretrain": {"objective": {"name": "part"}, "steps": 100, "batch": 64},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}


def one_night(folder: Path) -> Path:
    """Simulate and prepare a night; return the folder of its record."""
    run = partial(subprocess.run, check=True, capture_output=True)
    command = [sys.executable, "-m", "biopart"]
    raw, store = str(folder / "raw"), str(folder / "one.zarr")
    run([*command, "simulate", raw, "--persons", "1", "--hours", str(HOURS)])
    run([*command, "prepare", "physionet2018", "--raw", raw, "--out", store])
    (record,) = (path.parent for path in (folder / "one.zarr").glob("*/zarr.json"))
    return record


def many_nights(record: Path, store: Path, count: int, *, distinct: bool) -> None:
    """Make a store of one record under many names, with a person each.

    ``distinct`` gives each another hash, so that a cache takes them for different arrays; a local
    store is verified by it.
    """
    from biopart.store import finish_store

    store.mkdir()
    attributes = json.loads((record.parent / "zarr.json").read_text())
    attributes.pop("consolidated_metadata", None)
    (store / "zarr.json").write_text(json.dumps(attributes))
    about = json.loads((record / "zarr.json").read_text())
    for number in range(count):
        own = dict(about["attributes"]) | {"person": f"p{number:05d}"}
        own |= {"source_sha256": f"{number:08x}" * 8}
        del own["signal_sha256"]  # equal ones of two persons are refused
        if distinct:
            own["sha256"] = f"{number:064x}"
        folder = store / f"night{number:05d}"
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(about | {"attributes": own}))
        for array in record.iterdir():
            if array.is_dir():
                (folder / array.name).symlink_to(array)
    finish_store(store)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; give its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def pretraining(store: str, folder: Path, cache_gb: float) -> dict[str, float]:
    """Pretrain 100 steps in a process of its own; return its peak memory and time."""
    folder.mkdir()
    values = RECIPE | {"data": {**RECIPE["data"], "store": store}}  # type: ignore[dict-item]
    (folder / "recipe.yaml").write_text(json.dumps(values))
    environment = {
        **os.environ,
        "BIOPART_CACHE": str(folder / "cache"),
        "BIOPART_CACHE_GB": str(cache_gb),
        "XDG_CACHE_HOME": str(folder / "home"),
    }
    command = [sys.executable, "-m", "biopart", "pretrain", "recipe.yaml", "--out", "run"]
    begun = time.perf_counter()
    child = subprocess.Popen(
        [*command, "--quiet"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    peak = {"RssAnon": 0, "RssFile": 0}
    while child.poll() is None:
        with open(f"/proc/{child.pid}/status", encoding="ascii") as status:  # noqa: PTH123
            for line in status:
                key, _, value = line.partition(":")
                if key in peak:
                    peak[key] = max(peak[key], int(value.split()[0]))
        time.sleep(0.05)
    if child.returncode:
        raise SystemExit(f"the pretraining on {store} failed")
    cached = sum(path.stat().st_size for path in (folder / "cache").rglob("*.raw"))
    return {
        "anonymous MB": peak["RssAnon"] / 1000,
        "mapped MB": peak["RssFile"] / 1000,
        "cache MB": cached / 1e6,
        "seconds": time.perf_counter() - begun,
    }


def nights(counts: list[int]) -> None:
    """Print the peak memory of a pretraining on so many nights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = one_night(folder)
        size = sum(path.stat().st_size for path in record.rglob("*") if path.is_file())
        print(f"a night has {size / 1e6:.1f} MB")
        for count in counts:
            for kind in ("mapped", "over HTTP"):
                store = folder / f"{kind.split()[0]}{count}.zarr"
                many_nights(record, store, count, distinct=kind != "mapped")
                work = folder / f"work-{kind.split()[0]}-{count}"
                if kind == "mapped":
                    row = pretraining(str(store), work, 1.0)
                else:
                    with served(folder) as address:
                        row = pretraining(f"{address}/{store.name}", work, 0.2)
                print(count, kind, {key: round(value, 1) for key, value in row.items()}, flush=True)


def images(count: int) -> None:
    """Print seconds and memory of what is done with the names of so many images."""
    from biopart.data import Sampler, open_cohort
    from biopart.experiment import open_experiment
    from biopart.recipe import Recipe
    from biopart.store import Images, create_store, finish_store, write_record

    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "images.zarr"
        about = {"card": {"name": "scale"}, "axes": ["channel", "y", "x"], "shape": [2, 2]}
        labels = [f"class{number:04d}" for number in range(1000)]
        create_store(store, {**about, "label_names": labels, "channels": ["grey"]})
        for number, first in enumerate(range(0, count, 10_000)):
            own = np.arange(first, min(first + 10_000, count))
            names = tuple(
                f"train/n{item % 1000:08d}/n{item % 1000:08d}_{item}.JPEG" for item in own
            )
            pixels = np.zeros((len(own), 1, 2, 2), np.uint8)
            label = (own % 1000).astype(np.int16)
            pack = Images(pixels, label, names, {"part": "train" if number else "test"})
            write_record(store, f"pack-{number:05d}", pack)
        finish_store(store)
        recipe = Recipe.model_validate(
            {"name": "scale", "data": {"store": str(store)}, "encoder": {"patch": [1, 1]}}
            | {"split": {"test_part": "test", "validation_persons": 1000}}
        )
        cohort = timed("open the store, names of all images", lambda: open_names(store))
        del cohort
        experiment = timed("open and divide", lambda: open_experiment(recipe))
        source = timed("source of the images of pretraining", lambda: training_source(experiment))
        sampler = Sampler(len(source), 1024, 0)
        timed("order of an epoch", lambda: sum(len(items) for items in sampler.batches(0)))
        items = next(sampler.batches(0))
        timed("100 batches of 1,024", lambda: [source.__getitems__(items) for _ in range(100)])
        seen = timed("seen", lambda: experiment.seen(experiment.split.pretrain))
        header = timed("header of the weights", lambda: experiment.about(seen).to_json())
        print(f"{'':40} {len(json.dumps(header)) / 1e6:8.2f} MB of header")
        timed("subset of 10 images per class", lambda: experiment.split.subset(10, 0))
        open_cohort(store)


def open_names(store: Path) -> Any:
    """Open a store with the names of its images."""
    from biopart.data import open_cohort

    cohort = open_cohort(store)
    return cohort if cohort.people else None


def training_source(experiment: Any) -> Any:
    """Return the images of pretraining."""
    return experiment.source(experiment.split.pretrain)


def timed(what: str, do: Callable[[], Any]) -> Any:
    """Print the seconds that something took, and the peak memory so far."""
    begun = time.process_time()
    result = do()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{what:40} {time.process_time() - begun:8.2f} s {peak:8.0f} MB at most", flush=True)
    return result


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["nights", "images"])
    parser.add_argument("counts", type=int, nargs="+")
    given = parser.parse_args()
    if given.what == "nights":
        nights(given.counts)
        return
    for count in given.counts:
        images(count)


if __name__ == "__main__":
    main()
