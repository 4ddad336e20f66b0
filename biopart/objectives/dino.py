"""DINO: match a teacher's assignment of another view (arXiv 2104.14294; facebookresearch/dino)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Encoder
from biopart.nn.heads import DinoHead
from biopart.nn.siamese import Compared, Pooling, Siamese, spread_of
from biopart.nn.teacher import Centre, Teacher
from biopart.recipe import DinoSettings

__all__ = ["Dino"]


class Dino(Siamese):
    """Cross-entropy of the student's assignment with the teacher's, over pairs of views.

    Parameters
    ----------
    encoder : Encoder
        The student's.
    settings : DinoSettings
        Head, temperatures, centre, momentum.
    pooling : nn.Module, optional
        What represents a view, (B, 1 + K, D) -> (B, D); ``settings.pool`` by default.
    """

    joint = True

    def __init__(
        self, encoder: Encoder, settings: DinoSettings, pooling: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.momentum = settings.momentum
        self.pooling = Pooling(settings.pool) if pooling is None else pooling
        self.head = self.new_head()
        self.centre = Centre(settings.prototypes, settings.centre_momentum)
        self.teacher = Teacher({"encoder": encoder, "pooling": self.pooling, "head": self.head})

    @property
    def exported(self) -> nn.Module:
        """The encoder that is saved: the teacher's."""
        return self.teacher.get_submodule("encoder")

    def new_head(self, prototypes: int | None = None) -> DinoHead:
        """Return a head of the settings' sizes, or with another number of prototypes."""
        sizes = self.settings
        return DinoHead(
            self.encoder.dim, sizes.hidden, sizes.bottleneck, prototypes or sizes.prototypes
        )

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
        student: Sequence[Tensor] | None = None,
    ) -> StepOutput:
        """Encode the views of a batch and compare them."""
        student, teacher = self.tokens(batch.global_views, batch.local_views, student)
        found = self.compared(student, teacher, progress)
        return StepOutput(found.loss, Metrics(lambda: self.metrics(found)))

    def metrics(self, found: Compared) -> dict[str, Tensor]:
        """Return the loss of a uniform student, the teacher's entropy, and signs of collapse."""
        target = found.targets[0]
        entropy = -(target * target.clamp(min=1e-12).log()).sum(-1).mean()
        chance = torch.full_like(entropy, math.log(self.settings.prototypes))
        return {
            "chance_loss": chance,
            "teacher_entropy": entropy,
            **spread_of(found.vectors),
        }

    def predicted(self, vectors: Tensor, progress: float) -> Tensor:
        """Return the logs of the student's assignments, (B, prototypes)."""
        return self.logs(self.head(vectors, frozen=self.is_frozen(progress)))

    def logs(self, logits: Tensor) -> Tensor:
        """Return the logs of a student's assignments, by its temperature."""
        return F.log_softmax(logits / self.settings.student_temperature, dim=-1)

    def is_frozen(self, progress: float) -> bool:
        """Tell whether the last layer of a head stays as it is at a point of the training."""
        return self.training and progress < self.settings.frozen_last

    def targets(self, vectors: Sequence[Tensor], progress: float) -> list[Tensor]:
        """Return the teacher's assignments of the global views, rows of sum 1."""
        head = self.teacher.get_submodule("head")
        logits: Tensor = head(torch.cat(list(vectors)))
        if self.training:
            self.centre.keep(logits)
        return list(self.assigned(logits, self.centre, progress).chunk(len(vectors)))

    def assigned(self, logits: Tensor, centre: Centre, progress: float) -> Tensor:
        """Return a teacher's assignment: centred logits, sharpened by its temperature."""
        return F.softmax((logits - centre.value) / self.teacher_temperature(progress), dim=-1)

    def teacher_temperature(self, progress: float) -> float:
        """Return the temperature of the teacher at a point of the training."""
        first, last = self.settings.teacher_temperature
        return first + (last - first) * min(1.0, progress / self.settings.temperature_until)

    def distances(self, predicted: Tensor, target: Tensor, view: int) -> Tensor:
        """Return the cross-entropy of logs of assignments (..., prototypes) with assignments."""
        return -(target * predicted).sum(-1)
