"""A teacher that follows a student by moving average, and what it remembers of earlier batches."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.nn.building import build_encoder
from biopart.nn.encoder import Encoder
from biopart.nn.processes import counts, gathered, several, summed


class Teacher(nn.ModuleDict):
    """Copies of parts of a student, without gradients, dropout and drop path.

    Parameters
    ----------
    parts : dict
        Name -> module of the student; an ``Encoder`` is built anew without drop path.
    """

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__({name: copied(module) for name, module in parts.items()})
        self.requires_grad_(False)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Move all weights towards those of the student: m t + (1 - m) s."""
        for name, module in self.items():
            own: list[Tensor] = list(module.parameters())
            new: list[Tensor] = list(student.get_submodule(name).parameters())
            if not own:
                continue
            torch._foreach_lerp_(own, new, 1 - momentum)


def copied(module: nn.Module) -> nn.Module:
    """Copy a module; an encoder without drop path and dropout."""
    if not isinstance(module, Encoder):
        return deepcopy(module)
    arguments = dict(module.arguments)
    arguments |= {key: 0.0 for key in ("drop_path", "dropout") if key in arguments}
    encoder = build_encoder(arguments)
    encoder.load_state_dict(module.state_dict())
    return encoder


def momentum_at(progress: float, first: float) -> float:
    """Return the momentum of a moving average, by a cosine from the first value to 1.

    BYOL (arXiv 2006.07733, section 3.2): ``1 - (1 - first) (cos(pi k / K) + 1) / 2``.

    Examples
    --------
    >>> momentum_at(0.0, 0.996), momentum_at(0.5, 0.996), momentum_at(1.0, 0.996)
    (0.996, 0.998, 1.0)
    """
    return 1 - (1 - first) * (math.cos(math.pi * progress) + 1) / 2


class Centre(nn.Module):
    """The moving mean of a teacher's outputs over all processes (DINO, equation 4).

    Parameters
    ----------
    features : int
        Outputs.
    momentum : float
        Of the mean.
    """

    value: Tensor

    def __init__(self, features: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(features))
        self._sum: Tensor | None = None
        self._count = 0

    def keep(self, outputs: Tensor) -> None:
        """Remember outputs (..., features) of this step; ``update`` takes them in."""
        if not counts():
            return
        rows = outputs.detach().float().flatten(0, -2)
        own = rows.sum(0)
        self._sum = own if self._sum is None else self._sum + own
        self._count += len(rows)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the mean of what was kept since the last update, of all processes."""
        if self._sum is None and not several():
            return
        own = torch.zeros_like(self.value) if self._sum is None else self._sum
        count = summed(own.new_tensor(float(self._count)))
        mean = summed(own) / count.clamp(min=1)
        self.value.lerp_(torch.where(count > 0, mean, self.value), 1 - self.momentum)
        self._sum, self._count = None, 0


class Queue(nn.Module):
    """The last keys of a teacher, of all processes (MoCo, arXiv 1911.05722).

    Parameters
    ----------
    size, features : int
        Number of keys and their features; they start as random unit vectors.
    """

    keys: Tensor
    place: Tensor

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, features), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._kept: list[Tensor] = []

    def keep(self, keys: Tensor) -> None:
        """Remember keys (n, features) of this step; ``update`` takes them in."""
        if counts():
            self._kept.append(keys.detach().float())

    @torch.no_grad()
    def update(self) -> None:
        """Replace the oldest keys by those kept since the last update, of all processes."""
        if not self._kept and not several():
            return
        new = gathered(torch.cat([self.keys[:0], *self._kept]))[-len(self.keys) :]
        self._kept = []
        at = (self.place + torch.arange(len(new), device=new.device)) % len(self.keys)
        self.keys.index_copy_(0, at, new)
        self.place.copy_((self.place + len(new)) % len(self.keys))
