"""What a training loop gets: batches, and the sources that give them by item number."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.grid import Boxes, grid_boxes


@dataclass
class Context:
    """Presence and labels of the windows around those of a batch.

    Attributes
    ----------
    present : Tensor (B, L), bool
        Whether a window may be attended to: it lies inside the recording and touches no bad
        segment, or is the classified one.
    label : Tensor (B, L), int64
        -1 = unknown, or not to be attended to.
    """

    present: Tensor
    label: Tensor


@dataclass
class View:
    """An augmented view of every item of a batch.

    Attributes
    ----------
    values : Tensor (B, C, *S')
        Normalised; of other extents than the grid's where the view is local.
    start, size : Tensor (B, N), int64
        Where it was cut, in samples of the grid.
    mirrored : Tensor (B,), bool
        Whether its last axis was mirrored.
    local : bool
        Whether it is a small view, which only a student sees.
    """

    values: Tensor
    start: Tensor
    size: Tensor
    mirrored: Tensor
    local: bool = False

    @property
    def boxes(self) -> Boxes:
        """Where it was cut, (B, N)."""
        return Boxes(self.start, self.size)

    def centres(self, patch: Sequence[int]) -> Tensor:
        """Return where the centres of its row-major patches lie in the grid, (B, K, N) in samples.

        Local correspondences between views are found by them.
        """
        extents = self.values.shape[2:]
        tiles = grid_boxes(extents, patch).centre.to(self.start.device)  # (K, N)
        sides = torch.tensor(extents, device=tiles.device)
        flipped = torch.cat([tiles[:, :-1], sides[-1] - tiles[:, -1:]], 1)
        mirrored = self.mirrored.to(tiles.device)[:, None, None]
        inside = torch.where(mirrored, flipped, tiles) / sides
        return self.start[:, None] + inside * self.size[:, None]


@dataclass
class Batch:
    """Windows or images of a batch, with their labels and persons.

    Attributes
    ----------
    values : Tensor (B, C, *S)
        int16 or uint8 until they are normalised on the device; (B, L, C, *S) with context.
    label : Tensor (B,), int64
        -1 = unknown.
    person, key : list of str
        Person of each window, and its key ``record:epoch``. For images both are the image's name.
    soft : Tensor (B, classes), optional
        Shares of the classes if images are mixed or labels smoothed; rows sum to 1.
    context : Context, optional
        For windows with their neighbours.
    views : list of View
        Global ones first; none where the method sees the values themselves.
    """

    values: Tensor
    label: Tensor
    person: list[str]
    key: list[str]
    soft: Tensor | None = None
    context: Context | None = None
    views: list[View] = field(default_factory=list)

    @property
    def global_views(self) -> list[Tensor]:
        """What teacher and student see, each (B, C, *S'); without views the values, twice."""
        return [v.values for v in self.views if not v.local] or [self.values, self.values]

    def counts(self, patch: Sequence[int]) -> tuple[int, ...]:
        """Return how many patches tile a global view, per axis."""
        extents = self.global_views[0].shape[2:]
        return tuple(extent // side for extent, side in zip(extents, patch, strict=True))

    @property
    def local_views(self) -> list[Tensor]:
        """What only a student sees, each (B, C, *S')."""
        return [view.values for view in self.views if view.local]

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on a device."""
        values, label = moved(self.values, device), moved(self.label, device)
        batch = replace(self, values=values, label=label)
        if self.soft is not None:
            batch.soft = moved(self.soft, device)
        if self.context is not None:
            present, label = moved(self.context.present, device), moved(self.context.label, device)
            batch.context = Context(present, label)
        return batch


@dataclass
class SceneBatch(Batch):
    """Canvases of a batch with their objects.

    Attributes
    ----------
    targets : list of dict
        For each canvas ``boxes`` (objects, 4) as left, top, right, bottom, ``labels`` (objects,)
        from 1 on and ``masks`` (objects, S, S) uint8.
    """

    targets: list[dict[str, Tensor]] = field(default_factory=list)

    def to(self, device: torch.device | str) -> "SceneBatch":
        """Return the batch with its tensors on a device."""
        moved = [{name: v.to(device) for name, v in one.items()} for one in self.targets]
        return replace(
            self, values=self.values.to(device), label=self.label.to(device), targets=moved
        )


@dataclass
class DenseBatch(Batch):
    """Grids of a batch with a class at every place.

    Attributes
    ----------
    dense : Tensor (B, *S), int64
        -1 = unknown.
    """

    dense: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def to(self, device: torch.device | str) -> "DenseBatch":
        """Return the batch with its tensors on a device."""
        values, label = moved(self.values, device), moved(self.label, device)
        return replace(self, values=values, label=label, dense=moved(self.dense, device))


def moved(values: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device; a copy to a GPU is begun, and not waited for."""
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class Metrics:
    """Figures of a step (0-d tensors by name), computed when they are first read.

    A training reads them where a row is logged, not in every step.

    Parameters
    ----------
    compute : callable
        Gives them; called at most once, without gradients.
    """

    def __init__(self, compute: Callable[[], dict[str, Tensor]]) -> None:
        self._compute = compute

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """All figures."""
        with torch.no_grad():
            return self._compute()

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self.values.keys()

    def items(self) -> ItemsView[str, Tensor]:
        """Return names and figures."""
        return self.values.items()


@dataclass
class StepOutput:
    """Result of an objective for one batch.

    Attributes
    ----------
    loss : Tensor, 0-d
        What is minimised.
    metrics : dict of 0-d tensors, or Metrics
        What is logged; as ``Metrics`` it costs nothing in steps that are not.
    weight : Tensor, 0-d, optional
        Sum of the weights of which the loss is a mean; None = every item counts alike. Processes
        that share a batch, and parts of it, are averaged by it.
    """

    loss: Tensor
    metrics: dict[str, Tensor] | Metrics = field(default_factory=dict)
    weight: Tensor | None = None


class Windows(Protocol):
    """A source of batches by item number."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return the items of these numbers as one batch."""

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the random properties of the items of an epoch."""
