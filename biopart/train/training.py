"""A training task: objective, data, settings and validation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from biopart.data import Batch, Sampler, Source, Windows
from biopart.nn import Normalise
from biopart.recipe import Normalisation, Optimisation
from biopart.views import Augment, Views

Row = dict[str, Any]


@runtime_checkable
class Following(Protocol):
    """An objective whose teacher follows the encoder after every step."""

    def after_step(self, progress: float) -> None:
        """Update the teacher; progress in (0, 1]."""


@dataclass(frozen=True)
class Training:
    """A training task: objective, data, settings and validation.

    Attributes
    ----------
    objective : nn.Module
        Takes (batch, generator, progress), returns a StepOutput; has ``.encoder``.
    source : Windows
        Windows to train on.
    settings : Optimisation
        Epochs, batch, learning rate and so on.
    normalise : "window", "recording", "imagenet" or "none"
        Applied on the device before the objective sees a batch.
    seed : int
        Seed of order and randomness.
    validate : callable, optional
        Scores held-out persons; called every ``settings.validate_every`` epochs.
    select : str, optional
        Score whose best value decides which weights are kept.
    patience : int, optional
        Validations without improvement before stopping.
    augment : Augment, optional
        Changes images before and after they are normalised.
    views : Views, optional
        Makes several views of every item, for methods that compare them.
    fresh : tuple of nn.Parameter
        Parameters of the encoder that were not pretrained: they have the whole rate, whatever
        their layer.
    probe : callable, optional
        Rates the encoder, without changing it, before the first step, every ``probe_every`` epochs
        and at the end.
    """

    objective: nn.Module
    source: Windows
    settings: Optimisation
    normalise: Normalisation
    seed: int
    validate: Callable[[], Row] | None = None
    select: str | None = None
    patience: int | None = None
    augment: Augment | None = None
    views: Views | None = None
    fresh: tuple[nn.Parameter, ...] = ()
    probe: Callable[[], Row] | None = None
    probe_every: int = 1

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return self.settings.steps or self.settings.epochs * len(self.sampler)

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Normalise a batch on its device, augmented if the task says so."""
        normalise = Normalise(self.normalise)
        if batch.context is not None and batch.values.dim() > 3:  # each window separately
            flat = normalise(batch.values.flatten(0, 1))
            return replace(batch, values=flat.reshape(batch.values.shape))
        if self.views is not None:  # what is augmented is the items, of a sum that sees them too
            seen = self.views(batch, normalise, generator)
            if self.augment is None:
                return seen
            return replace(seen, values=normalise(self.augment.pixels(batch.values, generator)))
        if self.augment is None:
            return replace(batch, values=normalise(batch.values))
        values = normalise(self.augment.pixels(batch.values, generator))
        return self.augment.targets(replace(batch, values=values), generator)

    @property
    def sampler(self) -> Sampler:
        """The order of items."""
        return Sampler(
            len(self.source),
            self.settings.batch,
            self.seed,
            self.settings.repeats,
            self.source.groups if isinstance(self.source, Source) else None,
        )
