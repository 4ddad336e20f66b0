"""The folder of a study: its recipe, its runs, and the outcome of every training."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from biopart.experiment.stored import stored_recipe
from biopart.files import flat, held, plain, read_json, write_json, write_text
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.settings import checked
from biopart.studies.compare.plan import Plan, StudyKind, Training

# What may differ between two calls with one folder: the amount of work, and the machine.
FREE: dict[str, Any] = {"compute": True, "seed": True, "data": {"store"}}
FREE_OF = {
    "curve": FREE
    | {"curve": {"methods", "sizes", "lengths", "repeats", "published"}, "sweep": True},
    "sweep": FREE | {"curve": True},
}
KEPT = ("provenance.json", "metrics.jsonl", "encoder.safetensors", "objective.safetensors")


class StudyFolder:
    """The folder of a study, in which one process works at a time.

    Every outcome is a file that is complete or absent, so that a stopped study continues where it
    stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, training: Training) -> Run:
        """Return the run folder of a training."""
        return Run(self.path / "runs" / training.run)

    def outcomes(self, *, failed: bool = True) -> dict[Training, dict[str, Any]]:
        """Read the outcomes of all finished trainings, or of those that did not fail."""
        values = [read_json(path) for path in sorted(self.path.glob("cells/*.json"))]
        return {
            Training(value["variant"], value["seed"], value["size"]): value
            for value in values
            if failed or "failed" not in value
        }

    def settle(self, training: Training, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """Write the outcome of a training, and return it as it would be read."""
        about = {"variant": training.variant, "seed": training.seed, "size": training.size}
        values: dict[str, Any] = plain({**about, **outcome})
        write_json(self.path / "cells" / f"{training.name}.json", values)
        return values

    def forget_failures(self) -> list[str]:
        """Delete the outcomes of failed trainings, which are then repeated; return their names."""
        failed = [path for path in self.path.glob("cells/*.json") if "failed" in read_json(path)]
        for path in failed:
            path.unlink()
        return sorted(path.stem for path in failed)

    def held(self) -> AbstractContextManager[None]:
        """Lock the folder for this process; ValueError if another one is working in it."""
        busy = f"another process is working in {self.path}; wait until it ends, or stop it"
        return held(self.path / ".lock", busy)

    def claim(self, kind: StudyKind, recipe: Recipe, fingerprint: str) -> None:
        """Write the recipe of the study if the folder is new; refuse a folder of another study."""
        self.check(kind, recipe, fingerprint)
        file = self.path / f"{kind}.json"
        if not file.is_file():
            write_json(file, identity(kind, recipe, fingerprint))

    def check(self, kind: StudyKind, recipe: Recipe, fingerprint: str) -> None:
        """Refuse a folder with a study of another recipe; ValueError names the differences."""
        file = self.path / f"{kind}.json"
        if not file.is_file():
            return
        stored = read_json(file)  # a key that an older version lacked has its default
        before = checked(Recipe, stored["recipe"], f"the recipe in {file}")
        differences = compared(
            identity(kind, before, stored["store_sha256"]), identity(kind, recipe, fingerprint)
        )
        differing = [
            f"{key} is {was!r} there and {now!r} here" for key, (was, now) in differences.items()
        ]
        if differing:
            raise ValueError(
                f"{self.path} contains a {kind} of another recipe: {'; '.join(differing)}; give "
                "another --out"
            )

    def adopt(self, plan: Plan, runs: Mapping[Training, Path]) -> list[str]:
        """Copy finished pretrainings into the study; return a line about each."""
        done = self.outcomes()
        for training, path in runs.items():
            if training in done:
                continue
            origin, target = Run(path).pretrained(), self.run(training)
            target.path.mkdir(parents=True, exist_ok=True)
            for name in KEPT:
                shutil.copy2(origin.path / name, target.path / name)
            # Its fine-tunings follow the study, whatever the run's own recipe states.
            recipe = plan.variant(training).seeded(training.seed)
            write_text(target.path / "recipe.yaml", recipe.to_yaml())
            self.settle(training, {"seconds": None, "taken_from": str(path)})
        return [f"{path} is used as {training.name}" for training, path in runs.items()]


def identity(kind: StudyKind, recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Return what must be equal in two calls with one folder.

    The keys of a sweep are part of it; values may be added. Outcomes are named by values, which are
    ambiguous without the keys.
    """
    values = recipe.model_dump(mode="json", exclude=FREE_OF[kind])
    if kind == "sweep":
        values["sweep"] = {**values["sweep"], "over": {key: [] for key in recipe.sweep.over}}
    return {"recipe": values, "store_sha256": fingerprint}


def compared(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values that differ between two nested mappings, by their dotted keys.

    Examples
    --------
    >>> compared({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    {'a.c': (2, 3)}
    """
    left, right = flat(one), flat(two)
    return {
        key: (left.get(key), right.get(key))
        for key in {**left, **right}
        if left.get(key) != right.get(key)
    }


def pretrained_by(plan: Plan, runs: Sequence[Path], fingerprint: str) -> dict[Training, Path]:
    """Return the trainings of a study that finished pretrainings can replace.

    A run is used if its recipe is that of a variant and seed of the study: same store, split,
    encoder and pretraining; ValueError for any other, with the differences from the nearest one.
    """
    wanted = {
        training: plan.variant(training).seeded(training.seed)
        for training in plan.trainings
        if training.size is None
    }
    matches = {}
    for path in runs:
        if not wanted:
            raise ValueError(f"{path} cannot be used: no variant of the study is pretrained")
        origin = Run(path).pretrained()
        recipe = stored_recipe(origin)
        differences = {
            training: learnt_otherwise(recipe, recipe_wanted)
            for training, recipe_wanted in wanted.items()
        }
        training, difference = min(differences.items(), key=lambda item: len(item[1]))
        why = [
            f"its {key} is {a!r}, but {training.name} needs {b!r}"
            for key, (a, b) in difference.items()
        ]
        if not origin.encoder.is_file():
            why.append("it has no weights")
        elif origin.provenance()["store_sha256"] != fingerprint:
            why.append("it was trained on another store")
        if why:
            raise ValueError(
                f"{path} cannot be used as a pretraining of the study: {'; '.join(why)}"
            )
        matches[training] = path
    return matches


def learnt_otherwise(one: Recipe, two: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the differences that make two recipes pretrain different encoders, by dotted key."""
    data = {"card", "channels", "window_s", "normalise"}
    wanted: Any = {"data": data, "split": True, "encoder": True, "pretrain": True, "seed": True}

    def decided(recipe: Recipe) -> dict[str, Any]:
        """Return the settings that determine the weights, with the method's defaults filled in."""
        values = recipe.model_dump(mode="json", include=wanted)
        pretraining = recipe.pretrain
        for key in ("probe_every", "probe_windows", "collapse_rank"):
            del values["pretrain"][key]
        values["pretrain"] |= {
            "betas": list(pretraining.betas or pretraining.objective.betas),
            "window_s": pretraining.window_s or recipe.data.window_s,
            "drop_path": recipe.encoder.drop_path
            if pretraining.drop_path is None
            else pretraining.drop_path,
        }
        return values

    return compared(decided(one), decided(two))
