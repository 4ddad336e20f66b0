"""Identity of persons: across data sets, spellings and names.

A name alone is not enough: persons of two data sets may share a name, and one person may have two
spellings or two names with the same recording.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from biopart.store.records import Store

_HASH = 16  # hexadecimal digits of a hash that are stored with weights


def canonical(person: str) -> str:
    """Return what all spellings of a person have in common.

    Examples
    --------
    >>> canonical("TR03-0005"), canonical("tr3_5"), canonical("tr3-50")
    ('tr3-5', 'tr3-5', 'tr3-50')
    """
    plain = re.sub(r"[\s_.-]+", "-", person.strip().casefold())
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), plain)


@dataclass(frozen=True)
class Met:
    """The persons that a model was trained on.

    Attributes
    ----------
    dataset : str
        Name of the card of its data.
    persons : frozenset of str
        Persons of that data set; images are persons by their names.
    elsewhere : mapping
        Data set -> its persons, if weights came from other data sets.
    recordings : frozenset of str
        First digits of the hashes of the recordings' files.
    images : bool
        Whether the persons are names of images, which have only one spelling.
    """

    dataset: str = ""
    persons: frozenset[str] = frozenset()
    elsewhere: Mapping[str, frozenset[str]] = field(default_factory=dict)
    recordings: frozenset[str] = frozenset()
    images: bool = False

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Met":
        """Read the persons from the metadata of weights; none without metadata."""
        return cls(
            str(about.get("dataset") or (about.get("card") or {}).get("name") or ""),
            frozenset(map(str, about.get("seen") or ())),
            {k: frozenset(map(str, v)) for k, v in (about.get("seen_elsewhere") or {}).items()},
            frozenset(about.get("seen_recordings") or ()),
            "sfreq_hz" in about and about["sfreq_hz"] is None,
        )

    def __or__(self, other: "Met") -> "Met":
        """Return the persons of both, as a model of the first one's data set."""
        elsewhere = {name: set(persons) for name, persons in self.elsewhere.items()}
        given = [(other.dataset, other.persons), *other.elsewhere.items()]
        persons = set(self.persons)
        for dataset, some in given:
            if dataset == self.dataset:
                persons |= some
            elif some:
                elsewhere.setdefault(dataset, set()).update(some)
        persons |= elsewhere.pop(self.dataset, set())
        return Met(
            self.dataset,
            frozenset(persons),
            {name: frozenset(some) for name, some in elsewhere.items()},
            self.recordings | other.recordings,
            self.images,
        )

    def about(self) -> dict[str, Any]:
        """Return the persons as metadata for weights."""
        return {
            "dataset": self.dataset,
            "seen": sorted(self.persons),
            "seen_elsewhere": {name: sorted(some) for name, some in self.elsewhere.items()},
            "seen_recordings": sorted(self.recordings),
        }

    def among(self, dataset: str, persons: Iterable[str], store: Store | None = None) -> list[str]:
        """Return which persons of a data set were in the training, sorted.

        Compared by name in any spelling if the data set is the same, and by the bytes of their
        recordings under any name.
        """
        spelled = str if self.images else canonical
        own = self.persons if dataset == self.dataset else self.elsewhere.get(dataset, frozenset())
        known = {spelled(person) for person in own}
        twins = set()
        if self.recordings and store is not None and not store.holds_images:
            twins = {p for p, hashes in hashes_by_person(store).items() if hashes & self.recordings}
        return sorted({p for p in persons if spelled(p) in known or p in twins})


def hashes_by_person(store: Store) -> dict[str, set[str]]:
    """Return the first digits of the hashes of each person's recordings, files and signals."""
    found: dict[str, set[str]] = {}
    for record, person in store.persons.items():
        about = store.about(record)
        given = (about.get(key) for key in ("source_sha256", "signal_sha256"))
        found.setdefault(person, set()).update(str(one)[:_HASH] for one in given if one)
    return found


def recordings_of(store: Store, persons: Collection[str]) -> frozenset[str]:
    """Return the first digits of the hashes of persons' recordings; none for images."""
    if store.holds_images:
        return frozenset()
    wanted = set(persons)
    found = hashes_by_person(store).items()
    return frozenset(one for person, hashes in found if person in wanted for one in hashes)


def doubtful_persons(store: Store) -> list[str]:
    """List recordings that belong to two persons, and persons that differ only in spelling."""
    if store.holds_images:
        return []
    holders: dict[str, set[str]] = {}
    spellings: dict[str, set[str]] = {}
    for person, hashes in hashes_by_person(store).items():
        spellings.setdefault(canonical(person), set()).add(person)
        for one in hashes:
            holders.setdefault(one, set()).add(person)
    remedy = "prepare the store again with same_person in the card, or without one of them"
    several = sorted({tuple(sorted(some)) for some in holders.values() if len(some) > 1})
    lines = [f"the persons {' and '.join(some)} share one recording: {remedy}" for some in several]
    for some in spellings.values():
        if len(some) > 1:
            names = " and ".join(sorted(some))
            lines.append(f"the persons {names} differ only in spelling: {remedy}")
    return lines
