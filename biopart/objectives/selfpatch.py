"""SelfPatch: a patch predicts its similar neighbours (arXiv 2206.07990; alinlab/SelfPatch)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Encoder
from biopart.nn.aggregation import Aggregation, Sets, neighbours
from biopart.nn.heads import everywhere, projector
from biopart.nn.siamese import OnViews, cosine_distance, counts_of
from biopart.nn.teacher import Centre, Queue, Teacher, momentum_at
from biopart.objectives.dino import Dino
from biopart.objectives.moby import Moby, contrast
from biopart.recipe import DinoSettings, SelfpatchSettings

__all__ = ["Selfpatch"]


class Selfpatch(OnViews):
    """Loss of DINO or MoBY on views summarised by class attention, and a loss of every patch.

    The target of a patch is the teacher's summary of those of its neighbours that resemble it
    most, by the cosine of the teacher's tokens; the patch itself is not among them. Patches of
    the global views are compared within their view.

    Parameters
    ----------
    encoder : Encoder
        The student's; its [CLS] is not used.
    settings : SelfpatchSettings
        The method on views, neighbours, heads.

    Raises
    ------
    ValueError
        If the grid has fewer neighbours than are to be chosen, or heads do not divide the width.
    """

    image: Dino | Moby

    def __init__(self, encoder: Encoder, settings: SelfpatchSettings) -> None:
        super().__init__()
        if encoder.dim % settings.heads:
            raise ValueError(
                f"objective.heads {settings.heads} does not divide the encoder's dim {encoder.dim}"
            )
        self.settings = settings
        pooling = Aggregation(encoder.dim, settings.heads, settings.depth)
        if isinstance(settings.image, DinoSettings):
            self.image = Dino(encoder, settings.image, pooling)
            self.head: nn.Module = self.image.new_head(settings.prototypes)
            self.predictor: nn.Module = nn.Identity()
            memory: nn.Module = Centre(settings.prototypes, settings.image.centre_momentum)
        else:
            self.image = Moby(encoder, settings.image, pooling)
            sizes = settings.image
            self.head = projector(encoder.dim, sizes.hidden, sizes.out)
            self.predictor = projector(sizes.out, sizes.hidden, sizes.out)
            memory = Queue(sizes.queue, sizes.out) if settings.negatives else nn.Identity()
        self.memory = memory
        self.teacher = Teacher({"head": self.head})
        self.counts = counts_of(encoder, settings.views.global_size)
        _, present = neighbours(self.counts, wrap=settings.wrap)
        most = int(present.sum(1).max())
        self.chosen = settings.neighbours or max(1, min(present.shape[1] // 2, most))
        if self.chosen > most:
            raise ValueError(
                f"objective.neighbours is {self.chosen}, but a patch of a grid of {self.counts} "
                f"has at most {most} neighbours; lower it or choose smaller patches"
            )

    def after_step(self, progress: float) -> None:
        """Let both teachers follow; progress in (0, 1]."""
        super().after_step(progress)
        self.teacher.follow(self, momentum_at(progress, self.image.momentum))
        if isinstance(self.memory, Centre | Queue):
            self.memory.update()

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
        student: Sequence[Tensor] | None = None,
    ) -> StepOutput:
        """Encode the views of a batch, and compare views and patches."""
        shown = batch.global_views
        student, teacher = self.image.tokens(shown, batch.local_views, student)
        views = self.image.compared(student, teacher, progress)
        self.counts = batch.counts(self.encoder.patch)
        patches = self.patch_loss(student[: len(shown)], teacher, progress)

        def metrics() -> dict[str, Tensor]:
            found = self.image.metrics(views)
            chance = found["chance_loss"] + self.settings.weight * self.chance(patches)
            parts = {"views": views.loss.detach(), "patches": patches.detach()}
            return {**found, **parts, "chance_loss": chance}

        return StepOutput(views.loss + self.settings.weight * patches, Metrics(metrics))

    def chance(self, like: Tensor) -> Tensor:
        """Return the patches' loss of a student that knows nothing."""
        if isinstance(self.image, Dino):
            outputs = float(self.settings.prototypes)
        elif isinstance(self.memory, Queue):
            outputs = 1.0 + len(self.memory.keys)
        else:
            return torch.full_like(like.detach(), 2.0)
        return torch.full_like(like.detach(), outputs).log()

    def patch_loss(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], progress: float
    ) -> Tensor:
        """Return the mean loss of all patches of the global views.

        Parameters
        ----------
        student, teacher : sequence of Tensor (B, 1 + K, D)
            Tokens of each view.
        progress : float
            Of the training.
        """
        norm = self.image.pooling.get_submodule("norm")
        head: Callable[[Tensor], Tensor] = self.head
        if isinstance(self.image, Dino):
            head = partial(self.head, frozen=self.image.is_frozen(progress))
        losses = []
        for own, other in zip(student, teacher, strict=True):
            with torch.no_grad():
                target = self.targets(self.summaries(other[:, 1:]), progress)
            predicted = everywhere(self.predictor, everywhere(head, norm(own[:, 1:])))
            if isinstance(self.image, Dino):
                predicted = self.image.logs(predicted)
            losses.append(self.distances(predicted, target).mean())
        return torch.stack(losses).mean()

    def summaries(self, tokens: Tensor) -> Tensor:
        """Summarise the chosen neighbours of every patch, (B, K, D) -> (B, K, D), by the teacher.

        Where a patch has fewer neighbours than are chosen, all of them.
        """
        pooling = self.image.teacher.get_submodule("pooling")
        assert isinstance(pooling, Aggregation)
        around, there = neighbours(self.counts, wrap=self.settings.wrap)
        around, there = around.to(tokens.device), there.to(tokens.device)
        unit = F.normalize(pooling.norm(tokens).float(), dim=-1)
        similarity = (unit[:, :, None] * unit[:, around]).sum(-1)
        best = similarity.masked_fill(~there, -torch.inf).topk(self.chosen, dim=-1).indices
        index = around.expand(len(tokens), -1, -1).gather(2, best)
        present = there.expand(len(tokens), -1, -1).gather(2, best)
        return pooling.summary(tokens, Sets(index, present))

    def targets(self, summaries: Tensor, progress: float) -> Tensor:
        """Return what the teacher's head makes of summaries (B, K, D)."""
        outputs = everywhere(self.teacher.get_submodule("head"), summaries)
        if isinstance(self.image, Dino):
            assert isinstance(self.memory, Centre)
            if self.training:
                self.memory.keep(outputs)
            return self.image.assigned(outputs, self.memory, progress)
        keys = F.normalize(outputs.float(), dim=-1)
        if self.training and isinstance(self.memory, Queue):
            self.memory.keep(keys.flatten(0, 1))
        return keys

    def distances(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each patch, (B, K)."""
        if isinstance(self.image, Dino):
            return self.image.distances(predicted, target, 0)
        if isinstance(self.memory, Queue):
            temperature = self.image.settings.temperature
            return contrast(predicted, target, self.memory, temperature)
        return cosine_distance(predicted, target)
