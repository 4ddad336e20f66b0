"""Weights that a training starts from: a run of ours, a checkpoint of timm's, or a model's name."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor

from biopart.nn import ViT, from_timm
from biopart.nn.weights import load_tensors, take
from biopart.run import Run


def start_encoder(where: str, encoder: ViT, *, positions: bool = False) -> str:
    """Give an encoder pretrained weights.

    Parameters
    ----------
    where : str
        A run folder; a file of weights in timm's names (safetensors, or a pickle of tensors alone);
        or the name of a timm model, whose weights timm fetches (``local-dir:FOLDER`` too).
    encoder : ViT
        Gets them.
    positions : bool
        Take positions too, interpolated where the grids differ.

    Returns
    -------
    str
        What was taken, for the provenance.

    Raises
    ------
    FileNotFoundError
        If a folder has no weights.
    ValueError
        If nothing is known by this name, a file is damaged or the weights do not fit.
    """
    state, counts = read_weights(where)
    try:
        take(state, encoder, positions=positions, counts=counts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return f"{where}{' with its positions' if positions else ''}"


def read_weights(where: str) -> tuple[dict[str, Tensor], Sequence[int] | None]:
    """Read an encoder's weights and, where it is known, the patches per axis of its grid."""
    path = Path(where)
    if path.is_dir():
        encoder = Run(path).pretrained().encoder
        if not encoder.is_file():
            raise FileNotFoundError(f"{path} has no weights yet; finish it first")
        tensors, about = load_tensors(encoder)
        sides = zip(about["encoder"]["shape"], about["encoder"]["patch"], strict=True)
        return tensors, [extent // side for extent, side in sides]
    if path.suffix == ".safetensors":
        tensors, _ = load_tensors(path)
        return from_timm(tensors), None
    if path.is_file():
        return from_timm(_unpickled(path)), None
    try:
        model: Any = timm.create_model(where, pretrained=True, num_classes=0)
    except (RuntimeError, OSError, ValueError, AssertionError, SafetensorError) as error:
        raise ValueError(
            f"{where} is no run, no file of weights and no timm model with weights: "
            f"{' '.join(str(error).split())}"
        ) from error
    size = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return from_timm(model.state_dict()), size


def _unpickled(path: Path) -> Mapping[str, Tensor]:
    """Read a pickle that holds tensors and nothing else; of a checkpoint its model."""
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no file of tensors alone: {error}") from error
    for key in ("state_dict", "model"):
        given = given[key] if isinstance(given, dict) and key in given else given
    if not isinstance(given, dict) or not all(isinstance(v, Tensor) for v in given.values()):
        raise ValueError(f"{path} holds no state dictionary")
    return given
