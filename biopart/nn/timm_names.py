"""Exchange of two-axis weights with timm, whose parameter names our ViT uses."""

from collections.abc import Mapping

from torch import Tensor


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of a timm ViT's state dictionary that is the encoder.

    Drops the classification head (``head.*``); all other names and shapes are the same, so that
    ``vit.load_state_dict(from_timm(state))`` is strict. Our ``vit.state_dict()`` loads into
    ``timm.create_model(..., num_classes=0)`` unchanged.

    Examples
    --------
    >>> list(from_timm({"head.weight": Tensor(), "norm.weight": Tensor()}))
    ['norm.weight']
    """
    return {name: value for name, value in state.items() if not name.startswith("head.")}
