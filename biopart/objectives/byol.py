"""BYOL: predict a teacher's projection of another view (arXiv 2006.07733)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Encoder
from biopart.nn.heads import projector
from biopart.nn.siamese import Compared, Pooling, Siamese, cosine_distance, spread_of
from biopart.nn.teacher import Teacher
from biopart.recipe import ByolSettings, MobySettings

__all__ = ["Byol"]


class Byol(Siamese):
    """Squared distance of unit vectors between prediction and target, both ways.

    The teacher's batch normalisation uses the statistics of the batch, as the student's does. The
    paper optimises by LARS; here AdamW serves all methods.

    Parameters
    ----------
    encoder : Encoder
        The student's, which is saved.
    settings : ByolSettings
        Projector, predictor, momentum; of ``Moby`` its own.
    pooling : nn.Module, optional
        What represents a view, (B, 1 + K, D) -> (B, D); ``settings.pool`` by default.
    """

    terms = 2.0

    def __init__(
        self,
        encoder: Encoder,
        settings: ByolSettings | MobySettings,
        pooling: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.momentum = settings.momentum
        self.pooling = Pooling(settings.pool) if pooling is None else pooling
        self.projector = projector(encoder.dim, settings.hidden, settings.out)
        self.predictor = projector(settings.out, settings.hidden, settings.out)
        self.teacher = Teacher(
            {"encoder": encoder, "pooling": self.pooling, "projector": self.projector}
        )

    def new_head(self) -> nn.Module:
        """Return a projector with a predictor, of the settings' sizes."""
        sizes = self.settings
        return nn.Sequential(
            projector(self.encoder.dim, sizes.hidden, sizes.out),
            projector(sizes.out, sizes.hidden, sizes.out),
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
        """Return the loss of a student that knows nothing, and signs of collapse."""
        chance = torch.full_like(found.targets[0].flatten()[0], self.terms * self.chance)
        return {"chance_loss": chance, **spread_of(found.vectors)}

    @property
    def chance(self) -> float:
        """The loss of unrelated vectors."""
        return 2.0

    def predicted(self, vectors: Tensor, progress: float) -> Tensor:
        """Return the student's predictions, (B, out)."""
        predictions: Tensor = self.predictor(self.projector(vectors))
        return predictions

    def targets(self, vectors: Sequence[Tensor], progress: float) -> list[Tensor]:
        """Return the teacher's projections of the global views."""
        head = self.teacher.get_submodule("projector")
        return [head(one) for one in vectors]

    def distances(self, predicted: Tensor, target: Tensor, view: int) -> Tensor:
        """Return ``2 - 2 cos`` (equation 2)."""
        return cosine_distance(predicted, target)
