"""Who a person is: one of a data set, also in other spellings and under other names.

A name alone says little: persons of two data sets may be named alike, and one person may be
spelled in two ways or stand under two names with the same recording.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from biopart.store.records import Store

_HASH = 16  # hexadecimal digits of a hash that are kept with weights


def canonical(person: str) -> str:
    """Return what is the same of all spellings of a person.

    Examples
    --------
    >>> canonical("TR03-0005"), canonical("tr3_5"), canonical("tr3-50")
    ('tr3-5', 'tr3-5', 'tr3-50')
    """
    plain = re.sub(r"[\s_.-]+", "-", person.strip().casefold())
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), plain)


@dataclass(frozen=True)
class Met:
    """Whom a model has met in its training.

    Attributes
    ----------
    dataset : str
        Name of the card of its data.
    persons : frozenset of str
        Persons of that data set, images by their names.
    elsewhere : mapping
        Data set -> its persons, where weights came from other data sets.
    recordings : frozenset of str
        Beginnings of the hashes of the recordings' files.
    images : bool
        Whether the persons are names of images, which have one spelling.
    """

    dataset: str = ""
    persons: frozenset[str] = frozenset()
    elsewhere: Mapping[str, frozenset[str]] = field(default_factory=dict)
    recordings: frozenset[str] = frozenset()
    images: bool = False

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Met":
        """Read what weights say of themselves; those that say nothing have met nobody."""
        return cls(
            str(about.get("dataset") or (about.get("card") or {}).get("name") or ""),
            frozenset(map(str, about.get("seen") or ())),
            {k: frozenset(map(str, v)) for k, v in (about.get("seen_elsewhere") or {}).items()},
            frozenset(about.get("seen_recordings") or ()),
            "sfreq_hz" in about and about["sfreq_hz"] is None,
        )

    def __or__(self, other: "Met") -> "Met":
        """Return whom either has met, as a model of the first one's data set."""
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
        """Return what weights say of themselves."""
        return {
            "dataset": self.dataset,
            "seen": sorted(self.persons),
            "seen_elsewhere": {name: sorted(some) for name, some in self.elsewhere.items()},
            "seen_recordings": sorted(self.recordings),
        }

    def among(self, dataset: str, persons: Iterable[str], store: Store | None = None) -> list[str]:
        """Return which persons of a data set have been met, sorted.

        By their names in any spelling where it is the same data set, and by the bytes of their
        recordings whatever they are called.
        """
        spelled = str if self.images else canonical
        own = self.persons if dataset == self.dataset else self.elsewhere.get(dataset, frozenset())
        known = {spelled(person) for person in own}
        twins = set()
        if self.recordings and store is not None and not store.holds_images:
            twins = {p for p, hashes in hashes_by_person(store).items() if hashes & self.recordings}
        return sorted({p for p in persons if spelled(p) in known or p in twins})


def hashes_by_person(store: Store) -> dict[str, set[str]]:
    """Return the beginnings of the hashes of each person's recordings, of files and of signals."""
    found: dict[str, set[str]] = {}
    for record, person in store.persons.items():
        about = store.about(record)
        given = (about.get(key) for key in ("source_sha256", "signal_sha256"))
        found.setdefault(person, set()).update(str(one)[:_HASH] for one in given if one)
    return found


def recordings_of(store: Store, persons: Collection[str]) -> frozenset[str]:
    """Return the beginnings of the hashes of persons' recordings; of images there are none."""
    if store.holds_images:
        return frozenset()
    wanted = set(persons)
    found = hashes_by_person(store).items()
    return frozenset(one for person, hashes in found if person in wanted for one in hashes)


def doubtful_persons(store: Store) -> list[str]:
    """Say which recordings are of two persons, and which persons differ in spelling alone."""
    if store.holds_images:
        return []
    holders: dict[str, set[str]] = {}
    spellings: dict[str, set[str]] = {}
    for person, hashes in hashes_by_person(store).items():
        spellings.setdefault(canonical(person), set()).add(person)
        for one in hashes:
            holders.setdefault(one, set()).add(person)
    remedy = "prepare the store anew with same_person in the card, or without one of them"
    several = sorted({tuple(sorted(some)) for some in holders.values() if len(some) > 1})
    lines = [f"one recording is of the persons {' and '.join(some)}: {remedy}" for some in several]
    for some in spellings.values():
        if len(some) > 1:
            names = " and ".join(sorted(some))
            lines.append(f"the persons {names} differ in their spelling alone: {remedy}")
    return lines
