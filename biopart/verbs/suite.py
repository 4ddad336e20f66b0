"""The part-aware evaluation: what frozen encoders know of objects and their parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopart.compute import open_fabric
from biopart.data import Source, WindowSource
from biopart.data.items import EventItems, Items, SourceItems, Tiles
from biopart.data.pictures import masked_images, object_crops, part_crops, person_crops
from biopart.evaluation.answers import Answer
from biopart.experiment import Experiment, open_experiment, stored_recipe
from biopart.experiment.stored import load_objective
from biopart.experiment.weights import read_weights
from biopart.images.annotated import Annotated, read_annotated
from biopart.nn import About, Model, build_encoder
from biopart.nn.siamese import OnViews, Siamese
from biopart.nn.timm_encoder import load_timm
from biopart.probing.dense import segmentation
from biopart.probing.pose import pose
from biopart.probing.retrieval import Retrieved
from biopart.probing.suite import Asked, Projection, classification, retrieval
from biopart.probing.tokens import BATCH, Tokens
from biopart.recipe import ComputeSettings
from biopart.run import Run
from biopart.store.attributes import is_store
from biopart.store.parts_card import load_parts_card
from biopart.store.seen import Seen

ITEMS = 20_000  # of a task, at most
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Candidate:
    """An encoder that is asked.

    Attributes
    ----------
    name : str
        On the page.
    model : Model
        On the device that computes.
    experiment : Experiment, optional
        Of a run: its recipe with the data opened.
    projection : callable, optional
        Of a method with a projector.
    notes : tuple of str
        What became of a file of weights.
    """

    name: str
    model: Model
    experiment: Experiment | None = None
    projection: Projection | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """What encoders are asked about.

    Attributes
    ----------
    place : Path
        A store, or the card of annotated images.
    raw : Path, optional
        Raw folder of annotated images.
    most : int
        Items of a task, at most.
    """

    place: Path
    raw: Path | None = None
    most: int = ITEMS

    @property
    def is_store(self) -> bool:
        """Whether it is a store: recordings with events, or images with labels."""
        return self.place.is_dir() and is_store(self.place)


@dataclass(frozen=True)
class Found:
    """Answers of one encoder, and what its queries found.

    Attributes
    ----------
    name : str
        The encoder.
    answers : list of Answer
        In the order of the tasks.
    retrieved : dict
        Kind of items -> neighbours by the mean token, and the items themselves.
    notes : list of str
        What was left out.
    """

    name: str
    answers: list[Answer]
    retrieved: dict[str, tuple[Retrieved, Any]]
    notes: list[str]


def candidates(
    runs: Sequence[Run], data: Data, *, changes: Sequence[str] = (), seed: int = 0
) -> list[Candidate]:
    """Open the encoders of runs, and an untrained one of the first run's recipe.

    Raises ValueError where runs are tested on different persons, or one has seen test persons.
    """
    found: list[Candidate] = []
    for run in runs:
        origin = run.pretrained()
        recipe = stored_recipe(origin, changes, data.place if data.is_store else None)
        experiment = open_experiment(recipe) if data.is_store else None
        model = Model.load(origin)
        if experiment is not None:
            experiment.refuse_seen(experiment.split.test, model.about.seen)
        device = device_of(recipe.compute)
        name = name_of(origin, [one.name for one in found])
        if not found:
            found.append(untrained(model, experiment, device, seed))
        projection = projection_of(origin, device)
        found.append(Candidate(name, model.to(device), experiment, projection))
    tested = {one.experiment.split.test for one in found if one.experiment is not None}
    if len(tested) > 1:
        raise ValueError(
            "the runs are tested on different persons; give them the same with --set "
            "split.seed=... and split.test_persons=..."
        )
    return found


def timm_candidates(named: Sequence[str], weights: Sequence[Path]) -> list[Candidate]:
    """Open encoders of timm, ``timm:NAME``, each with a file of weights.

    Raises ValueError where there is not one file for each, or the weights do not fit.
    """
    if len(named) != len(weights):
        raise ValueError(
            f"{len(named)} encoders of timm and {len(weights)} files of weights were given; give "
            "--weights FILE once for each timm:NAME, in order"
        )
    found: list[Candidate] = []
    for name, path in zip(named, weights, strict=True):
        read = read_weights(str(path))
        encoder, taken = load_timm(name.removeprefix("timm:"), read.state)
        about = About(normalise="imagenet", positions=True)
        lines = [f"{path.name}: {line}" for line in (*read.remarks, *taken.lines)]
        model = Model(encoder, about).eval()
        label = name if name not in [one.name for one in found] else f"{name} ({path.stem})"
        found.append(Candidate(label, model, notes=tuple(lines)))
    return found


def device_of(compute: ComputeSettings) -> torch.device:
    """Return the device of a recipe."""
    device: torch.device = open_fabric(compute.model_copy(update={"precision": "float32"})).device
    return device


def untrained(
    model: Model, experiment: Experiment | None, device: torch.device, seed: int
) -> Candidate:
    """Return an encoder like a model's, with new weights."""
    torch.manual_seed(seed)
    encoder = build_encoder(model.encoder.arguments)
    about = model.about.model_copy(update={"seen": Seen()})
    return Candidate(UNTRAINED, Model(encoder, about).to(device).eval(), experiment)


def name_of(run: Run, taken: Sequence[str]) -> str:
    """Return a name of a run that is not yet taken: its folder, with parents if need be."""
    parts = run.path.absolute().parts
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        if name not in taken:
            return name
    raise ValueError(f"{run.path} is given twice; give it once")


def projection_of(run: Run, device: torch.device) -> Projection | None:
    """Return what projects tokens as the pretraining did; None of methods without a projector."""
    objective = load_objective(run)
    inner = objective.image if isinstance(objective, OnViews) else objective
    projector = getattr(inner, "projector", None)
    if not isinstance(inner, Siamese) or projector is None:
        return None
    inner = inner.to(device).eval()

    @torch.no_grad()
    def project(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [
            projector(inner.pooling(torch.tensor(tokens[start : start + BATCH], device=device)))
            for start in range(0, len(tokens), BATCH)
        ]
        found: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return found

    return project


def ask(
    candidate: Candidate,
    data: Data,
    cache: Path,
    *,
    seed: int = 0,
    own_included: bool = False,
    on_task: Callable[[str], None] = lambda task: None,
) -> Found:
    """Ask one encoder all questions that the data allow.

    Parameters
    ----------
    candidate : Candidate
        The encoder.
    data : Data
        What it is asked about.
    cache : Path
        Folder in which tokens are kept.
    seed : int
        Of the probes.
    own_included : bool
        Retrieval as in the released code: a query is in its own gallery.
    on_task : callable
        Called with the name of each task as it begins.

    Raises
    ------
    ValueError
        If the data have nothing to ask, or do not fit the encoder.
    """
    tokens = Tokens(candidate.model, cache)
    asked = Asked(tokens, candidate.projection, seed, own_included)
    found = Found(candidate.name, [], {}, list(candidate.notes))
    about = about_store if data.is_store else about_pictures
    for task, answers in about(asked, candidate, data, found):
        on_task(task)
        found.answers.extend(answers())
    if not found.answers:
        raise ValueError(f"{data.place} has neither labels nor parts; there is nothing to ask")
    return found


Task = tuple[str, Callable[[], Sequence[Answer]]]


def about_store(asked: Asked, candidate: Candidate, data: Data, found: Found) -> Iterator[Task]:
    """Yield the questions about windows or images of a store, and about events in recordings."""
    experiment = candidate.experiment
    if experiment is None:
        raise ValueError(
            f"{candidate.name} is asked about annotated images (a card), not about a store, whose "
            "images have another size"
        )
    train, test = experiment.split.finetune, experiment.split.test
    if not train or not test:
        raise ValueError(
            f"{len(train)} persons are left to fit probes on and {len(test)} to score; set "
            "split.test_persons and split.validation_persons"
        )
    if experiment.cohort.label_names:
        parts = [
            SourceItems(few(experiment.source(persons, labelled=True), data.most))
            for persons in (train, test)
        ]
        yield from about_objects(asked, "object", *parts, found=found)
    if not experiment.cohort.event_names:
        return
    sources = [experiment.source(persons) for persons in (train, test)]
    windows = [one for one in sources if isinstance(one, WindowSource)]
    events = [EventItems(one, most=data.most) for one in windows]
    yield "part retrieval", lambda: queries(asked, "part", events[1], found)
    yield (
        "part classification",
        lambda: list(classification(asked, "part", *events, neighbours=True)),
    )
    tiles = Tiles(windows[0], most=data.most), Tiles(windows[1])
    yield "segmentation of events", lambda: list(segmentation(asked, "event", *tiles))


def about_pictures(asked: Asked, candidate: Candidate, data: Data, found: Found) -> Iterator[Task]:
    """Yield the questions about annotated images."""
    encoder = candidate.model.encoder
    if len(encoder.shape) != 2 or encoder.channels != 3:
        raise ValueError(
            f"{candidate.name} encodes {encoder.channels} channels of {encoder.shape}; annotated "
            "images need an encoder of colour images"
        )
    if data.raw is None:
        raise ValueError(f"{data.place} is a card of images; give their folder with --raw")
    size = encoder.shape[0], encoder.shape[1]
    card = load_parts_card(data.place)
    train, test = read_annotated(card, data.raw)
    found.notes.extend(left_out("training", train.left_out) + left_out("test", test.left_out))
    if train.classes:
        objects = [object_crops(part, size, most=data.most) for part in (train, test)]
        yield from about_objects(asked, "object", *objects, found=found)
    if train.points:
        points = card.points or list(train.points)
        cut = [part_crops(part, points, size, most=data.most) for part in (train, test)]
        for which, (_, counts) in zip(("training", "test"), cut, strict=True):
            found.notes.extend(left_out(which, counts))
        yield from about_objects(asked, "part", cut[0][0], cut[1][0], found=found)
        persons = [person_crops(part, size, most=data.most) for part in (train, test)]
        yield "pose", lambda: list(pose(asked, persons[0], persons[1]))
    if train.masks is not None or has_outlines(train):
        images = [masked_images(part, size, most=data.most) for part in (train, test)]
        what = "object" if train.masks is None else "class"
        yield "segmentation", lambda: list(segmentation(asked, what, images[0], images[1]))


def about_objects(
    asked: Asked, what: str, train: Items, test: Items, *, found: Found
) -> Iterator[Task]:
    """Yield retrieval and classification of items with a class each."""
    if not len(train) or not len(test):
        raise ValueError(
            f"there are {len(train)} {what}s to fit probes on and {len(test)} to score; both are "
            "needed"
        )
    yield f"{what} retrieval", lambda: queries(asked, what, test, found)
    yield (
        f"{what} classification",
        lambda: list(classification(asked, what, train, test, neighbours=True)),
    )


def queries(asked: Asked, what: str, items: Items, found: Found) -> list[Answer]:
    """Answer the question of retrieval; keep what was found by the mean token, for the page."""
    answers, retrieved = retrieval(asked, what, items)
    found.retrieved[what] = (retrieved["mean"], items)
    return answers


def few(source: Source, most: int) -> Source:
    """Return at most so many items of a source."""
    return source.drawn(most, 0) if len(source) > most else source


def left_out(which: str, counts: dict[str, int] | None) -> list[str]:
    """Return what was left out of the training or test images, a line each."""
    return [f"{which}: {count} {why} left out" for why, count in (counts or {}).items()]


def has_outlines(found: Annotated) -> bool:
    """Tell whether any object has an outline."""
    return any(outline is not None for scene in found.scenes for outline in scene.outlines)
