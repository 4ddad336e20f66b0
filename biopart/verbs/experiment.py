"""What every experiment starts from: its store, its persons, its windows, its encoder."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from biopart.data import Augment, Cohort, Source, Split, open_cohort, split_persons
from biopart.nn import Encoder, build_encoder
from biopart.recipe import Position, Recipe, ViewSettings
from biopart.store import Card, load_card
from biopart.store.attributes import ADDED, completed
from biopart.store.image_card import ImageCard, is_image_card, load_image_card
from biopart.store.persons import Met, doubtful_persons, recordings_of
from biopart.store.verifying import check_arrays

PREPARED = ("band_hz", "filter_order", "filter_scope", "trim_s")
IMAGES_PREPARED = ("size", "fit")


@dataclass(frozen=True)
class Experiment:
    """A recipe with its data opened and its persons divided.

    Raises
    ------
    FileNotFoundError
        If the store is missing; names the commands that make it.
    ValueError
        If the store was made by another card than the recipe's, or patches do not tile windows.
    """

    recipe: Recipe
    cohort: Cohort
    split: Split

    @property
    def simulated(self) -> bool:
        """Whether the recordings are simulated: no figure from them is a result."""
        return bool(self.cohort.attributes.get("simulated", False))

    def source(
        self,
        persons: Sequence[str],
        *,
        labelled: bool = False,
        keep_bad: bool = False,
        context: int = 1,
    ) -> Source:
        """Return the windows of persons, as the recipe wants them."""
        data = self.recipe.data
        return self.cohort.source(
            data.channels, data.window_s, labelled, context, keep_bad=keep_bad, persons=persons
        )

    @property
    def prepared(self) -> dict[str, Any]:
        """How the store's values were made: what a model must find again elsewhere."""
        card = self.cohort.attributes["card"]
        keys = IMAGES_PREPARED if self.cohort.holds_images else PREPARED
        return {key: card.get(key) for key in keys}

    @cached_property
    def notes(self) -> list[str]:
        """What is worth saying before anything runs: counts that do not exist, a changed card."""
        return [*self.split.notes, *card_notes(self.cohort)]

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels used."""
        return tuple(self.recipe.data.channels or self.cohort.channels)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Extents S of a window in samples, or of an image in pixels."""
        window_s = self.recipe.data.window_s
        if window_s is None or self.cohort.holds_images:
            return self.cohort.shape
        return (round(window_s * self.cohort.sfreq_hz),)

    def augment(self, settings: ViewSettings, key: str) -> Augment | None:
        """Return what augments images; None where nothing does, ValueError for recordings."""
        augment = Augment(settings, len(self.cohort.label_names))
        if not augment.changes:
            return None
        if not self.cohort.holds_images:
            raise ValueError(
                f"{key} changes images, but {self.cohort.path} holds recordings; leave it out"
            )
        return augment

    def encoder(self, position: Position, seed: int, *, drop_path: float | None = None) -> Encoder:
        """Build a new encoder; the seed decides its weights."""
        torch.manual_seed(seed)
        settings = self.recipe.encoder
        return build_encoder(
            {
                **{"shape": self.shape, "channels": len(self.channels), "position": position},
                **settings.model_dump(include={"patch", "dim", "depth", "heads"}),
                "drop_path": settings.drop_path if drop_path is None else drop_path,
            }
        )

    @property
    def dataset(self) -> str:
        """Name of the data set that persons belong to."""
        return str(self.cohort.attributes["card"].get("name", ""))

    def met(self, persons: Sequence[str]) -> Met:
        """Return whom a model has met that was trained on persons."""
        recordings = recordings_of(self.cohort, persons)
        images = self.cohort.holds_images
        return Met(self.dataset, frozenset(persons), recordings=recordings, images=images)

    def refuse_met(self, persons: Sequence[str], met: Met) -> None:
        """Refuse to score persons that a model has learnt from; ValueError names them."""
        refuse_seen(met.among(self.dataset, persons, self.cohort))

    def about(self, met: Met) -> dict[str, Any]:
        """Describe weights: whom they have seen, and what a window must look like."""
        return {
            "recipe": self.recipe.name,
            **met.about(),
            "channels": list(self.channels),
            "sfreq_hz": self.cohort.attributes.get("sfreq_hz"),
            "epoch_s": self.cohort.attributes.get("epoch_s"),
            "label_names": list(self.cohort.label_names),
            "normalise": self.recipe.data.normalise,
            "prepared": self.prepared,
            "card": self.cohort.attributes["card"],
            "simulated": self.simulated,
        }


def open_experiment(recipe: Recipe) -> Experiment:
    """Open a recipe's store and divide its persons."""
    data = recipe.data
    if not data.store.is_dir():
        card = data.card or "CARD"
        simulated = " or: biopart simulate DIR" if card == "physionet2018" else ""
        get = f"get raw files with: biopart fetch {card} --to DIR{simulated}, then"
        with suppress(FileNotFoundError):  # a card of one's own
            if is_image_card(card) or load_card(card).origin is None:
                get = "put its raw files into a folder DIR, then"
        raise FileNotFoundError(
            f"recipe {recipe.name} needs the store {data.store}; {get}: biopart prepare {card} "
            f"--raw DIR --out {data.store}"
        )
    cohort = open_cohort(data.store)
    made_by = cohort.attributes["card"].get("name")
    if data.card is not None and made_by != data.card:
        raise ValueError(
            f"recipe {recipe.name} wants a store made by card {data.card}; {data.store} was made "
            f"by {made_by}"
        )
    doubts = doubtful_persons(cohort)
    if doubts:
        raise ValueError(f"{data.store}: {'; '.join(doubts)}")
    check_arrays(cohort)
    settings, part = recipe.split, recipe.split.test_part
    split = split_persons(
        sorted({person for people in cohort.people.values() for person in people}),
        cohort.labelled,
        test=settings.test_persons if part is None else cohort.part(part),
        validation=settings.validation_persons,
        pretrain=settings.pretrain_persons,
        finetune=settings.finetune_persons,
        seed=settings.seed,
        classes=classes_of(cohort) if cohort.holds_images else None,
    )
    return Experiment(recipe, cohort, split)


def classes_of(cohort: Cohort) -> dict[str, int]:
    """Return the class of every labelled image."""
    source = cohort.source(labelled=True)
    return dict(zip(source.persons, source.labels.tolist(), strict=True))


def card_notes(cohort: Cohort) -> list[str]:
    """Say where a store was made with other values than the shipped card of its name has."""
    made_by = cohort.attributes["card"]
    load: Callable[[str], Card | ImageCard] = load_image_card if cohort.holds_images else load_card
    try:
        shipped = load(str(made_by.get("name"))).model_dump(mode="json")
    except FileNotFoundError:
        return []
    made_by = completed(made_by)
    keys = (*PREPARED, *ADDED, "sfreq_hz", "epoch_s", "labels", "aliases")
    if cohort.holds_images:
        keys = (*IMAGES_PREPARED, "parts", "max_bad")
    return [
        f"the store was made with {key} {made_by.get(key)}; its card's is {shipped[key]}"
        for key in keys
        if made_by.get(key) != shipped[key]
    ]


def refuse_seen(both: Sequence[str]) -> None:
    """Refuse to score persons that a model has learnt from; ValueError names them."""
    if both:
        raise ValueError(
            f"the model has seen {some(both)} in pretraining, fine-tuning or early stopping; "
            "evaluate on other persons"
        )


def some(names: Sequence[str], most: int = 20) -> str:
    """Return names for a sentence, the first of them where they are many, as images may be.

    Examples
    --------
    >>> some(["a", "b"]), some(["a", "b", "c"], most=2)
    ('a, b', 'a, b and 1 more')
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
