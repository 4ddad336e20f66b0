"""What a training loop gets: batches, and whatever gives them by item numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass
class Context:
    """What is known of the windows around those of a batch.

    Attributes
    ----------
    present : Tensor (B, L), bool
        Whether a window lies inside the recording.
    label : Tensor (B, L), int64
        -1 = unknown, or not there.
    """

    present: Tensor
    label: Tensor


@dataclass
class Batch:
    """Windows or images of a batch with what is known of them.

    Attributes
    ----------
    values : Tensor (B, C, *S)
        int16 or uint8 until they are normalised on the device; (B, L, C, *S) with context.
    label : Tensor (B,), int64
        -1 = unknown.
    person, key : list of str
        Whose window it is, and which: ``record:epoch``. Of images both are the image's name.
    soft : Tensor (B, classes), optional
        Shares of the classes where images are mixed or labels smoothed; rows sum to 1.
    context : Context, optional
        Of windows with their neighbours.
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
    """What an objective says of one batch: the loss to descend and figures to log (0-d)."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Windows(Protocol):
    """Whatever gives batches by item numbers."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return the items of these numbers as one batch."""

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw whatever is random about the items of an epoch."""
