"""What a training loop gets: batches, and the sources that give them by item number."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass
class Context:
    """Presence and labels of the windows around those of a batch.

    Attributes
    ----------
    present : Tensor (B, L), bool
        Whether a window lies inside the recording.
    label : Tensor (B, L), int64
        -1 = unknown, or outside the recording.
    """

    present: Tensor
    label: Tensor


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
    """

    values: Tensor
    label: Tensor
    person: list[str]
    key: list[str]
    soft: Tensor | None = None
    context: Context | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on a device."""
        moved = replace(self, values=self.values.to(device), label=self.label.to(device))
        if self.soft is not None:
            moved.soft = self.soft.to(device)
        if self.context is not None:
            present, label = self.context.present.to(device), self.context.label.to(device)
            moved.context = Context(present, label)
        return moved


@dataclass
class StepOutput:
    """Result of an objective for one batch: the loss to minimise and metrics to log (0-d)."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Windows(Protocol):
    """A source of batches by item number."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return the items of these numbers as one batch."""

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the random properties of the items of an epoch."""
