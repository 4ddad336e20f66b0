"""The one place where encoders are built."""

from collections.abc import Mapping
from typing import Any

from biopart.nn.encoder import Encoder
from biopart.nn.resnet import ResNet
from biopart.nn.timm_encoder import TimmEncoder
from biopart.nn.vit import ViT

ENCODERS: dict[str, type[Encoder]] = {
    ViT.name: ViT,
    ResNet.name: ResNet,
    TimmEncoder.name: TimmEncoder,
}


def build_encoder(arguments: Mapping[str, Any]) -> Encoder:
    """Build an encoder from what ``Encoder.arguments`` gave, with new weights.

    Parameters
    ----------
    arguments : mapping
        ``name`` of the encoder ("vit" by default, as in files without it) and its arguments.

    Raises
    ------
    ValueError
        If there is no encoder of that name, or the arguments do not fit each other.

    Examples
    --------
    >>> build_encoder({"shape": [8], "patch": [2], "channels": 1, "dim": 4, "depth": 1, "heads": 1})
    ... # doctest: +ELLIPSIS
    ViT(...
    """
    given = dict(arguments)
    name = given.pop("name", ViT.name)
    if name not in ENCODERS:
        raise ValueError(f"there is no encoder {name!r}; choose one of {', '.join(ENCODERS)}")
    return ENCODERS[name](**given)
