"""The part-aware evaluation: what frozen encoders know of objects and their parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from biopart.addresses import is_address
from biopart.data import Source, WindowSource
from biopart.data.items import EventItems, Items, SourceItems, Tiles
from biopart.data.pictures import masked_images, object_crops, part_crops, person_crops
from biopart.evaluation.answers import Answer
from biopart.experiment import Experiment
from biopart.images.annotated import Annotated, read_annotated
from biopart.images.davis import read_davis
from biopart.probing.dense import segmentation
from biopart.probing.encoders import Candidate
from biopart.probing.pose import pose
from biopart.probing.retrieval import Retrieved
from biopart.probing.suite import FrozenEncoder, classification, retrieval
from biopart.probing.tokens import Tokens
from biopart.probing.video import video_segmentation
from biopart.store.attributes import is_store
from biopart.store.parts_card import is_parts_card, load_parts_card

ITEMS = 20_000  # of a task, at most


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

    @cached_property
    def is_store(self) -> bool:
        """Whether it is a store: recordings with events, or images with labels.

        Raises ValueError where it is neither a store nor a card of annotated images, or a folder of
        images is missing or has no effect.
        """
        if is_address(self.place) or (self.place.is_dir() and is_store(self.place)):
            if self.raw is not None:
                raise ValueError(f"{self.place} is a store, so --raw has no effect; leave it out")
            return True
        try:
            is_card = is_parts_card(self.place)
        except FileNotFoundError:
            is_card = False
        if not is_card:
            raise ValueError(
                f"{self.place} is neither a store nor a card of annotated images; make a store "
                "with biopart prepare, or give for instance coco_parts"
            )
        if self.raw is None:
            raise ValueError(f"{self.place} is a card of images; give their folder with --raw")
        return False


@dataclass(frozen=True)
class EncoderAnswers:
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


def ask(
    candidate: Candidate,
    data: Data,
    cache: Path,
    *,
    seed: int = 0,
    own_included: bool = False,
    on_task: Callable[[str], None] = lambda task: None,
) -> EncoderAnswers:
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
    frozen = FrozenEncoder(tokens, candidate.projection, seed, own_included)
    found = EncoderAnswers(candidate.name, [], {}, list(candidate.notes))
    about = about_store if data.is_store else about_pictures
    for task, answers in about(frozen, candidate, data, found):
        on_task(task)
        found.answers.extend(answers())
    if not found.answers:
        raise ValueError(f"{data.place} has neither labels nor parts; there is nothing to ask")
    return found


def experiment_of(candidate: Candidate) -> Experiment:
    """Return the recipe of a run with its data opened; ValueError of an encoder without one."""
    if candidate.experiment is None:
        raise ValueError(
            f"{candidate.name} can be asked about annotated images (a card), but not about a "
            "store: only a run has a recipe that divides its persons or images"
        )
    return candidate.experiment


Task = tuple[str, Callable[[], Sequence[Answer]]]


def about_store(
    frozen: FrozenEncoder, candidate: Candidate, data: Data, found: EncoderAnswers
) -> Iterator[Task]:
    """Yield the questions about windows or images of a store, and about events in recordings."""
    experiment = experiment_of(candidate)
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
        yield from about_objects(frozen, experiment.cohort.kind.item, *parts, found=found)
    if not experiment.cohort.event_names:
        return
    sources = [experiment.source(persons) for persons in (train, test)]
    windows = [one for one in sources if isinstance(one, WindowSource)]
    events = [EventItems(one, most=data.most) for one in windows]
    needed("event", *events)
    yield "event retrieval", lambda: queries(frozen, "event", events[1], found)
    yield (
        "event classification",
        lambda: list(classification(frozen, "event", *events, neighbours=True)),
    )
    tiles = Tiles(windows[0], most=data.most), Tiles(windows[1])
    yield "segmentation of events", lambda: list(segmentation(frozen, "event", *tiles))


def about_pictures(
    frozen: FrozenEncoder, candidate: Candidate, data: Data, found: EncoderAnswers
) -> Iterator[Task]:
    """Yield the questions about annotated images."""
    encoder = candidate.model.encoder
    if len(encoder.shape) != 2 or encoder.channels != 3:
        raise ValueError(
            f"{candidate.name} is an encoder of {encoder.channels} x "
            f"{' x '.join(map(str, encoder.shape))} values; {data.place} needs one of colour images"
        )
    assert data.raw is not None
    size = encoder.shape[0], encoder.shape[1]
    card = load_parts_card(data.place)
    if card.parts == "davis":
        videos = read_davis(data.raw)
        yield "video", lambda: list(video_segmentation(candidate.model, videos))
        return
    train, test = read_annotated(card, data.raw)
    found.notes.extend(left_out("training", train.left_out) + left_out("test", test.left_out))
    if train.classes:
        objects = [object_crops(part, size, most=data.most) for part in (train, test)]
        yield from about_objects(frozen, "object", *objects, found=found)
    if train.points:
        points = card.points or list(train.points)
        cut = [part_crops(part, points, size, most=data.most) for part in (train, test)]
        for which, (_, counts) in zip(("training", "test"), cut, strict=True):
            found.notes.extend(left_out(which, counts))
        yield from about_objects(frozen, "part", cut[0][0], cut[1][0], found=found)
        persons = [person_crops(part, size, most=data.most) for part in (train, test)]
        needed("object with keypoints", *persons)
        yield "pose", lambda: list(pose(frozen, persons[0], persons[1]))
    if train.masks is not None or has_outlines(train):
        images = [masked_images(part, size, most=data.most) for part in (train, test)]
        what = "object" if train.masks is None else ""
        yield "segmentation", lambda: list(segmentation(frozen, what, images[0], images[1]))


def about_objects(
    frozen: FrozenEncoder, what: str, train: Items, test: Items, *, found: EncoderAnswers
) -> Iterator[Task]:
    """Yield retrieval and classification of items with a class each."""
    needed(what, train, test)
    yield f"{what} retrieval", lambda: queries(frozen, what, test, found)
    yield (
        f"{what} classification",
        lambda: list(classification(frozen, what, train, test, neighbours=True)),
    )


def needed(what: str, train: Items, test: Items) -> None:
    """Refuse fewer than two items to fit probes on, or none to score; ValueError."""
    if len(train) < 2 or not len(test):
        raise ValueError(
            f"{what}: {len(train)} to fit probes on and {len(test)} to score; at least two and one "
            "are needed"
        )


def queries(frozen: FrozenEncoder, what: str, items: Items, found: EncoderAnswers) -> list[Answer]:
    """Answer the question of retrieval; keep what was found by the mean token, for the page."""
    answers, retrieved = retrieval(frozen, what, items)
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
