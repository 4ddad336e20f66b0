"""A weighted sum of objectives on one encoder."""

from typing import cast

import torch
from torch import Tensor, nn

from biopart.data import Batch, Metrics, StepOutput
from biopart.nn import Encoder
from biopart.nn.siamese import OnViews, Siamese, encoded
from biopart.objectives.byol import Byol
from biopart.objectives.cossl import Cossl
from biopart.objectives.dino import Dino
from biopart.objectives.droppos import DropPos
from biopart.objectives.mae import Mae
from biopart.objectives.moby import Moby
from biopart.objectives.mp3 import Mp3
from biopart.objectives.part import Part
from biopart.objectives.selfpatch import Selfpatch
from biopart.recipe import (
    ByolSettings,
    CosslSettings,
    DinoSettings,
    DropPosSettings,
    MaeSettings,
    MobySettings,
    Mp3Settings,
    PartSettings,
    SelfpatchSettings,
    SumSettings,
)

__all__ = ["Sum"]

# The pretraining objective for each kind of settings, without sums.
SINGLE: dict[type, type[nn.Module]] = {
    ByolSettings: Byol,
    CosslSettings: Cossl,
    DinoSettings: Dino,
    DropPosSettings: DropPos,
    MaeSettings: Mae,
    MobySettings: Moby,
    Mp3Settings: Mp3,
    PartSettings: Part,
    SelfpatchSettings: Selfpatch,
}


class Sum(nn.Module):
    """Train one encoder by several objectives at once, which share its views.

    Parameters
    ----------
    encoder : Encoder
        Of all objectives.
    settings : SumSettings
        Objectives and weights; the first decides which encoder is saved.
    """

    def __init__(self, encoder: Encoder, settings: SumSettings) -> None:
        super().__init__()
        self.settings = settings
        self.parts = nn.ModuleList(
            SINGLE[type(part.objective)](encoder, part.objective) for part in settings.parts
        )

    @property
    def encoder(self) -> Encoder:
        """The encoder of all objectives."""
        return cast(Encoder, self.parts[0].encoder)

    @property
    def exported(self) -> nn.Module:
        """The encoder that is saved: the first objective's."""
        found: nn.Module = getattr(self.parts[0], "exported", self.encoder)
        return found

    def after_step(self, progress: float) -> None:
        """Let the teachers follow; progress in (0, 1]."""
        for part in self.parts:
            if isinstance(part, Siamese | OnViews):
                part.after_step(progress)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Add up the losses of a batch."""
        on_views = [isinstance(part, Siamese | OnViews) for part in self.parts]
        shared = {}
        if sum(on_views) > 1:  # the student sees each view once for all of them
            shared = {"student": encoded(self.encoder, [*batch.global_views, *batch.local_views])}
        outputs = [
            part(batch, generator, progress, **(shared if with_views else {}))
            for part, with_views in zip(self.parts, on_views, strict=True)
        ]
        weights = [part.weight for part in self.settings.parts]
        names = [part.objective.name for part in self.settings.parts]
        terms = [weight * output.loss for weight, output in zip(weights, outputs, strict=True)]

        def metrics() -> dict[str, Tensor]:
            found = {}
            for name, output in zip(names, outputs, strict=True):
                found[f"{name}/loss"] = output.loss.detach()
                found |= {f"{name}/{key}": value for key, value in output.metrics.items()}
            if all("chance_loss" in output.metrics for output in outputs):
                chances = [output.metrics["chance_loss"] for output in outputs]
                parts = [w * c for w, c in zip(weights, chances, strict=True)]
                found["chance_loss"] = torch.stack(parts).sum()
            return found

        return StepOutput(torch.stack(terms).sum(), Metrics(metrics))
