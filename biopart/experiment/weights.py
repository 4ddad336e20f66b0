"""Weights that a training starts from: a run of ours, a checkpoint of timm's, or a model's name."""

import argparse
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from biopart.nn import About, Encoder, from_timm
from biopart.nn.positions import longer_axes, sincos_table
from biopart.nn.weights import load_tensors, take, unlike
from biopart.run import Run, find_run

_PATCH = "patch_embed.proj.weight"  # every vision transformer in timm's names has it
_CHOSEN = ("teacher", "base_encoder", "online", "encoder_q")  # of several the one that is used
_NESTED = ("state_dict", "model", "teacher", "model_state_dict", "encoder")


@dataclass(frozen=True)
class Weights:
    """Weights of an encoder, and what is known of them.

    Attributes
    ----------
    where : str
        As they were named.
    state : mapping
        In timm's names, without a prefix.
    about : About
        What a file of ours says: channels, whom it has seen.
    built : mapping
        Arguments of the encoder that the weights are of, where the file says so.
    counts : sequence of int, optional
        Patches per axis of that encoder's grid.
    remarks : tuple of str
        What was taken off or left.
    """

    where: str
    state: Mapping[str, Tensor]
    about: About = field(default_factory=About)
    built: Mapping[str, Any] = field(default_factory=dict)
    counts: Sequence[int] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def has_positions(self) -> bool:
        """Whether they have positions that their training used."""
        return self.about.positions is not False and "pos_embed" in self.state

    def give(self, encoder: Encoder, *, positions: bool = False) -> str:
        """Load the weights into an encoder; return what was taken, for the provenance.

        Raises ValueError where heads, patch, channels, dim, depth or any shape differ.
        """
        positions = positions and encoder.takes_patches  # others have none
        own, new = (built.get("heads") for built in (self.built, encoder.arguments))
        if None not in (own, new) and own != new:  # no shape tells the number of heads
            raise ValueError(f"{self.where}: {unlike([f'heads {own} and {new}'])}")
        # Sines and cosines of a signal's patches go on beyond the pretrained window.
        signal = len(longer_axes(encoder.counts)) == 1 and encoder.embeds_positions
        go_on = positions and signal and self.built.get("position") == "sincos"
        try:
            take(self.state, encoder, positions=positions and not go_on, counts=self.counts)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from error
        if go_on:
            with torch.no_grad():
                for table in encoder.positions():
                    table.copy_(sincos_table(encoder.counts, encoder.dim))
        taken = " with its positions" if positions else ""
        return "; ".join((f"{self.where}{taken}", *self.remarks))


def start_encoder(where: str, encoder: Encoder, *, positions: bool = False) -> str:
    """Give an encoder pretrained weights.

    Parameters
    ----------
    where : str
        A run folder; a file of weights in timm's names (safetensors, or a pickle of tensors alone);
        or the name of a timm model, whose weights timm fetches (``local-dir:FOLDER`` too).
    encoder : Encoder
        Gets them.
    positions : bool
        Take positions too, interpolated where the grids differ.

    Returns
    -------
    str
        What was taken and what was left, for the provenance.

    Raises
    ------
    FileNotFoundError
        If a folder has no weights.
    ValueError
        If nothing is known by this name, a file is damaged or the weights do not fit.
    """
    return read_weights(where).give(encoder, positions=positions)


def read_weights(where: str) -> Weights:
    """Read an encoder's weights; arguments and errors as of ``start_encoder``."""
    path, run = Path(where).expanduser(), run_of(where)
    if run is not None:
        return read_run(run)
    if path.suffix == ".safetensors":
        tensors, about = load_tensors(path)
        return _plain(where, tensors, about)
    if path.is_file():
        return _plain(where, _unpickled(path), {})
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(
            f"{where} does not exist; give a run, a file of weights or the name of a timm model"
        )
    import timm  # here, since few trainings start from a model of timm's

    try:
        model: Any = timm.create_model(where, pretrained=True, num_classes=0)
    except (RuntimeError, OSError, ValueError, AssertionError, SafetensorError) as error:
        raise ValueError(
            f"{where} is neither a run nor a file of weights, and timm cannot load it: "
            f"{' '.join(str(error).split())}"
        ) from error
    size = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return Weights(where, from_timm(model.state_dict()), counts=size)


def run_of(where: str) -> Run | None:
    """Return the run that weights are named by; None of a file or a timm model."""
    path = Path(where).expanduser()
    return find_run(path) if path.is_dir() or path.name == "latest" else None


def read_run(run: Run) -> Weights:
    """Read the encoder of a run; FileNotFoundError where it has none yet."""
    origin = run.pretrained()
    tensors, metadata = load_tensors(origin.pretrained_weights(", or give --from-scratch"))
    return _described(str(origin.path), tensors, metadata)


def _described(
    where: str,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    remarks: Sequence[str] = (),
) -> Weights:
    """Return weights with what the metadata of their file say, if anything."""
    built, counts = metadata.get("encoder", {}), None
    if built:
        counts = [s // p for s, p in zip(built["shape"], built["patch"], strict=True)]
    return Weights(where, state, About.read(metadata), built, counts, tuple(remarks))


def _plain(where: str, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Weights:
    """Return weights without the prefix that a wrapper gave their names.

    Raises ValueError where several networks are in one file and none is known to be meant.
    """
    prefixes = [name.removesuffix(_PATCH) for name in state if name.endswith(_PATCH)]
    if len(prefixes) > 1:
        meant = [p for p in prefixes if p == "encoder."]  # CAE's, beside what it is aligned with
        meant = meant or [p for p in prefixes if any(word in p for word in _CHOSEN)]
        if len(meant) != 1:
            raise ValueError(
                f"{where} holds several encoders, with the prefixes "
                f"{', '.join(map(repr, prefixes))}: save one of them alone"
            )
        prefixes = meant
    prefix = prefixes[0] if prefixes else ""
    inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    remarks = [f"the prefix {prefix!r} was taken off"] if prefix else []
    rest = [name for name in state if not name.startswith(prefix)]
    remarks += [f"{len(rest)} tensors beside it were left, such as {rest[0]}"] if rest else []
    kept = from_timm(inner)
    dropped = len(inner) - len(kept)
    remarks += [f"{dropped} tensors of its head were left"] if dropped else []
    return _described(where, kept, metadata, remarks)


def _unpickled(path: Path) -> Mapping[str, Tensor]:
    """Read a pickle that holds tensors and plain settings; of a checkpoint its model."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        global_name = re.search(r"GLOBAL ([\w.]+)", str(error))
        content = (
            f"an object of {global_name[1]}" if global_name else "more than tensors, or is damaged"
        )
        raise ValueError(
            f"{path} is not a file of tensors alone: it contains {content}; save only the state "
            "dictionary of its model"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(
            f"{path} cannot be read as a file of tensors ({type(error).__name__}: {reason})"
        ) from None
    for key in _NESTED:
        inner = loaded.get(key) if isinstance(loaded, dict) else None
        loaded = inner if isinstance(inner, dict) else loaded
    if not isinstance(loaded, dict) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise ValueError(f"{path} holds no state dictionary")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
