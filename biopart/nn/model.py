"""Weights with what is known of them: the one way to use a trained network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biopart.codes import MISSING
from biopart.grid import grid_boxes, patchify
from biopart.nn.about import About
from biopart.nn.building import build_encoder
from biopart.nn.classifier import Classifier
from biopart.nn.encoder import Encoder
from biopart.nn.normalise import Normalise
from biopart.nn.sequence import SequenceClassifier
from biopart.nn.weights import load_tensors, save_tensors
from biopart.recipe import Pool, resolve
from biopart.run import Run, as_run
from biopart.settings import read_yaml

Net = Encoder | Classifier | SequenceClassifier


class Model(nn.Module):
    """A trained network on stored values, which it normalises by itself.

    Parameters
    ----------
    net : Encoder, Classifier or SequenceClassifier
        Of normalised values; used directly, not copied.
    about : About
        What it was trained on.
    """

    def __init__(self, net: Net, about: About) -> None:
        super().__init__()
        self.net, self.about = net, about
        self.normalise = Normalise(about.normalise)

    @classmethod
    def load(cls, where: Run | Path | str) -> "Model":
        """Load a model, on the CPU and in evaluation mode.

        Parameters
        ----------
        where : Run or path
            A file of weights; a fine-tuning; or a run, whose pretrained encoder is taken.

        Raises
        ------
        FileNotFoundError
            If there are no weights.
        ValueError
            If the file is damaged, or not of biopart.
        """
        if not isinstance(where, Run) and Path(where).suffix == ".safetensors":
            return cls._read(Path(where))
        run = as_run(where)
        if run.model.is_file() and run.kind == "pretraining":
            return cls._read(run.model)
        origin = run.pretrained()
        model = cls._read(origin.pretrained_weights())
        if model.about.positions is None:  # a file of before; its recipe tells
            recipe = resolve(read_yaml(origin.path / "recipe.yaml"), [], f"{origin.path}")
            given = recipe.pretrain.objective.uses_positions
            model.about = model.about.model_copy(update={"positions": given})
        return model

    @classmethod
    def _read(cls, path: Path) -> "Model":
        """Build the network of a file and load its weights."""
        tensors, metadata = load_tensors(path)
        if "encoder" not in metadata:
            raise ValueError(f"{path} has no encoder of biopart; give the weights of a run")
        net = build_net(metadata)
        net.load_state_dict(tensors)
        return cls(net, About.read(metadata)).eval()

    def save(self, path: Path) -> None:
        """Write the weights into one file, with what builds them again and what is known."""
        save_tensors(path, self.net.state_dict(), {**self.about.to_json(), **self.structure})

    @property
    def structure(self) -> dict[str, Any]:
        """What builds the network again, ready for JSON."""
        structure: dict[str, Any] = {"encoder": self.encoder.arguments}
        if self.single is not None:
            outputs = self.single.final_layer.out_features
            structure |= {"n_outputs": outputs, "pool": self.single.pool}
        if isinstance(self.net, SequenceClassifier):
            structure |= {"context": self.net.context, "sequence": self.net.arguments}
        return structure

    @property
    def single(self) -> Classifier | None:
        """The classifier of single windows, which one with context has inside; None = encoder."""
        if isinstance(self.net, SequenceClassifier):
            return self.net.classifier
        return self.net if isinstance(self.net, Classifier) else None

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self.net if isinstance(self.net, Encoder) else self.net.encoder

    @property
    def context(self) -> int:
        """Windows L that a decision looks at."""
        return self.net.context if isinstance(self.net, SequenceClassifier) else 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none of an encoder alone."""
        return () if self.single is None else self.about.label_names

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, values: Tensor) -> Tensor:
        """Return logits of a classifier, tokens of an encoder alone."""
        return self.tokens(values) if self.single is None else self.logits(values)

    def logits(self, values: Tensor) -> Tensor:
        """Classify stored values, or floats in any scale with NaN = missing.

        A model of ``about.by_recording`` takes windows of a source that has it too, or floats in
        deviations of their recording (``data.deviations``).

        (B, C, *S) -> (B, classes); with context (B, L, C, *S) -> (B, L, classes), where windows of
        nothing but missing samples are not there.

        Raises
        ------
        ValueError
            If there is no classifier, or one with context is given single windows.
        """
        if isinstance(self.net, SequenceClassifier):
            if values.dim() != 3 + len(self.encoder.shape):
                raise ValueError(
                    f"this model classifies sequences of {self.context} windows, (B, L, C, *S); "
                    f"the values have shape {tuple(values.shape)}"
                )
            absent = values.isnan() if values.is_floating_point() else values == MISSING
            windows = self.normalise(values.flatten(0, 1)).reshape(values.shape)
            logits: Tensor = self.net(windows, ~absent.flatten(2).all(-1))
        elif isinstance(self.net, Classifier):
            logits = self.net(self.normalise(values))
        else:
            raise ValueError("these weights are an encoder's, which has no classes; fine-tune it")
        return logits

    def tokens(self, values: Tensor, positions: Tensor | None = None) -> Tensor:
        """Encode stored values (B, C, *S), patches on the grid -> (B, 1 + K, D), [CLS] first.

        Parameters
        ----------
        values : Tensor (B, C, *S)
            Integers as stored, or floats in any scale, NaN = missing.
        positions : Tensor (B, K, N), optional
            As of the encoder. By default patches have theirs where they had them in training.
        """
        if not self.encoder.takes_patches:
            return self.encoder.encode(self.normalise(values))
        patch = self.encoder.patch
        patches = patchify(self.normalise(values), patch)
        if positions is None and self.encoder.position != "none":
            if self.about.positions is False:
                shape = (*patches.shape[:2], len(patch))
                positions = torch.full(shape, torch.nan, device=patches.device)
            elif patches.shape[1] != self.encoder.n_patches:  # a window of another length
                positions = grid_boxes(values.shape[2:], patch).start.float().to(patches.device)
                positions = positions.expand(len(patches), -1, -1)
        tokens: Tensor = self.encoder(patches, positions)
        return tokens

    def embed(self, values: Tensor, pool: Pool = "mean") -> Tensor:
        """Embed stored values, (B, C, *S) -> (B, D): the mean of the patch tokens, or [CLS]."""
        tokens = self.tokens(values)
        return tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(1)


def build_net(metadata: Mapping[str, Any]) -> Net:
    """Build the network that the metadata of a file describe, with new weights."""
    encoder = build_encoder(metadata["encoder"])
    if "n_outputs" not in metadata:
        return encoder
    single = Classifier.on(encoder, metadata["n_outputs"], pool=metadata["pool"])
    if "context" not in metadata:
        return single
    return SequenceClassifier(single, metadata["context"], **metadata["sequence"])


def load(run: Run | Path | str) -> Model:
    """Load a fine-tuned model.

    Parameters
    ----------
    run : Run or path
        A fine-tuning, or a run whose newest fine-tuning is taken.

    Returns
    -------
    Model
        ``model(values (B, C, *S)) -> logits (B, classes)``; normalises by itself, any scale. With
        context: ``model(values (B, L, C, *S)) -> logits (B, L, classes)``; windows of nothing but
        missing samples (NaN, or -32768 of int16) are not there.
    """
    return Model.load(as_run(run).finetuned())
