"""The folder of one run: settings, provenance, metrics, checkpoint, weights, fine-tunings."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from biopart.files import held, plain, read_json, read_text, write_text

LATEST = Path("runs") / "latest"
LIBRARIES = ("biopart", "torch", "timm", "numpy", "scipy", "zarr", "lightning-fabric")


class Run:
    """A run folder, or a fine-tuning inside one.

    Parameters
    ----------
    path : Path
        The folder; ``runs/latest`` names the newest one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """All that a resume needs, in one file."""
        return self.path / "last" / "checkpoint.safetensors"

    @property
    def encoder(self) -> Path:
        """Weights of the pretrained encoder."""
        return self.path / "encoder.safetensors"

    @property
    def model(self) -> Path:
        """Weights of a fine-tuned model."""
        return self.path / "model.safetensors"

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(row)) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl; a line cut short by a crash ends it."""
        rows: list[dict[str, Any]] = []
        path = self.path / "metrics.jsonl"
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return rows

    def cut_back(self, step: int) -> None:
        """Drop what was logged after a step, before going on from its checkpoint."""
        rows = [json.dumps(row) for row in self.metrics() if row["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(row + "\n" for row in rows))

    def provenance(self) -> dict[str, Any]:
        """Read provenance.json."""
        return read_json(self.path / "provenance.json")

    @property
    def kind(self) -> str:
        """What a run is: a pretraining, or what its provenance says: detection, segmentation."""
        if not (self.path / "provenance.json").is_file():
            return "pretraining"
        return str(self.provenance().get("kind", "pretraining"))

    def result(self) -> dict[str, Any]:
        """Read result.json of a fine-tuning."""
        return read_json(self.path / "result.json")

    def finetunings(self) -> list["Run"]:
        """Return finished fine-tunings, oldest first."""
        found = self.path.glob("finetune/*/result.json")
        return [Run(path.parent) for path in sorted(found, key=lambda path: path.stat().st_mtime)]

    def require(self, kind: str) -> None:
        """Refuse a run of another kind; ValueError."""
        if self.kind != kind:
            raise ValueError(f"{self.path} is a {self.kind} run; a {kind} run is needed")

    def pretrained_weights(self, remedy: str = "") -> Path:
        """Return the weights of this pretraining's encoder.

        Raises ValueError where it is a run of another kind, FileNotFoundError where the pretraining
        has not ended.
        """
        self.require("pretraining")
        if not self.encoder.is_file():
            raise FileNotFoundError(
                f"{self.path} has no weights yet; finish it with: biopart pretrain --resume --out "
                f"{self.path}{remedy}"
            )
        return self.encoder

    def finetuned(self) -> "Run":
        """Return this folder if it is a fine-tuning, else its newest one.

        Raises FileNotFoundError where there is none, naming the command that makes one.
        """
        if self.model.is_file():
            return self
        found = self.finetunings()
        if not found:
            self.pretrained()  # first of all it must be a run
            raise FileNotFoundError(
                f"{self.path} has no fine-tuned weights; make some with: biopart finetune --run "
                f"{self.path}"
            )
        return found[-1]

    def pretrained(self) -> "Run":
        """Return the run that this folder belongs to; FileNotFoundError without a recipe."""
        here = self.path.resolve()
        for path, folder in ((self.path, here), *((p, p) for p in here.parents[:2])):
            if (folder / "recipe.yaml").is_file():
                return Run(path)
        raise FileNotFoundError(
            f"{self.path} is not a run (no recipe.yaml); make one with: biopart pretrain RECIPE"
        )


def new_run(name: str, out: Path | None = None, *, latest: bool = True) -> Run:
    """Make the folder of a new run, ``out`` or ``runs/<name>/<time>``; runs/latest may name it.

    Raises FileExistsError where ``out`` already holds a run or other files.
    """
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    path = out if out is not None else Path("runs") / name / moment
    if (path / "recipe.yaml").exists():
        raise FileExistsError(
            f"{path} already contains a run; continue it with --resume or give another --out"
        )
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} contains other files; give a new folder as --out")
    path.mkdir(parents=True, exist_ok=True)
    if latest:
        write_text(LATEST, os.path.relpath(path.resolve(), LATEST.parent.resolve()))
    return Run(path)


@contextmanager
def one_process(run: Run) -> Iterator[None]:
    """Keep a run's folder to one process, which others could overwrite each other's files in.

    Raises ValueError while another one lives.
    """
    busy = f"another process is working in {run.path}; wait until it is done, or stop it"
    with held(run.path / ".lock", busy):
        yield


def find_run(path: Path | None) -> Run:
    """Return the run of a folder, of a file ``latest`` that names one, or the newest one.

    Raises FileNotFoundError where there is none.
    """
    if path is None:
        path = LATEST
        if not path.is_file():
            raise FileNotFoundError("no run yet; make one with: biopart pretrain RECIPE")
    path = follow_latest(Path(path).expanduser())
    if not path.is_dir():
        if path.parent.name == "finetune" and is_run(path.parents[1]):
            run = Run(path.parents[1])
            names = ", ".join(tuned.path.name for tuned in run.finetunings())
            raise FileNotFoundError(
                f"{run.path} has no fine-tuning {path.name}; it has {names or 'none'}"
            )
        raise FileNotFoundError(f"no run at {path}; make one with: biopart pretrain RECIPE")
    return Run(path)


def follow_latest(path: Path) -> Path:
    """Replace a file ``latest`` in a path, ``runs/latest/finetune/NAME``, by the folder it names.

    Any other path is returned unchanged.
    """
    for file in (path, *path.parents):
        if file.name == LATEST.name and file.is_file():
            named = Path(read_text(file).strip())  # relative, so that a moved folder keeps it
            inside = file.parent / named
            folder = (inside if inside.is_dir() or not named.is_dir() else named).resolve()
            return folder / path.relative_to(file)
    return path


def as_run(run: Run | Path | str) -> Run:
    """Return a run given as itself or by its folder."""
    return run if isinstance(run, Run) else find_run(Path(run))


def origins() -> dict[str, Any]:
    """Return versions, commit, machine and time, for provenance.json."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in LIBRARIES},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that biopart runs from, if it is one."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def is_run(path: Path) -> bool:
    """Tell whether a folder is a run, or a fine-tuning inside one."""
    folders = (path.resolve(), *path.resolve().parents[:2])
    return path.is_dir() and any((folder / "recipe.yaml").is_file() for folder in folders)
