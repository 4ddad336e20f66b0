"""Weights in safetensors files whose metadata describe their network."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from biopart.files import whole
from biopart.nn.building import build_encoder
from biopart.nn.classifier import Classifier
from biopart.nn.encoder import Encoder
from biopart.nn.positions import interpolate, row_major
from biopart.nn.sequence import SequenceClassifier

_KERNEL = "patch_embed.proj.weight"  # a vision transformer has it under this name


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON description into one file, beside and renamed."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with whole(path) as beside:
        try:
            save_file(plain, beside, metadata={"about": json.dumps(dict(about))})
        except SafetensorError as error:  # a full disk too
            raise OSError(str(error)) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and their description.

    Raises FileNotFoundError if the file does not exist, ValueError if it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
        return load_file(path), about
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); create it again") from error


def save_encoder(path: Path, encoder: Encoder, about: Mapping[str, Any]) -> None:
    """Write an encoder with the arguments that rebuild it."""
    save_tensors(path, encoder.state_dict(), {**about, "encoder": encoder.arguments})


def load_encoder(path: Path) -> Encoder:
    """Build the encoder of a file and load its weights."""
    tensors, about = load_tensors(path)
    if "encoder" not in about:
        raise ValueError(f"{path} has no encoder of biopart; give the weights of a pretraining run")
    encoder = build_encoder(about["encoder"])
    encoder.load_state_dict(tensors)
    return encoder


def save_classifier(path: Path, model: Classifier, about: Mapping[str, Any]) -> None:
    """Write a classifier with the arguments that rebuild it."""
    built = {
        "encoder": model.encoder.arguments,
        "n_outputs": model.final_layer.out_features,
        "pool": model.pool,
    }
    save_tensors(path, model.state_dict(), {**about, **built})


def load_classifier(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """Build the classifier of a file, load its weights, and return its description too."""
    tensors, about = load_tensors(path)
    if "n_outputs" not in about or "context" in about:
        raise ValueError(f"{path} has no biopart classifier of single windows; give another file")
    model = Classifier.on(build_encoder(about["encoder"]), about["n_outputs"], pool=about["pool"])
    model.load_state_dict(tensors)
    return model.eval(), about


def save_sequence(path: Path, model: SequenceClassifier, about: Mapping[str, Any]) -> None:
    """Write a classifier of windows with context, with the arguments that rebuild it."""
    single = model.classifier
    built = {
        "encoder": single.encoder.arguments,
        "n_outputs": single.final_layer.out_features,
        "pool": single.pool,
        "context": model.context,
        "sequence": model.arguments,
    }
    save_tensors(path, model.state_dict(), {**about, **built})


def load_model(path: Path) -> tuple[Classifier | SequenceClassifier, dict[str, Any]]:
    """Build the classifier of a file, with or without context, and return its description too."""
    tensors, about = load_tensors(path)
    if "context" not in about:
        return load_classifier(path)
    single = Classifier.on(build_encoder(about["encoder"]), about["n_outputs"], pool=about["pool"])
    model = SequenceClassifier(single, about["context"], **about["sequence"])
    model.load_state_dict(tensors)
    return model.eval(), about


def transfer(source: Encoder, target: Encoder, *, positions: bool = False) -> None:
    """Copy an encoder's weights; the grids may differ in extent.

    Parameters
    ----------
    source, target : Encoder
        Equal except for their extents.
    positions : bool
        Copy the positions too, interpolated if the grids differ; else the target's are kept.

    Raises
    ------
    ValueError
        Names the differences, if the encoders are not equal.
    """
    if source.heads != target.heads:
        raise ValueError(
            f"the pretrained encoder and the new one differ: heads {source.heads} and "
            f"{target.heads}"
        )
    take(source.state_dict(), target, positions=positions, counts=source.counts)


def take(
    state: Mapping[str, Tensor],
    encoder: Encoder,
    *,
    positions: bool = False,
    counts: Sequence[int] | None = None,
) -> None:
    """Load weights with timm's names into an encoder.

    Parameters
    ----------
    state : mapping
        From one of our encoders, or from a timm ViT without its head.
    encoder : Encoder
        Receives the weights.
    positions : bool
        Load the positions too, if the encoder has learned ones, interpolated linearly if the
        grids differ; else its own are kept.
    counts : sequence of int, optional
        Patches per axis of the grid of the weights; by default a square.

    Raises
    ------
    ValueError
        If patch, channels, dim or depth differ (both are named), the encoder lacks some of the
        weights' parameters, or requested positions do not exist.
    """
    own = encoder.state_dict()
    wanted = described(own) if _KERNEL in own else {}  # of other encoders the shapes tell
    differing = [
        f"{name} {old} and {new}"
        for name, old in (described(state) if wanted else {}).items()
        if old != (new := wanted[name])
    ]
    if differing:
        raise ValueError(f"the pretrained encoder and the new one differ: {'; '.join(differing)}")
    surplus = [name for name in state if name not in own and name != "pos_embed"]
    absent = [name for name in own if name not in state and name != "pos_embed"]
    if surplus or absent:
        raise ValueError(
            "the weights are not of a plain ViT with [CLS]: "
            + "; ".join(
                f"{what} {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}"
                for what, names in (("the encoder lacks", surplus), ("they lack", absent))
                if names
            )
        )
    weights = {name: value for name, value in state.items() if name != "pos_embed"}
    shaped = [
        f"{name} {tuple(value.shape)} and {tuple(own[name].shape)}"
        for name, value in weights.items()
        if value.shape != own[name].shape
    ]
    if shaped:
        raise ValueError(f"the pretrained encoder and the new one differ: {'; '.join(shaped[:3])}")
    if positions and encoder.position == "learned":
        if "pos_embed" not in state:
            raise ValueError("the weights have no positions to keep; set keep_positions to false")
        weights["pos_embed"] = moved_positions(state["pos_embed"], encoder, counts)
    encoder.load_state_dict(weights, strict=False)


def described(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return patch, channels, dim and depth of an encoder's weights; ValueError for others.

    Examples
    --------
    >>> from biopart.nn import ViT
    >>> described(ViT((8,), (2,), 3, 4, 2, 1).state_dict())
    {'patch': [2], 'channels': 3, 'dim': 4, 'depth': 2}
    """
    kernel = state.get(_KERNEL)
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if kernel is None or not blocks:
        raise ValueError("the weights do not belong to a vision transformer with timm's names")
    dim, channels, *patch = kernel.shape
    return {"patch": patch, "channels": channels, "dim": dim, "depth": len(blocks)}


def moved_positions(table: Tensor, encoder: Encoder, counts: Sequence[int] | None) -> Tensor:
    """Return a table of positions (1, 1 + K, D) for an encoder's grid; [CLS] keeps its own."""
    n_positions = table.shape[1] - 1
    axes = len(encoder.patch)
    if counts is None:
        side = round(n_positions ** (1 / axes))
        counts = (side,) * axes
    if prod(counts) != n_positions:
        raise ValueError(
            f"the weights have {n_positions} positions, which fill no grid of {axes} equal axes; "
            "do not keep them"
        )
    if tuple(counts) == encoder.counts:
        return table
    ratio = torch.tensor(counts) / torch.tensor(encoder.counts)
    coordinates = (row_major(encoder.counts) + 0.5) * ratio - 0.5
    moved = interpolate(table[0, 1:], coordinates[None], counts)
    return torch.cat([table[:, :1], moved.to(table.dtype)], dim=1)
