"""Kinds of stores: what differs between recordings and images, in one place.

A new kind is one class here, its stored form in ``contents`` and its source in ``biopart.data``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from biopart.store.attributes import ADDED
from biopart.store.card import Card, load_card
from biopart.store.contents import IMAGE_AXES, Images, Record
from biopart.store.image_card import ImageCard, load_image_card
from biopart.store.spelling import canonical


class _Store(Protocol):
    """What a kind asks of a store; see ``records.Store``."""

    attributes: dict[str, Any]

    def __iter__(self) -> Iterator[str]: ...
    @property
    def persons(self) -> dict[str, str]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def sfreq_hz(self) -> float: ...
    def about(self, record: str) -> dict[str, Any]: ...
    def signal(self, record: str) -> NDArray[np.int16]: ...
    def scale(self, record: str) -> NDArray[np.float64]: ...
    def bad(self, record: str) -> NDArray[np.int64]: ...
    def events(self, record: str) -> NDArray[np.int64] | None: ...
    def length(self, record: str) -> int: ...
    def images(self, record: str) -> NDArray[np.uint8]: ...
    def names(self, record: str) -> tuple[str, ...]: ...
    def label(self, record: str) -> NDArray[Any]: ...


class Kind(ABC):
    """What depends on the kind of a store's items.

    Attributes
    ----------
    name : str
        Of the kind: recordings, images.
    unit : str
        What a split divides and chance draws: person, image.
    item : str
        What a model sees: window, image.
    place : str
        What the number of an item in its record counts: epoch, image.
    one_label : bool
        Whether a unit has one label, so that a split can draw equally many of each class.
    arrays : tuple of str
        Arrays that every record has.
    prepared : tuple of str
        Keys of a card that decide the values: a model must find the same elsewhere.
    compared : tuple of str
        Keys of a store's card that are compared with the shipped card's.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    item: ClassVar[str]
    place: ClassVar[str]
    one_label: ClassVar[bool]
    arrays: ClassVar[tuple[str, ...]]
    prepared: ClassVar[tuple[str, ...]]
    compared: ClassVar[tuple[str, ...]]

    @abstractmethod
    def spelling(self, name: str) -> str:
        """Return what all spellings of a person's or image's name have in common."""

    @abstractmethod
    def card(self, name: str) -> "Card | ImageCard":
        """Load the shipped card of a name; FileNotFoundError where there is none."""

    @abstractmethod
    def shape(self, attributes: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the extents S of an item, from a store's attributes."""

    @abstractmethod
    def people(self, store: _Store, record: str) -> tuple[str, ...]:
        """Return the persons of a record: one for a recording, its images' names for a pack."""

    @abstractmethod
    def part(self, store: _Store, record: str) -> str:
        """Return the part that a record belongs to; "" where there are none."""

    @abstractmethod
    def digest(self, store: _Store, record: str) -> str:
        """Return the SHA-256 of a record's arrays."""

    @abstractmethod
    def window_s(self, extent: int, sfreq_hz: float | None) -> float | None:
        """Return the length of windows of an extent in samples; None of images, used whole."""

    @abstractmethod
    def describe(self, store: _Store, labels: Mapping[str, int]) -> dict[str, Any]:
        """Return what ``biopart info`` says of a store, with its counts of labels."""

    @abstractmethod
    def named(self, role: str, persons: Sequence[str]) -> dict[str, Any]:
        """Return persons of a role (train, test) for a result; of images their number and hash."""

    @abstractmethod
    def open_to(self, known: Sequence[str], seen: Collection[str]) -> list[str]:
        """Return who is scored where nobody is named, of all that a store has, sorted."""

    @abstractmethod
    def counted(
        self, wanted: Sequence[str], scored: Sequence[str], *, n_left_out: int
    ) -> dict[str, Any]:
        """Return of how many there are scores, who has no label, and how many were not asked."""

    @property
    def units(self) -> str:
        """Plural of the unit."""
        return f"{self.unit}s"

    @property
    def items(self) -> str:
        """Plural of the item."""
        return f"{self.item}s"


class Recordings(Kind):
    """Recordings of persons, cut into windows."""

    name = "recordings"
    unit = "person"
    item = "window"
    place = "epoch"
    one_label = False
    arrays = ("signal", "label", "bad")
    prepared = ("band_hz", "filter_order", "filter_scope", "trim_s", "cepstrum")
    compared = (*prepared, *ADDED, "sfreq_hz", "epoch_s", "labels", "aliases")

    def spelling(self, name: str) -> str:
        """Return ``canonical``: persons are spelled in many ways."""
        return canonical(name)

    def card(self, name: str) -> Card:
        """Load a card of recordings."""
        return load_card(name)

    def shape(self, attributes: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the samples of an epoch."""
        return (round(float(attributes["epoch_s"]) * float(attributes["sfreq_hz"])),)

    def people(self, store: _Store, record: str) -> tuple[str, ...]:
        """Return the person of a recording."""
        return (store.persons[record],)

    def part(self, store: _Store, record: str) -> str:
        """Return "": recordings have no parts."""
        return ""

    def digest(self, store: _Store, record: str) -> str:
        """Return the hash of signal, scales, labels, bad segments and events."""
        arrays = store.signal(record), store.scale(record), store.label(record), store.bad(record)
        return Record(*arrays, event=store.events(record)).digest()

    def window_s(self, extent: int, sfreq_hz: float | None) -> float | None:
        """Return the extent in seconds."""
        return None if sfreq_hz is None else extent / sfreq_hz

    def describe(self, store: _Store, labels: Mapping[str, int]) -> dict[str, Any]:
        """Count persons, hours and windows."""
        return {
            "persons": len(set(store.persons.values())),
            "hours": sum(store.length(record) for record in store) / store.sfreq_hz / 3600,
            "sfreq_hz": store.sfreq_hz,
            "epoch_s": store.attributes["epoch_s"],
            "windows": dict(labels),
        }

    def named(self, role: str, persons: Sequence[str]) -> dict[str, Any]:
        """Return the names."""
        return {f"n_{role}_persons": len(persons), f"{role}_persons": list(persons)}

    def open_to(self, known: Sequence[str], seen: Collection[str]) -> list[str]:
        """Return everybody, so that a store with seen persons is refused, not scored in part."""
        return sorted(known)

    def counted(
        self, wanted: Sequence[str], scored: Sequence[str], *, n_left_out: int
    ) -> dict[str, Any]:
        """Return numbers, and the names of those without a label."""
        unlabelled = sorted(set(wanted).difference(scored))
        return {
            "n_persons_scored": len(set(scored)),
            "n_persons_not_asked": n_left_out,
            "n_persons_without_label": len(unlabelled),
            "persons_without_label": unlabelled,
        }


class Pictures(Kind):
    """Packs of images; each image is a unit of its own."""

    name = "images"
    unit = "image"
    item = "image"
    place = "image"
    one_label = True
    arrays = ("image", "label", "name")
    prepared = ("size", "fit")
    compared = (*prepared, "parts", "max_bad")

    def spelling(self, name: str) -> str:
        """Return the name: images have only one spelling."""
        return name

    def card(self, name: str) -> ImageCard:
        """Load a card of images."""
        return load_image_card(name)

    def shape(self, attributes: Mapping[str, Any]) -> tuple[int, ...]:
        """Return height and width in pixels."""
        return tuple(attributes["shape"])

    def people(self, store: _Store, record: str) -> tuple[str, ...]:
        """Return the names of a pack's images."""
        return store.names(record)

    def part(self, store: _Store, record: str) -> str:
        """Return the part of a pack: train, test."""
        return str(store.about(record).get("part") or "")

    def digest(self, store: _Store, record: str) -> str:
        """Return the hash of pixels, labels and names."""
        return Images(store.images(record), store.label(record), store.names(record)).digest()

    def window_s(self, extent: int, sfreq_hz: float | None) -> float | None:
        """Return None."""
        return None

    def describe(self, store: _Store, labels: Mapping[str, int]) -> dict[str, Any]:
        """Count the images of each part and label."""
        parts: Counter[str] = Counter()
        for record in store:
            parts[store.about(record)["part"]] += len(store.label(record))
        return {"size": list(store.shape), "parts": dict(parts), "images": dict(labels)}

    def named(self, role: str, persons: Sequence[str]) -> dict[str, Any]:
        """Return how many there are, and a hash of their names, which may be very many."""
        digest = hashlib.sha256("\n".join(sorted(persons)).encode()).hexdigest()
        return {f"n_{role}_images": len(persons), f"{role}_images_sha256": digest}

    def open_to(self, known: Sequence[str], seen: Collection[str]) -> list[str]:
        """Return the images that were not seen: train and test often lie in one store."""
        return sorted(set(known).difference(seen))

    def counted(
        self, wanted: Sequence[str], scored: Sequence[str], *, n_left_out: int
    ) -> dict[str, Any]:
        """Return numbers alone."""
        return {
            "n_images_scored": len(set(scored)),
            "n_images_not_asked": n_left_out,
            "n_images_without_label": len(set(wanted).difference(scored)),
        }


RECORDINGS, IMAGES = Recordings(), Pictures()


def kind_of(attributes: Mapping[str, Any]) -> Kind:
    """Return the kind of a store by its attributes: packs of images name their axes."""
    return IMAGES if tuple(attributes.get("axes", ())) == IMAGE_AXES else RECORDINGS
