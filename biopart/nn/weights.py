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
from biopart.nn.encoder import Encoder
from biopart.nn.positions import interpolate, is_position, longer_axes, row_major

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
        Load the table of positions too, whether it was learned or is of sines and cosines (in the
        order of axes of the code that made it); interpolated linearly if the grids differ. Else
        the encoder's own stay. Of signals, whose patches keep their length, a shorter window takes
        the first of the table.
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
        raise unlike(differing)
    surplus = [name for name in state if name not in own and not is_position(name)]
    absent = [name for name in own if name not in state and not is_position(name)]
    if surplus or absent:
        raise ValueError(
            "the weights are not of a plain ViT with [CLS]: "
            + "; ".join(
                f"{what} {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}"
                for what, names in (("the encoder lacks", surplus), ("they lack", absent))
                if names
            )
        )
    weights = {name: value for name, value in state.items() if not is_position(name)}
    if positions:
        weights |= _kept_positions(state, encoder, counts)
    shaped = [
        f"{name} {tuple(value.shape)} and {tuple(own[name].shape)}"
        for name, value in weights.items()
        if value.shape != own[name].shape
    ]
    if shaped:
        raise unlike(shaped[:3])
    encoder.load_state_dict(weights, strict=False)


def unlike(differences: Sequence[str]) -> ValueError:
    """Return the error of weights that do not fit an encoder, with both values of each key."""
    return ValueError(
        f"the pretrained encoder and the new one differ: {'; '.join(differences)}; set the "
        "recipe's encoder keys to those of the pretraining, or choose other weights"
    )


def _kept_positions(
    state: Mapping[str, Tensor], encoder: Encoder, counts: Sequence[int] | None
) -> dict[str, Tensor]:
    """Return the positions among weights, for an encoder's grid; ValueError if there are none."""
    if encoder.position == "none":
        raise ValueError(
            "an encoder without positions keeps none; set position to learned or sincos, or "
            "keep_positions to false"
        )
    wanted = [name for name in encoder.state_dict() if is_position(name)]
    if any(name not in state for name in wanted):
        raise ValueError(
            f"the weights have no {encoder.position} positions to keep; set keep_positions to false"
        )
    if encoder.embeds_positions:
        return {name: moved_positions(state[name], encoder, counts) for name in wanted}
    return {name: state[name] for name in wanted}


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
    if len(longer_axes(encoder.counts)) == 1:
        if encoder.n_patches > n_positions:
            raise ValueError(
                f"the weights have {n_positions} positions, fewer than the {encoder.n_patches} "
                "patches of a window; set keep_positions to false or take shorter windows"
            )
        return table[:, : 1 + encoder.n_patches]
    ratio = torch.tensor(counts) / torch.tensor(encoder.counts)
    coordinates = (row_major(encoder.counts) + 0.5) * ratio - 0.5
    moved = interpolate(table[0, 1:], coordinates[None], counts)
    return torch.cat([table[:, :1], moved.to(table.dtype)], dim=1)
