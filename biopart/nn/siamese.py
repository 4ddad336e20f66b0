"""Students that predict what their teacher makes of another view: DINO, BYOL, MoBY."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.evaluation.collapse import feature_std, rankme
from biopart.nn.encoder import Encoder
from biopart.nn.teacher import Centre, Queue, Teacher, momentum_at
from biopart.recipe import Pool


class Pooling(nn.Module):
    """Represent a view by its [CLS] or by the mean of its patch tokens."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, 1 + K, D) -> (B, D)."""
        return tokens[:, 0] if self.pool == "cls" else tokens[:, 1:].mean(1)


@dataclass(frozen=True)
class Compared:
    """What comparing the views of a batch gave.

    Attributes
    ----------
    loss : Tensor, 0-d
        Mean over pairs of different views, times ``Siamese.terms``.
    targets : list of Tensor (B, out)
        The teacher's, of the global views.
    vectors : Tensor (B, D)
        The student's of the first view, without a gradient.
    """

    loss: Tensor
    targets: list[Tensor]
    vectors: Tensor


class Siamese(nn.Module, ABC):
    """What methods on whole views share.

    Attributes
    ----------
    encoder : Encoder
        The student's.
    pooling : nn.Module
        Tokens (B, 1 + K, D) -> one vector for each view (B, D).
    teacher : Teacher
        Of ``encoder``, ``pooling`` and heads.
    momentum : float
        The teacher's at the first step; rises to 1.
    terms : float
        By which the mean over pairs of views is multiplied.
    joint : bool
        Whether the heads see all views at once, which is faster: without batch normalisation.
    """

    encoder: Encoder
    pooling: nn.Module
    teacher: Teacher
    momentum: float
    terms: float = 1.0
    joint: bool = False

    def after_step(self, progress: float) -> None:
        """Let the teacher follow, and add what the step kept; progress in (0, 1]."""
        self.teacher.follow(self, momentum_at(progress, self.momentum))
        for module in self.modules():
            if isinstance(module, Centre | Queue):
                module.update()

    @abstractmethod
    def predicted(self, vectors: Tensor, progress: float) -> Tensor:
        """Return the student's predictions from its vectors (B, D), in training."""

    @abstractmethod
    def targets(self, vectors: Sequence[Tensor], progress: float) -> list[Tensor]:
        """Return the teacher's targets from its vectors of each global view (B, D)."""

    @abstractmethod
    def distances(self, predicted: Tensor, target: Tensor, view: int) -> Tensor:
        """Return the loss of each prediction, (..., out) -> (...).

        Parameters
        ----------
        predicted, target : Tensor (..., out)
            Shapes that broadcast.
        view : int
            Number of the global view that the target belongs to.
        """

    def tokens(
        self,
        shown: Sequence[Tensor],
        local: Sequence[Tensor],
        student: Sequence[Tensor] | None = None,
    ) -> tuple[Sequence[Tensor], list[Tensor]]:
        """Encode views: all by the student, the global ones by the teacher too.

        Parameters
        ----------
        shown, local : sequence of Tensor (B, C, *S')
            Global and local views.
        student : sequence of Tensor (B, 1 + K, D), optional
            The student's tokens of all views, where another objective has encoded them.
        """
        if student is None:
            student = encoded(self.encoder, [*shown, *local])
        with torch.no_grad():
            teacher = encoded(self.teacher.get_submodule("encoder"), shown)  # type: ignore[arg-type]
        return student, teacher

    def compared(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], progress: float
    ) -> Compared:
        """Compare the views of a batch.

        Parameters
        ----------
        student, teacher : sequence of Tensor (B, 1 + K, D)
            Tokens of all views, and of the global ones, which come first.
        progress : float
            Of the training, 0 to 1.
        """
        with torch.no_grad():
            pooling = self.teacher.get_submodule("pooling")
            targets = self.targets([pooling(tokens) for tokens in teacher], progress)
        vectors = [self.pooling(tokens) for tokens in student]
        if self.joint:
            together = self.predicted(torch.cat(vectors), progress)
            predictions = list(together.chunk(len(vectors)))
        else:
            predictions = [self.predicted(one, progress) for one in vectors]
        return Compared(self.pairs(predictions, targets), targets, vectors[0].detach())

    def pairs(self, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Compare predictions of views with the targets of all other ones.

        Parameters
        ----------
        predictions : sequence of Tensor (B, out) or (B, K, out)
            One vector for each view, or one for each place of it.
        targets : sequence of Tensor (B, out)
            Of the global views.
        """
        losses = []
        for view, target in enumerate(targets):
            for number, predicted in enumerate(predictions):
                if number != view:
                    wide = target if predicted.dim() == target.dim() else target[:, None]
                    losses.append(self.distances(predicted, wide, view).mean())
        return self.terms * torch.stack(losses).mean()


class OnViews(nn.Module):
    """An objective of patches or places beside one of whole views, on the same encoder.

    Attributes
    ----------
    image : Siamese
        The objective of whole views.
    counts : tuple of int
        Patches per axis of a global view.
    """

    image: Siamese
    counts: tuple[int, ...]

    @property
    def encoder(self) -> Encoder:
        """The student's encoder."""
        return self.image.encoder

    @property
    def exported(self) -> nn.Module:
        """The encoder that is saved: as of the objective of whole views."""
        found: nn.Module = getattr(self.image, "exported", self.image.encoder)
        return found

    def after_step(self, progress: float) -> None:
        """Let the teacher follow; progress in (0, 1]."""
        self.image.after_step(progress)


def counts_of(encoder: Encoder, size: Sequence[int] | None) -> tuple[int, ...]:
    """Return how many patches tile a view of some extents, the encoder's own without any."""
    extents = size or encoder.shape
    return tuple(s // p for s, p in zip(extents, encoder.patch, strict=True))


def encoded(encoder: Encoder, views: Sequence[Tensor]) -> list[Tensor]:
    """Encode views (B, C, *S') to tokens (B, 1 + K, D); neighbours of equal extents at once."""
    tokens: list[Tensor] = []
    while len(tokens) < len(views):
        first = len(tokens)
        alike = 1
        while first + alike < len(views) and views[first + alike].shape == views[first].shape:
            alike += 1
        together = encoder.encode(torch.cat(list(views[first : first + alike])))
        tokens += together.chunk(alike)
    return tokens


def spread_of(vectors: Tensor) -> dict[str, Tensor]:
    """Return the effective rank and the spread of vectors (B, D) of this process."""
    features = vectors.float().cpu().numpy()
    found = {"rank": rankme(features), "std": feature_std(features)}
    return {name: vectors.new_tensor(value, dtype=torch.float32) for name, value in found.items()}


def cosine_distance(one: Tensor, other: Tensor) -> Tensor:
    """Return ``2 - 2 cos`` of vectors (..., D): BYOL's equation 2.

    Examples
    --------
    >>> cosine_distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 2.0])).item()
    2.0
    """
    return 2 - 2 * (F.normalize(one.float(), dim=-1) * F.normalize(other.float(), dim=-1)).sum(-1)
