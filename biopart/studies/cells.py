"""The cells of a study, and the folder on which any number of processes share them.

A study compares variants of one recipe: each is pretrained once per seed, then fine-tuned on
nested subsets of persons. Every pretraining and every fine-tuning is a cell with a file of its
own, so that a stopped study goes on where it stopped.
"""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from biopart.files import read_json, write_json
from biopart.recipe import Recipe
from biopart.run import Run

# What a training may raise on data or settings that do not go (NaN, no memory, a damaged file), or
# by a fault of ours: it costs a cell, whose file keeps the traceback, and never the study.
FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, SafetensorError, TypeError, ValueError),
)

Kind = Literal["pretrained", "scratch", "untrained_mean", "band_powers", "pixels"]
"""How a variant comes to its figures: fine-tuned, from scratch, or a probe without training."""


@dataclass(frozen=True)
class Variant:
    """One line of a study: a name, the whole recipe behind it, and how it gets its figures."""

    name: str
    recipe: Recipe
    kind: Kind = "pretrained"

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe of one repeat."""
        return self.recipe.model_copy(update={"seed": seed})


@dataclass(frozen=True)
class Cell:
    """A pretraining (size None), or a fine-tuning or baseline on so many persons.

    Examples
    --------
    >>> Cell("mae", 3).name, Cell("mae", 3, 10).name
    ('mae-seed3', 'mae-s10-seed3')
    """

    variant: str
    seed: int
    size: int | None = None

    @property
    def run(self) -> str:
        """Name of the run folder that the cell belongs to."""
        return f"{self.variant}-seed{self.seed}"

    @property
    def name(self) -> str:
        """Name of the cell's files."""
        return self.run if self.size is None else f"{self.variant}-s{self.size}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All that a study does: every variant with every seed and size."""

    variants: tuple[Variant, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    skipped: frozenset[tuple[int, int]] = frozenset()
    """Sizes and seeds whose persons have fewer than two classes: nothing can be learnt there."""

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Cells in the order of work: one seed after the other, pretrainings first."""
        cells = []
        for seed in self.seeds:
            cells += [Cell(v.name, seed) for v in self.variants if v.kind == "pretrained"]
            sizes = [size for size in self.sizes if (size, seed) not in self.skipped]
            cells += [Cell(v.name, seed, size) for size in sizes for v in self.variants]
        return tuple(cells)

    def variant(self, cell: Cell) -> Variant:
        """Return the variant that a cell is of."""
        return next(v for v in self.variants if v.name == cell.variant)

    def needs(self, cell: Cell) -> Cell | None:
        """Return the pretraining that a cell waits for, if it does."""
        waits = cell.size is not None and self.variant(cell).kind == "pretrained"
        return Cell(cell.variant, cell.seed) if waits else None


class Board:
    """The folder of a study: what every cell came to, and who works on which.

    A cell is taken by a lock that the system drops when its process ends, however it ends; what
    it came to is written beside and renamed. So cells are neither lost nor done twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, cell: Cell) -> Run:
        """Return the run folder of a cell."""
        return Run(self.path / "runs" / cell.run)

    def outcome(self, cell: Cell) -> dict[str, Any] | None:
        """Return what a cell came to, None where it is still to be done."""
        path = self.path / "cells" / f"{cell.name}.json"
        return read_json(path) if path.is_file() else None

    def is_done(self, cell: Cell) -> bool:
        """Tell whether a cell has an outcome, good or bad."""
        return (self.path / "cells" / f"{cell.name}.json").is_file()

    def reason(self, plan: Plan, cell: Cell) -> str | None:
        """Return why a cell failed, also where the pretraining that it needs did."""
        outcome = self.outcome(cell)
        if outcome is not None:
            return outcome.get("failed")
        needed = plan.needs(cell)
        why = None if needed is None else self.reason(plan, needed)
        return None if why is None else f"its pretraining failed: {why}"

    def is_open(self, plan: Plan, cell: Cell) -> bool:
        """Tell whether there is still something to do for a cell."""
        return not self.is_done(cell) and self.reason(plan, cell) is None

    def is_ready(self, plan: Plan, cell: Cell) -> bool:
        """Tell whether a cell may begin: the pretraining that it needs is there."""
        needed = plan.needs(cell)
        return needed is None or self.is_done(needed)

    def settle(self, cell: Cell, outcome: Mapping[str, Any]) -> None:
        """Write what a cell came to."""
        about = {"variant": cell.variant, "seed": cell.seed, "size": cell.size}
        write_json(self.path / "cells" / f"{cell.name}.json", {**about, **outcome})

    def forget_failures(self) -> list[str]:
        """Take failed cells up again; return their names."""
        failed = [p for p in self.path.glob("cells/*.json") if "failed" in read_json(p)]
        for path in failed:
            path.unlink(missing_ok=True)  # another process may have been asked the same
        return sorted(path.stem for path in failed)

    @contextmanager
    def taken(self, cell: Cell) -> Iterator[bool]:
        """Take a cell if nobody else has it; true = it is ours until the block ends."""
        folder = self.path / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{cell.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        holder = folder / f"{cell.name}{_holder(os.getpid())}"
        try:
            mine = not self.is_done(cell)  # another process may have done it just now
            if mine:
                holder.touch()
            yield mine
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def held_by(self, pid: int) -> list[str]:
        """Return the names of the cells that a process of this machine holds or died over."""
        ending = _holder(pid)
        return [path.name.removesuffix(ending) for path in self.path.glob(f"locks/*{ending}")]

    def drop_holder(self, pid: int) -> None:
        """Forget what an earlier process of the same number died over."""
        for path in self.path.glob(f"locks/*{_holder(pid)}"):
            path.unlink(missing_ok=True)


def _holder(pid: int) -> str:
    """Return the ending of the file that says which process holds a cell."""
    return f"~{pid}@{platform.node()}"


def file_name(text: str) -> str:
    """Turn a variant's name into one that every file system takes.

    Examples
    --------
    >>> file_name("pairs=10"), file_name("scale=[0.5, 2]")
    ('pairs=10', 'scale=0.5_2')
    """
    return re.sub(r"[^\w.=+-]+", "_", text.replace("[", "").replace("]", "")).strip("_")
