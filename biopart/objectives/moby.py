"""MoBY: find the teacher's key of another view among earlier ones (arXiv 2105.04553)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Encoder
from biopart.nn.heads import projector
from biopart.nn.siamese import Compared, Pooling, Siamese, spread_of
from biopart.nn.teacher import Queue, Teacher
from biopart.recipe import MobySettings

__all__ = ["Moby"]

GLOBAL = 2  # views, of which each has its queue


class Moby(Siamese):
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

    terms = 2.0

    def __init__(
        self, encoder: Encoder, settings: MobySettings, pooling: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.momentum = settings.momentum
        self.pooling = Pooling(settings.pool) if pooling is None else pooling
        self.projector = projector(encoder.dim, settings.hidden, settings.out)
        self.predictor = projector(settings.out, settings.hidden, settings.out)
        self.queues = nn.ModuleList(Queue(settings.queue, settings.out) for _ in range(GLOBAL))
        self.teacher = Teacher(
            {"encoder": encoder, "pooling": self.pooling, "projector": self.projector}
        )

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Encode the views of a batch and compare them."""
        student, teacher = self.tokens(batch.global_views, batch.local_views)
        found = self.compared(student, teacher, progress)
        return StepOutput(found.loss, Metrics(lambda: self.metrics(found)))

    def metrics(self, found: Compared) -> dict[str, Tensor]:
        """Return the loss of a guess among all keys, and signs of collapse."""
        chance = self.terms * math.log(1 + self.settings.queue)
        known = torch.full_like(found.targets[0].flatten()[0], chance)
        return {"chance_loss": known, **spread_of(found.vectors)}

    def predicted(self, vectors: Tensor, progress: float) -> Tensor:
        """Return the student's predictions, (B, out)."""
        predictions: Tensor = self.predictor(self.projector(vectors))
        return predictions

    def targets(self, vectors: Sequence[Tensor], progress: float) -> list[Tensor]:
        """Return the teacher's keys of the global views, of length 1."""
        head = self.teacher.get_submodule("projector")
        keys = [F.normalize(head(one).float(), dim=-1) for one in vectors]
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
