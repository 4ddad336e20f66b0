"""Segment: a class at every place, of images by their masks, of recordings by their events."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from biopart.compute import cores, describe
from biopart.data import Windows, WindowSource
from biopart.data.dense import DenseImages, DenseWindows
from biopart.data.items import Tiles
from biopart.data.pictures import target_of
from biopart.evaluation.answers import Answer, dense_answers, event_answers
from biopart.evaluation.dense import class_ious, dense_counts
from biopart.experiment import Experiment
from biopart.experiment.weights import read_weights
from biopart.images.annotated import opened, read_annotated
from biopart.nn import Encoder, Normalise, build_encoder
from biopart.nn.weights import save_tensors
from biopart.objectives import Segment
from biopart.run import Run
from biopart.store.parts_card import load_parts_card
from biopart.tasks.own import OwnTask
from biopart.tasks.trunk import start_trunk
from biopart.train import Training


@dataclass
class Segmentation(OwnTask):
    """The training of a segmentation by a recipe's ``segment`` section.

    Attributes
    ----------
    recipe : Recipe
        ``encoder`` is the trunk, ``segment`` the rest.
    """

    def __post_init__(self) -> None:
        settings = self.recipe.segment
        self.classes, self.source = self.open()
        torch.manual_seed(self.recipe.seed)
        encoder = self.encoder()
        self.started_from, self.fresh = start_trunk(encoder, settings)
        model = settings.model.model_copy(update={"classes": len(self.classes)})
        self.objective = Segment(encoder, model)

    @abstractmethod
    def open(self) -> tuple[tuple[str, ...], Windows]:
        """Open the data; return the names of the classes and what is learnt from."""

    @abstractmethod
    def encoder(self) -> Encoder:
        """Build a new encoder."""

    @abstractmethod
    def answers(self, fabric: Fabric) -> tuple[list[Answer], NDArray[np.int64]]:
        """Return the scores on test items, and counts (3, classes) of all places."""

    def training(self, fabric: Fabric) -> Training:
        """Return what is trained."""
        recipe = self.recipe
        training = Training(
            self.objective,
            self.source,
            recipe.segment,
            recipe.data.normalise,
            recipe.seed,
            fresh=tuple(self.fresh),
        )
        self.provenance = {
            "kind": "segmentation",
            "weights": self.started_from,
            "seed": recipe.seed,
            "chosen": describe(fabric, self.source),
            "steps": training.steps,
            "parameters": sum(p.numel() for p in self.objective.parameters()),
            **self.about(),
        }
        return training

    def about(self) -> dict[str, Any]:
        """Return what else belongs into the provenance."""
        return {}

    def save(self, path: Path) -> None:
        """Write the network with its classes."""
        about: dict[str, Any] = {
            "classes": list(self.classes),
            "recipe": self.recipe.name,
            "encoder": self.objective.encoder.arguments,
        }
        save_tensors(path, self.objective.state_dict(), about)

    def score(self, run: Run, fabric: Fabric) -> dict[str, Any]:
        """Score every place of the test items."""
        self.objective.to(fabric.device).eval()
        answers, counts = self.answers(fabric)
        scores = {
            f"{answer.task}, {answer.measure}": {"value": answer.value, "ci95": answer.interval}
            for answer in answers
        }
        return {"scores": scores, "iou": class_ious(counts, self.classes)}

    @torch.no_grad()
    def logits(self, values: Tensor, fabric: Fabric) -> Tensor:
        """Return scores of stored values (B, C, *S) at every place, on the CPU."""
        prepared = Normalise(self.recipe.data.normalise)(values.to(fabric.device))
        with fabric.autocast():
            return self.objective.logits(prepared).cpu()


@dataclass
class EventSegmentation(Segmentation):
    """Events of recordings, sample by sample: fitted on a recipe's persons, scored on its test.

    Raises
    ------
    ValueError
        If the store has no events, or the weights have seen a test person.
    """

    experiment: Experiment | None = None

    def open(self) -> tuple[tuple[str, ...], Windows]:
        """Open the windows of the persons that can be labelled."""
        experiment = self.experiment
        assert experiment is not None
        split = experiment.split
        parts = [experiment.source(persons) for persons in (split.finetune, split.test)]
        windows = [part for part in parts if isinstance(part, WindowSource)]
        if len(windows) < len(parts) or not experiment.cohort.event_names:
            raise ValueError(
                f"{experiment.cohort.path} has no events; state them in its card (events: ...) and "
                "prepare it again, or give segment.card for images"
            )
        if self.recipe.segment.weights is not None:
            seen = read_weights(self.recipe.segment.weights).about.seen
            experiment.refuse_seen(split.test, seen)
        source, self.test = DenseWindows(windows[0]), Tiles(windows[1])
        tiles = (source.tiles, self.test)
        windows_of = [len(part) for part in tiles]
        n_events = [sum(len(part.events(n)) for n in set(part.record.tolist())) for part in tiles]
        if 0 in (*windows_of, *n_events):
            raise ValueError(
                f"{windows_of[0]} windows with {n_events[0]} events are left to learn from and "
                f"{windows_of[1]} with {n_events[1]} to score; all are needed: check the events of "
                "the card, split.test_persons and split.validation_persons"
            )
        return self.test.names, source

    def encoder(self) -> Encoder:
        """Build a new encoder for the windows."""
        assert self.experiment is not None
        return self.experiment.encoder("learned", self.recipe.seed)

    def about(self) -> dict[str, Any]:
        """Return whether the recordings are simulated."""
        assert self.experiment is not None
        return {"simulated": self.experiment.simulated}

    def answers(self, fabric: Fabric) -> tuple[list[Answer], NDArray[np.int64]]:
        """Score samples and events of the test persons."""
        test, batch = self.test, self.recipe.segment.batch
        predicted = np.zeros((len(test), test.size), np.int16)
        counts = np.zeros((len(test), 3, len(self.classes)), np.int64)
        for start in range(0, len(test), batch):
            block = np.arange(start, min(start + batch, len(test)))
            predicted[block] = self.logits(test.values(block), fabric).argmax(1).numpy()
            truth = test.targets(block).numpy()
            for row, item in enumerate(block.tolist()):
                counts[item] = dense_counts(truth[row], predicted[item], len(self.classes))
        answers = [
            *dense_answers("event segmentation", "tokens", counts, test.units),
            *event_answers("event", test.names[1:], test.marked(predicted)),
        ]
        return answers, counts.sum(0)


class ImageSegmentation(Segmentation):
    """Annotated images, pixel by pixel, scored in their own size.

    Raises
    ------
    FileNotFoundError, ValueError
        If annotations or images are missing or damaged, or the encoder is not of images.
    """

    def open(self) -> tuple[tuple[str, ...], Windows]:
        """Read the images of the card."""
        settings = self.recipe.segment
        if settings.card is None or settings.raw is None:
            raise ValueError("give segment.card and segment.raw, the folder of its images")
        if len(self.recipe.encoder.patch) != 2:
            raise ValueError(
                f"{settings.card} has images; encoder.patch is {self.recipe.encoder.patch}, so "
                "give two sides"
            )
        train, self.test = read_annotated(load_parts_card(settings.card), settings.raw)
        source = DenseImages(
            train, settings.canvas, scale=settings.scale, flip=settings.flip, threads=cores()
        )
        return source.names, source

    def encoder(self) -> Encoder:
        """Build a new encoder for the crops."""
        settings, side = self.recipe.encoder, self.recipe.segment.canvas
        arguments = settings.arguments(position="learned", drop_path=None, sfreq_hz=None)
        return build_encoder({"shape": (side, side), "channels": 3, **arguments})

    def answers(self, fabric: Fabric) -> tuple[list[Answer], NDArray[np.int64]]:
        """Score every pixel of whole test images, whose shorter side becomes the canvas."""
        scenes, classes = self.test.scenes, len(self.classes)
        counts = np.zeros((len(scenes), 3, classes), np.int64)
        for number, scene in enumerate(scenes):
            own = scene.height, scene.width
            size = fitted(own, self.recipe.segment.canvas, self.objective.encoder.patch)
            image = opened(scene).resize(size[::-1], Image.Resampling.BILINEAR)
            values = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())[None]
            outputs = self.logits(values, fabric)
            whole = F.interpolate(outputs, own, mode="bilinear", align_corners=False)
            truth = target_of(self.test, number, own)
            counts[number] = dense_counts(truth, whole[0].argmax(0).numpy(), classes)
        answers = dense_answers("segmentation", "tokens", counts, [s.name for s in scenes])
        return answers, counts.sum(0)


def fitted(size: tuple[int, int], canvas: int, patch: tuple[int, ...]) -> tuple[int, int]:
    """Return the size of an image whose shorter side is a canvas, in whole patches.

    Examples
    --------
    >>> fitted((375, 500), 512, (16, 16))
    (512, 688)
    """
    factor = canvas / min(size)
    height, width = (
        max(1, round(extent * factor / side)) * side
        for extent, side in zip(size, patch, strict=True)
    )
    return height, width
