"""A recipe with its data opened: store, persons, windows, encoder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from biopart.addresses import is_address
from biopart.data import Cohort, Source, Split, fold_of, open_cohort, split_persons
from biopart.nn import About, Encoder, build_encoder
from biopart.recipe import (
    AugmentSettings,
    ImageChanges,
    Position,
    Recipe,
    SplitSettings,
    views_of,
)
from biopart.store import load_card
from biopart.store.attributes import completed
from biopart.store.image_card import is_image_card
from biopart.store.persons import doubtful_persons
from biopart.store.seen import Seen
from biopart.store.verifying import check_arrays
from biopart.views import Augment, Views


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
            data.channels,
            data.window_s,
            labelled,
            context,
            keep_bad=keep_bad,
            persons=persons,
            by_recording=data.normalise == "recording",
        )

    @property
    def pretraining(self) -> "Experiment":
        """The experiment with the windows of pretraining."""
        settings, data = self.recipe.pretrain, self.recipe.data
        if settings.window_s in (None, data.window_s):
            return self
        data = data.model_copy(update={"window_s": settings.window_s})
        return replace(self, recipe=self.recipe.model_copy(update={"data": data}))

    @property
    def prepared(self) -> dict[str, Any]:
        """How the store's values were made: what a model must find again elsewhere."""
        card = self.cohort.attributes["card"]
        return {key: card.get(key) for key in self.cohort.kind.prepared}

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
        return self.cohort.extents(self.recipe.data.window_s)

    def augment(self, settings: ImageChanges, key: str) -> Augment | None:
        """Return what augments images; None where nothing does, ValueError for recordings."""
        augment = Augment(settings, len(self.cohort.label_names))
        if len(self.shape) != 2 and isinstance(settings, AugmentSettings):  # the loss smooths
            augment = Augment(settings.model_copy(update={"smoothing": 0.0}))
        if not augment.changes:
            return None
        if len(self.shape) != 2:
            raise ValueError(
                f"{key} changes images, but {self.cohort.path} holds {self.cohort.kind.name}; "
                "leave it out"
            )
        return augment

    def views(self) -> Views | None:
        """Return what makes the views that the objective compares; None where it compares none.

        Raises ValueError where they do not fit the windows or the kind of items.
        """
        settings = views_of(self.recipe.pretrain.objective)
        if settings is None:
            return None
        sfreq_hz = self.cohort.attributes.get("sfreq_hz")
        patch, channels = self.recipe.encoder.patch, self.channels
        return Views(settings, self.shape, patch, sfreq_hz, channels=len(channels))

    def encoder(self, position: Position, seed: int, *, drop_path: float | None = None) -> Encoder:
        """Build a new encoder; the seed decides its weights."""
        torch.manual_seed(seed)
        arguments = self.recipe.encoder.arguments(
            position=position,
            drop_path=drop_path,
            sfreq_hz=self.cohort.attributes.get("sfreq_hz"),
        )
        return build_encoder({"shape": self.shape, "channels": len(self.channels), **arguments})

    def seen(self, persons: Sequence[str]) -> Seen:
        """Return what a model has seen that was trained on persons."""
        return Seen.of(self.cohort, persons)

    def refuse_seen(self, persons: Sequence[str], seen: Seen) -> None:
        """Refuse to score persons that a model has learnt from; ValueError names them."""
        refuse_seen(seen.among(self.cohort, persons))

    def about(self, seen: Seen, *, temperature: float = 1.0, positions: bool = True) -> About:
        """Describe weights: whom they have seen, and what a window must look like."""
        return About(
            recipe=self.recipe.name,
            seen=seen,
            channels=self.channels,
            sfreq_hz=self.cohort.attributes.get("sfreq_hz"),
            epoch_s=self.cohort.attributes.get("epoch_s"),
            label_names=self.cohort.label_names,
            normalise=self.recipe.data.normalise,
            prepared=self.prepared,
            card=self.cohort.attributes["card"],
            simulated=self.simulated,
            temperature=temperature,
            positions=positions,
        )


def open_experiment(recipe: Recipe) -> Experiment:
    """Open a recipe's store and divide its persons."""
    data = recipe.data
    if not is_address(data.store) and not data.store.is_dir():
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
    settings = recipe.split
    split = split_persons(
        sorted({person for people in cohort.people.values() for person in people}),
        cohort.labelled,
        test=test_persons_of(settings, cohort),
        validation=settings.validation_persons,
        pretrain=settings.pretrain_persons,
        finetune=settings.finetune_persons,
        seed=settings.seed,
        classes=cohort.classes_of_units(),
    )
    return Experiment(recipe, cohort, split)


def test_persons_of(settings: SplitSettings, cohort: Cohort) -> int | tuple[str, ...]:
    """Return the test persons: their number, or the names of a part or a fold."""
    if settings.test_part is not None:
        return cohort.part(settings.test_part)
    if settings.folds is None:
        return settings.test_persons
    if cohort.kind.one_label:
        raise ValueError(
            "split.folds divides persons; images are tested on split.test_part, or on "
            "split.test_persons of them"
        )
    return fold_of(cohort.labelled, settings.folds, settings.fold, settings.seed)


def card_notes(cohort: Cohort) -> list[str]:
    """Say where a store was made with other values than the shipped card of its name has."""
    made_by = completed(cohort.attributes["card"])
    try:
        shipped = cohort.kind.card(str(made_by.get("name"))).model_dump(mode="json")
    except FileNotFoundError:
        return []
    keys = cohort.kind.compared
    return [
        f"the store was made with {key} {made_by.get(key)}; its card's is {shipped[key]}"
        for key in keys
        if made_by.get(key) != shipped[key]
    ]


def refuse_seen(persons: Sequence[str]) -> None:
    """Refuse to score persons that a model has learnt from; ValueError names them."""
    if persons:
        raise ValueError(
            f"the model has seen {listed(persons)} in pretraining, fine-tuning or early stopping; "
            "evaluate on other persons"
        )


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names for a sentence, the first of them where they are many, as images may be.

    Examples
    --------
    >>> listed(["a", "b"]), listed(["a", "b", "c"], most=2)
    ('a, b', 'a, b and 1 more')
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
