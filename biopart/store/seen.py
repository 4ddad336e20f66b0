"""Whom a model has seen: a set that answers for a person, and costs little however large it is.

Up to ``MOST_NAMES`` names of a data set are kept as hashes of 64 bits, which answer for a store of
any kind. Of more, a map of bits over the sorted names of the store that they came from is kept: a
million names cost 170 kB. It answers exactly for a store of the same names; of another store of the
same data set it knows only the parts (train, val) that were never used, and refuses the rest.
"""

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.store.kinds import IMAGES
from biopart.store.persons import hashes_by_person
from biopart.store.records import Store
from biopart.store.spelling import canonical

MOST_NAMES = 40_000
MOST_RECORDINGS = 20_000
Hashes = NDArray[np.uint64]
NOBODY: Hashes = np.zeros(0, np.uint64)


def hashes_of(names: Iterable[str]) -> Hashes:
    """Return the first 64 bits of names' SHA-256, sorted, each once.

    Examples
    --------
    >>> [hex(one) for one in hashes_of(["a", "a"]).tolist()]
    ['0xca978112ca1bbdca']
    """
    first = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in set(names))
    return np.unique(np.frombuffer(first, ">u8").astype(np.uint64))


@dataclass(frozen=True)
class Listing:
    """Some of the names of one store.

    Attributes
    ----------
    sha256 : str
        Of all names of the store, sorted.
    chosen : bool (names,)
        Which of them.
    parts : frozenset of str
        Parts of the store that the chosen ones lie in; "" = of none.
    """

    sha256: str
    chosen: NDArray[np.bool_]
    parts: frozenset[str]

    @property
    def count(self) -> int:
        """Number of chosen names."""
        return int(self.chosen.sum())

    def to_json(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        bits = text_of(np.packbits(self.chosen))
        size = len(self.chosen)
        return {"sha256": self.sha256, "size": size, "chosen": bits, "parts": sorted(self.parts)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Listing":
        """Read what ``to_json`` gave."""
        bits = np.unpackbits(np.frombuffer(base64.b64decode(given["chosen"]), np.uint8))
        chosen = bits[: given["size"]].astype(bool)
        return cls(given["sha256"], chosen, frozenset(given["parts"]))


@dataclass(frozen=True)
class Group:
    """Persons or images of one data set: by the hashes of their names, or by listings.

    Attributes
    ----------
    hashes : uint64, sorted
        Of names in canonical spelling; of images as they are.
    listings : tuple of Listing
        At most one for each store.
    """

    hashes: Hashes = field(default_factory=lambda: NOBODY)
    listings: tuple[Listing, ...] = ()

    @property
    def count(self) -> int:
        """Number of names; one in hashes and in a listing counts twice."""
        return len(self.hashes) + sum(listing.count for listing in self.listings)

    def __or__(self, other: "Group") -> "Group":
        """Return the names of both."""
        listings = {listing.sha256: listing for listing in self.listings}
        for listing in other.listings:
            known = listings.get(listing.sha256)
            if known is not None:
                chosen, parts = known.chosen | listing.chosen, known.parts | listing.parts
                listing = Listing(listing.sha256, chosen, parts)
            listings[listing.sha256] = listing
        return Group(np.union1d(self.hashes, other.hashes), tuple(listings.values()))

    def holds(self, spelled: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which names, in canonical spelling, are among the hashes."""
        if not len(self.hashes):
            return np.zeros(len(spelled), dtype=bool)
        wanted = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in spelled)
        return np.isin(np.frombuffer(wanted, ">u8").astype(np.uint64), self.hashes)


@dataclass(frozen=True)
class Seen:
    """The persons, or images, that a model has learnt from.

    Attributes
    ----------
    groups : mapping
        Data set (the name of its card) -> its persons or images.
    recordings : uint64, sorted
        Hashes of the bytes of their recordings; none where there are too many.
    """

    groups: Mapping[str, Group] = field(default_factory=dict)
    recordings: Hashes = field(default_factory=lambda: NOBODY)

    @classmethod
    def of(cls, store: Store, persons: Collection[str]) -> "Seen":
        """Return some persons or images of a store."""
        dataset, wanted = dataset_of(store), set(persons)
        digests = {
            one
            for person, hashes in hashes_by_person(store).items()
            if person in wanted
            for one in hashes
        }
        recordings = read_hashes(digests) if len(digests) <= MOST_RECORDINGS else NOBODY
        if len(wanted) <= MOST_NAMES:
            spell = store.kind.spelling
            return cls({dataset: Group(hashes_of(map(spell, wanted)))}, recordings)
        parts = store.part_of_persons()
        names = sorted(parts)
        chosen = np.fromiter((name in wanted for name in names), bool, len(names))
        within = frozenset(parts[name] for name in wanted)
        listing = Listing(digest_of(names), chosen, within)
        return cls({dataset: Group(listings=(listing,))}, recordings)

    def __or__(self, other: "Seen") -> "Seen":
        """Return the persons of both."""
        groups = dict(self.groups)
        for dataset, group in other.groups.items():
            groups[dataset] = groups.get(dataset, Group()) | group
        return Seen(groups, np.union1d(self.recordings, other.recordings))

    @property
    def count(self) -> int:
        """Number of persons or images."""
        return sum(group.count for group in self.groups.values())

    def among(self, store: Store, persons: Iterable[str]) -> list[str]:
        """Return which persons of a store were seen, sorted.

        Compared by name in any spelling if the data set is the same, and by the bytes of their
        recordings under any name.
        """
        asked = sorted(set(persons))
        group = self.groups.get(dataset_of(store), Group())
        seen = group.holds([store.kind.spelling(person) for person in asked])
        parts = store.part_of_persons() if group.listings else {}
        for listing in group.listings:
            names = sorted(parts)
            if digest_of(names) == listing.sha256:
                chosen = dict(zip(names, listing.chosen.tolist(), strict=True))
                seen |= np.array([chosen[person] for person in asked], bool)
            else:
                seen |= np.array([may_be_in(listing, parts[person]) for person in asked], bool)
        twins = set()
        if len(self.recordings):
            twins = {
                person
                for person, hashes in hashes_by_person(store).items()
                if np.isin(read_hashes(hashes), self.recordings).any()
            }
        return [p for p, known in zip(asked, seen.tolist(), strict=True) if known or p in twins]

    def knows(self, dataset: str, person: str) -> bool:
        """Tell whether a person of a data set was seen, by the name alone."""
        return bool(self.groups.get(dataset, Group()).holds([canonical(person)])[0])

    def to_json(self) -> dict[str, Any]:
        """Return it for the metadata of weights."""
        groups = {
            dataset: {
                "count": group.count,
                "hashes": text_of(group.hashes),
                "listings": [listing.to_json() for listing in group.listings],
            }
            for dataset, group in self.groups.items()
            if group.count
        }
        return {"groups": groups, "recordings": text_of(self.recordings)}

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> "Seen":
        """Read it from the metadata of weights; none without any.

        Older files hold names in ``seen``, ``seen_elsewhere`` and ``seen_recordings``.
        """
        given = about.get("seen") or {}
        if isinstance(given, Mapping):
            groups = {
                dataset: Group(
                    numbers_of(group["hashes"]),
                    tuple(Listing.from_json(listing) for listing in group["listings"]),
                )
                for dataset, group in given.get("groups", {}).items()
            }
            return cls(groups, numbers_of(given.get("recordings", "")))
        of_images = "sfreq_hz" in about and about["sfreq_hz"] is None
        spell = IMAGES.spelling if of_images else canonical
        dataset = str(about.get("dataset") or (about.get("card") or {}).get("name") or "")
        named = {**(about.get("seen_elsewhere") or {}), dataset: given}
        groups = {
            name: Group(hashes_of(spell(str(one)) for one in some)) for name, some in named.items()
        }
        return cls(groups, read_hashes(about.get("seen_recordings") or ()))


def may_be_in(listing: Listing, part: str) -> bool:
    """Tell whether an item of another store may be in a listing: not if its part was never used."""
    return part == "" or "" in listing.parts or part in listing.parts


def dataset_of(store: Store) -> str:
    """Return the name of the data set that a store's persons belong to."""
    return str(store.attributes["card"].get("name", ""))


def digest_of(names: Iterable[str]) -> str:
    """Return the SHA-256 of sorted names, one a line."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def read_hashes(digits: Iterable[str]) -> Hashes:
    """Return the first 64 bits of hashes in hexadecimal digits, sorted."""
    return np.unique(np.array([int(one[:16], 16) for one in digits], np.uint64))


def text_of(values: NDArray[Any]) -> str:
    """Spell an array's bytes, big-endian, in base 64."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder(">")).tobytes()).decode()


def numbers_of(text: str) -> Hashes:
    """Read the 64-bit numbers that ``text_of`` spelled."""
    return np.frombuffer(base64.b64decode(text), ">u8").astype(np.uint64)
