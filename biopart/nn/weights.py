"""Weights in safetensors files that say themselves which network they belong to."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from biopart.nn.classifier import Classifier
from biopart.nn.sequence import SequenceClassifier
from biopart.nn.vit import ViT


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON description into one file, beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, beside, metadata={"about": json.dumps(dict(about))})
    beside.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and their description.

    Raises FileNotFoundError where there is no file, ValueError where it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
        return load_file(path), about
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); make it again") from error


def save_encoder(path: Path, encoder: ViT, about: Mapping[str, Any]) -> None:
    """Write an encoder with the arguments that build it."""
    save_tensors(path, encoder.state_dict(), {**about, "encoder": encoder.arguments})


def load_encoder(path: Path) -> ViT:
    """Build the encoder of a file and load its weights."""
    tensors, about = load_tensors(path)
    if "encoder" not in about:
        raise ValueError(f"{path} holds no encoder of biopart")
    encoder = ViT(**about["encoder"])
    encoder.load_state_dict(tensors)
    return encoder


def save_classifier(path: Path, model: Classifier, about: Mapping[str, Any]) -> None:
    """Write a classifier with the arguments that build it."""
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
        raise ValueError(f"{path} holds no classifier of single windows by biopart")
    model = Classifier.on(ViT(**about["encoder"]), about["n_outputs"], pool=about["pool"])
    model.load_state_dict(tensors)
    return model.eval(), about


def save_sequence(path: Path, model: SequenceClassifier, about: Mapping[str, Any]) -> None:
    """Write a classifier of windows by their neighbours, with the arguments that build it."""
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
    """Build the classifier of a file, of one window or of many, and return its description too."""
    tensors, about = load_tensors(path)
    if "context" not in about:
        return load_classifier(path)
    single = Classifier.on(ViT(**about["encoder"]), about["n_outputs"], pool=about["pool"])
    model = SequenceClassifier(single, about["context"], **about["sequence"])
    model.load_state_dict(tensors)
    return model.eval(), about


def transfer(source: ViT, target: ViT) -> None:
    """Copy an encoder's weights except its positions, which stay new; grids may differ in extent.

    Raises ValueError naming what differs, where the encoders are not alike.
    """
    old, new = source.arguments, target.arguments
    differing = [
        f"{name} {old[name]} and {new[name]}"
        for name in ("patch", "channels", "dim", "depth", "heads")
        if old[name] != new[name]
    ]
    if differing:
        raise ValueError(f"the pretrained encoder and the new one differ: {'; '.join(differing)}")
    state = {name: value for name, value in source.state_dict().items() if name != "pos_embed"}
    target.load_state_dict(state, strict=False)
