"""CO-SSL: pull local representations to the teacher's global one (arXiv 2501.02860)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Encoder
from biopart.nn.heads import everywhere
from biopart.nn.siamese import OnViews, counts_of
from biopart.objectives.byol import Byol
from biopart.objectives.dino import Dino
from biopart.recipe import ByolSettings, CosslSettings

__all__ = ["Cossl"]


class Cossl(OnViews):
    """Loss of BYOL or DINO on views, and of each place of the map before pooling.

    Every local representation of a global view goes through heads of its own, shared by all
    places, and predicts the teacher's global target of the other view, both ways.

    Parameters
    ----------
    encoder : Encoder
        The student's.
    settings : CosslSettings
        The method on views, the weight of the local loss, places.

    Raises
    ------
    ValueError
        If the map has fewer places than are asked for, or a single one.
    """

    image: Byol | Dino

    def __init__(self, encoder: Encoder, settings: CosslSettings) -> None:
        super().__init__()
        self.settings = settings
        self.counts = counts_of(encoder, settings.views.global_size)
        if max(self.counts) < 2:
            raise ValueError(
                f"the encoder's map has one place, so it has no local representations; choose "
                f"patches smaller than {encoder.patch}"
            )
        if settings.places is not None and settings.places > min(c for c in self.counts if c > 1):
            raise ValueError(
                f"objective.places is {settings.places}, but the encoder's map has {self.counts} "
                "places; lower it"
            )
        if isinstance(settings.image, ByolSettings):
            self.image = Byol(encoder, settings.image)
        else:
            self.image = Dino(encoder, settings.image)
        self.local = self.image.new_head()

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
        student: Sequence[Tensor] | None = None,
    ) -> StepOutput:
        """Encode the views of a batch, and compare whole views and places."""
        shown = batch.global_views
        student, teacher = self.image.tokens(shown, batch.local_views, student)
        views = self.image.compared(student, teacher, progress)
        self.counts = batch.counts(self.encoder.patch)
        local = self.local_loss(student[: len(shown)], views.targets, progress)

        def metrics() -> dict[str, Tensor]:
            found = self.image.metrics(views)
            chance = found["chance_loss"] * (1 + self.settings.weight)
            parts = {"views": views.loss.detach(), "local": local.detach()}
            return {**found, **parts, "chance_loss": chance}

        return StepOutput(views.loss + self.settings.weight * local, Metrics(metrics))

    def local_loss(
        self, student: Sequence[Tensor], targets: Sequence[Tensor], progress: float
    ) -> Tensor:
        """Return the loss of places, over pairs of different views.

        Parameters
        ----------
        student : sequence of Tensor (B, 1 + K, D)
            Tokens of the global views.
        targets : sequence of Tensor (B, out)
            The teacher's, of the same views.
        progress : float
            Of the training.
        """
        head: Callable[[Tensor], Tensor] = self.local
        if isinstance(self.image, Dino):
            head = partial(self.local, frozen=self.image.is_frozen(progress))
        predictions = [everywhere(head, self.map(tokens)) for tokens in student]
        if isinstance(self.image, Dino):
            predictions = [self.image.logs(one) for one in predictions]
        return self.image.pairs(predictions, targets)

    def map(self, tokens: Tensor) -> Tensor:
        """Return the local representations of tokens (B, 1 + K, D), (B, places, D).

        The mean of the map in n parts per axis, where ``settings.places`` asks for fewer.
        """
        local = tokens[:, 1:]
        if self.settings.places is None:
            return local
        grid = local.transpose(1, 2).reshape(len(local), -1, *self.counts)
        for axis, count in enumerate(self.counts):
            if count > 1:
                grid = averaged(grid, 2 + axis, self.settings.places)
        return grid.flatten(2).transpose(1, 2)


def averaged(values: Tensor, axis: int, places: int) -> Tensor:
    """Average an axis in equal parts, as adaptive average pooling does.

    Examples
    --------
    >>> averaged(torch.arange(5.0), 0, 2).tolist()
    [1.0, 3.0]
    """
    last = values.movedim(axis, -1)
    pooled = F.adaptive_avg_pool1d(last.reshape(1, -1, last.shape[-1]), places)
    averages: Tensor = pooled.reshape(*last.shape[:-1], places).movedim(-1, axis)
    return averages
