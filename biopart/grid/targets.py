"""What a network is asked for of a translation: itself, a capped one, or its logarithm."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Form = Literal["linear", "capped", "log"]
"""Form of PART's target; "linear" is the paper's."""


@dataclass(frozen=True)
class Target:
    """The form of a translation that is learnt, scaled to about -1 to 1.

    Attributes
    ----------
    form : "linear", "capped" or "log"
        ``x``, x clamped to ``-cap..cap``, or ``sign(x) log(1 + |x|)``, of translations in patch
        sizes. The last two ask less of far pairs, which a squared error is otherwise about.
    span : Tensor (axes,)
        Largest translation per axis, in patch sizes.
    cap : float
        Limit of the capped form, in patch sizes.

    Examples
    --------
    >>> log = Target("log", torch.tensor([7.0]))
    >>> scaled = log.encode(torch.tensor([7.0, -7.0, 0.0]))
    >>> scaled.tolist(), [round(x, 4) for x in log.decode(scaled).tolist()]
    ([1.0, -1.0, 0.0], [7.0, -7.0, 0.0])
    """

    form: Form
    span: Tensor
    cap: float = 3.0

    @property
    def unit(self) -> Tensor:
        """Divisor (axes,): the largest value of the form."""
        if self.form == "log":
            return torch.log1p(self.span)
        return self.span.clamp(max=self.cap) if self.form == "capped" else self.span

    def encode(self, translation: Tensor) -> Tensor:
        """Return the scaled form of translations (..., axes) in patch sizes."""
        if self.form == "capped":
            translation = translation.clamp(-self.cap, self.cap)
        elif self.form == "log":
            translation = translation.sign() * translation.abs().log1p()
        return translation / self.unit

    def decode(self, scaled: Tensor) -> Tensor:
        """Return translations in patch sizes of scaled forms (..., axes); capped ones stay so."""
        value = scaled * self.unit
        if self.form == "log":  # a wild prediction stays finite
            value = value.sign() * value.abs().clamp(max=20.0).expm1()
        return value


def pointwise(error: Tensor, kind: Literal["mse", "l1", "huber"], delta: Tensor) -> Tensor:
    """Return the loss of each error (..., axes): its square, its size, or Huber's between them.

    Huber's is ``e^2 / 2`` up to ``delta``, beyond it ``delta (|e| - delta / 2)``.

    Examples
    --------
    >>> error, delta = torch.tensor([0.5, -3.0]), torch.tensor(1.0)
    >>> pointwise(error, "huber", delta).tolist(), pointwise(error, "l1", delta).tolist()
    ([0.125, 2.5], [0.5, 3.0])
    """
    if kind == "mse":
        return error.square()
    size = error.abs()
    if kind == "l1":
        return size
    return torch.where(size <= delta, error.square() / 2, delta * (size - delta / 2))
