"""Read the runs of a report: pretrainings, baselines and their scores."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from biopart.files import flat, read_json
from biopart.run import Run
from biopart.settings import read_yaml

OF_THE_MACHINE = ("compute.", "seed")

Values = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One scoring on test persons: a fine-tuning, finished or not, a probe, or an evaluation.

    Attributes
    ----------
    name : str
        Name of its folder, or of its file and feature.
    result : mapping
        As result.json; empty where it is not finished.
    rows : sequence of mapping
        Its metrics.jsonl.
    provenance : mapping
        Its own provenance.json, flat; empty where there is none.
    deviates : sequence of str
        Settings and origins in which it differs from its run.
    """

    name: str
    result: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    deviates: Sequence[str] = ()

    @property
    def state(self) -> str:
        """Its progress."""
        return "finished" if self.result else f"unfinished: {reached(self.rows)}"

    @property
    def subjects(self) -> int | None:
        """Number of labelled persons that it was trained on, where known."""
        persons = self.result.get("train_persons")
        count: int | None = self.result.get("n_train_persons", persons and len(persons))
        return self._named("s") if count is None else count

    @property
    def seed(self) -> int | None:
        """Seed of its subset, where known."""
        seed: int | None = self.result.get("seed")
        return self._named("seed") if seed is None else seed

    def _named(self, what: str) -> int | None:
        """Return a number in the name of a fine-tuning such as s3-seed0."""
        match = re.search(rf"\b{what}(\d+)\b", self.name)
        return int(match[1]) if match else None

    @property
    def notes(self) -> dict[str, bool]:
        """Notes for the reader, and whether each is a difference from the run."""
        return dict.fromkeys(self.result.get("warnings", ()), False) | dict.fromkeys(
            self.deviates, True
        )

    @property
    def tested_on(self) -> tuple[tuple[str, ...], str | None]:
        """The test persons, and the fingerprint or path of their store, if known."""
        persons = self.result.get("test_persons") or self.result.get("kappa_by_person", ())
        store = self.result.get("store") or self.provenance.get("store_sha256")
        return tuple(sorted(persons)), store


class Entry:
    """A run as a report shows it.

    Parameters
    ----------
    path : Path
        Its folder, as given.
    label : str
        The shortest end of the path that no other run shares.
    only : sequence of Path, optional
        The fine-tunings wanted; all, and probes, by default.
    """

    def __init__(self, path: Path, label: str, only: Sequence[Path] | None = None) -> None:
        self.path, self.label, self.only = path, label, only
        self.run = Run(path)
        self.settings = flat(read_yaml(path / "recipe.yaml"))
        self.rows = [row for row in self.run.metrics() if "step" in row]

    @cached_property
    def pretraining(self) -> Values:
        """Provenance of the pretraining, flat; empty for a supervised baseline."""
        return flat(json_of(self.path / "provenance.json"))

    @property
    def objective(self) -> str:
        """Name of the objective of the pretraining, or what else the run trained."""
        if not self.pretraining:
            return "none"
        if self.dense:
            return self.dense
        return str(self.settings.get("pretrain.objective.name", "unnamed"))

    @property
    def dense(self) -> str:
        """``detection`` or ``segmentation`` of a run that trained it; empty of other runs."""
        return str(self.pretraining.get("kind", ""))

    @cached_property
    def figures(self) -> dict[str, tuple[float, list[float] | None]]:
        """Scores of a detection or segmentation with their intervals, by name."""
        result = json_of(self.path / "result.json") if self.dense else {}
        scores = {
            name: (one["value"], one["ci95"]) for name, one in result.pop("scores", {}).items()
        }
        others = {
            name: (value, None)
            for name, value in flat(result).items()
            if isinstance(value, float) and name != "seconds"
        }
        return scores | others

    @property
    def provenance(self) -> Values:
        """Provenance of the pretraining, or else of the newest fine-tuning that has one."""
        own = [dict(trial.provenance) for trial in self.trials if trial.provenance]
        return self.pretraining or max(own, key=lambda facts: str(facts.get("time")), default={})

    @property
    def simulated(self) -> bool:
        """Whether it was trained on simulated recordings."""
        flags = [
            self.pretraining.get("simulated"),
            *(t.result.get("simulated") for t in self.trials),
        ]
        return any(flags)

    @property
    def step(self) -> int:
        """Finished steps of the pretraining, according to the log."""
        return max((int(row["step"]) for row in self.rows if "train/loss" in row), default=0)

    @property
    def steps(self) -> int | None:
        """Total steps of the pretraining."""
        steps: int | None = self.pretraining.get("steps")
        return steps

    @property
    def state(self) -> str:
        """Progress of the pretraining."""
        if not self.pretraining:
            return "no pretraining"
        if (self.run.model if self.dense else self.run.encoder).is_file():
            return "finished"
        if self.steps is not None and self.step >= self.steps:
            return "no weights"
        log = self.path / "metrics.jsonl"
        if not log.is_file():
            return "in training, or stopped before the first step"
        moment = datetime.fromtimestamp(log.stat().st_mtime, UTC)
        return f"in training, or stopped; last logged {moment:%Y-%m-%d %H:%M} UTC"

    @property
    def seconds(self) -> float | None:
        """Time of the pretraining, computed from the logged speed; None if none is logged."""
        total, before = 0.0, 0
        for row in self.rows:
            speed = row.get("windows_per_second")
            if speed:
                total += (row["step"] - before) * self.settings.get("pretrain.batch", 0) / speed
                before = row["step"]
        return total or None

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """What was scored: fine-tunings, their evaluations elsewhere, probes."""
        if self.only is not None:
            return tuple(trial for path in self.only for trial in self._tunings(path))
        folders = {file.parent for file in self.path.glob("finetune/*/finetune.yaml")}
        folders |= {file.parent for file in self.path.glob("finetune/*/result.json")}
        tunings = [t for path in sorted(folders, key=natural) for t in self._tunings(path)]
        return (*tunings, *self._probes())

    def _tunings(self, path: Path) -> Iterator[Trial]:
        """Yield a fine-tuning and its evaluations on other stores."""
        origin = flat(json_of(path / "provenance.json"))
        file = path / "finetune.yaml"
        settings = flat(read_yaml(file)) if file.is_file() else {}
        rows = [row for row in Run(path).metrics() if "step" in row]
        deviates = tuple(deviations(self.settings, settings, self.pretraining, origin))
        yield Trial(path.name, json_of(path / "result.json"), rows, origin, deviates)
        for result in sorted(path.glob("evaluation/*/result.json")):
            yield Trial(f"{path.name} on {result.parent.name}", json_of(result))

    def _probes(self) -> Iterator[Trial]:
        """Yield the scores of probes, one per kind of features."""
        has_store = "store_sha256" in self.pretraining
        origin = {"store_sha256": self.pretraining["store_sha256"]} if has_store else {}
        for file in sorted(self.path.glob("probe/*.json"), key=natural):
            for feature, result in json_of(file).items():
                yield Trial(f"probe {file.stem}, {feature}", result, provenance=origin)


def deviations(
    settings: Mapping[str, Any],
    own: Mapping[str, Any],
    origin: Mapping[str, Any],
    own_origin: Mapping[str, Any],
) -> Iterator[str]:
    """Yield the differences of a fine-tuning from its run: settings, commit, versions, machine.

    Examples
    --------
    >>> list(deviations({"finetune.lr": 1}, {"finetune.lr": 2}, {}, {}))
    ['finetune.lr 2 (run: 1)']
    """
    yield from (
        f"{key} {shown(value)} (run: {shown(settings.get(key))})"
        for key, value in own.items()
        if not key.startswith(OF_THE_MACHINE) and written(value) != written(settings.get(key))
    )
    wanted = ("commit", "versions.", "machine", "python", "chosen.", "store_sha256")
    yield from (
        f"{key} {shown(value)} (run: {shown(origin[key])})"
        for key, value in own_origin.items()
        if key.startswith(wanted) and key in origin and value != origin[key]
    )


def natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts s2 before s10."""
    digits = "".join(c if c.isdecimal() else f" {c} " for c in str(path)).split()
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in digits]


def json_of(path: Path) -> Values:
    """Read a JSON object, {} if the file does not exist; ValueError names a damaged one."""
    try:
        values = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); leave out its run or repeat the run"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} is damaged (not a JSON object); leave out its run or repeat the run"
        )
    return values


def reached(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how far a training is by its last row.

    Examples
    --------
    >>> reached([{"step": 1, "steps": 40}, {"step": 10}]), reached([])
    ('step 10 of 40', 'no step yet')
    """
    if not rows:
        return "no step yet"
    total = next((row["steps"] for row in reversed(rows) if "steps" in row), "?")
    return f"step {rows[-1]['step']} of {total}"


def written(value: Any) -> str:
    """Return a value so that equal ones are written alike."""
    return json.dumps(value, sort_keys=True, default=str)


def shown(value: Any) -> str:
    """Return a value as a reader would write it.

    Examples
    --------
    >>> shown(True), shown(None), shown("cpu"), shown([1, 2]), shown(1e-5)
    ('true', 'null', 'cpu', '[1, 2]', '1e-05')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
