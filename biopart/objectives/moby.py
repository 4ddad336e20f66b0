"""MoBY: find the teacher's key of another view among earlier ones (arXiv 2105.04553)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.nn import Encoder
from biopart.nn.teacher import Queue
from biopart.objectives.byol import Byol
from biopart.recipe import MobySettings

__all__ = ["Moby"]

GLOBAL = 2  # views, of which each has its queue


class Moby(Byol):
    """Contrast of a prediction with the key of the other view and a queue of earlier keys.

    Parameters
    ----------
    encoder : Encoder
        The student's, which is saved.
    settings : MobySettings
        Projector, predictor, queue, temperature, momentum.
    pooling : nn.Module, optional
        What represents a view, (B, 1 + K, D) -> (B, D); ``settings.pool`` by default.
    """

    settings: MobySettings

    def __init__(
        self, encoder: Encoder, settings: MobySettings, pooling: nn.Module | None = None
    ) -> None:
        super().__init__(encoder, settings, pooling)
        self.queues = nn.ModuleList(Queue(settings.queue, settings.out) for _ in range(GLOBAL))

    @property
    def chance(self) -> float:
        """The loss of a guess among all keys."""
        return math.log(1 + self.settings.queue)

    def targets(self, vectors: Sequence[Tensor], progress: float) -> list[Tensor]:
        """Return the teacher's keys of the global views, of length 1."""
        keys = [F.normalize(one.float(), dim=-1) for one in super().targets(vectors, progress)]
        if self.training:
            for one, queue in zip(keys, self._queues, strict=True):
                queue.keep(one)
        return keys

    def distances(self, predicted: Tensor, target: Tensor, view: int) -> Tensor:
        """Return the cross-entropy of the key among those of the view's queue."""
        return contrast(predicted, target, self._queues[view], self.settings.temperature)

    @property
    def _queues(self) -> list[Queue]:
        """The queue of each global view."""
        return [queue for queue in self.queues if isinstance(queue, Queue)]


def contrast(predicted: Tensor, target: Tensor, queue: Queue, temperature: float) -> Tensor:
    """Return ``-log softmax`` of the similarity to a key among those to earlier ones (InfoNCE).

    Parameters
    ----------
    predicted, target : Tensor (..., out)
        Predictions, and keys of length 1.
    queue : Queue
        Earlier keys.
    temperature : float
        Divides the similarities.

    Returns
    -------
    Tensor (...)
    """
    unit = F.normalize(predicted.float(), dim=-1)
    own = (unit * target).sum(-1, keepdim=True)
    others = unit @ queue.keys.t()
    return -F.log_softmax(torch.cat([own, others], -1) / temperature, dim=-1)[..., 0]
