"""A model's answers for a prepared night, window by window and with neighbours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biopart.codes import MISSING
from biopart.data.windows import offsets
from biopart.nn import Normalise
from biopart.store import Record

BATCH = 128


def windows_of(signal: NDArray[np.int16], *, size: int, epoch: int) -> NDArray[np.int16]:
    """Cut a window in the middle of each epoch, (C, T) -> (epoch, C, size).

    What lies beyond the recording is -32768. The windows are a view of the signal, not to be
    written to, where none is longer than an epoch.

    Examples
    --------
    >>> windows_of(np.arange(6, dtype=np.int16)[None], size=4, epoch=3)[:, 0].tolist()
    [[-32768, 0, 1, 2], [2, 3, 4, 5]]
    """
    count = signal.shape[1] // epoch
    room = max(0, (size - epoch + 1) // 2)
    if room:
        signal = np.pad(signal, ((0, 0), (room, room)), constant_values=MISSING)
    first = room + (epoch - size) // 2
    windows = np.lib.stride_tricks.sliding_window_view(signal, size, axis=1)
    cut: NDArray[np.int16] = windows[:, first::epoch][:, :count].transpose(1, 0, 2)
    return cut


@torch.no_grad()
def logits_of(model: nn.Module, about: Mapping[str, Any], record: Record) -> NDArray[np.float32]:
    """Return the logits (epoch, classes) of a prepared night."""
    epoch = round(about["epoch_s"] * about["sfreq_hz"])
    windows = windows_of(record.signal, size=about["encoder"]["shape"][0], epoch=epoch)
    context = about.get("context", 1)
    prepare = Normalise(about["normalise"])
    device = next(model.parameters()).device
    answers = []
    for start in range(0, len(windows), BATCH):
        values = prepare(torch.from_numpy(windows[start : start + BATCH].copy()).to(device))
        net: Any = model.classifier
        answers.append((net if context == 1 else net.classifier.embed)(values).float())
    found = torch.cat(answers)
    if context > 1:
        found = by_neighbours(model.classifier, found, context)
    logits: NDArray[np.float32] = found.cpu().numpy()
    return logits


def by_neighbours(net: Any, embeddings: torch.Tensor, context: int) -> torch.Tensor:
    """Classify each window by its neighbours, embeddings (epoch, D) -> logits (epoch, classes)."""
    count = len(embeddings)
    place = torch.arange(count)[:, None] + torch.from_numpy(offsets(context))
    present = (place >= 0) & (place < count)
    rows = place.clamp(0, count - 1)
    parts = []
    for start in range(0, count, BATCH):
        here = present[start : start + BATCH].to(embeddings.device)
        given = embeddings[rows[start : start + BATCH]] * here[..., None]
        parts.append(net.relate(given, here)[:, net.centre].float())
    return torch.cat(parts)
