"""Identity of persons: across data sets, spellings and names.

A name alone is not enough: persons of two data sets may share a name, and one person may have two
spellings or two names with the same recording.
"""

from biopart.store.kinds import IMAGES
from biopart.store.records import Store
from biopart.store.spelling import canonical


def hashes_by_person(store: Store) -> dict[str, set[str]]:
    """Return the first digits of the hashes of each person's recordings, files and signals.

    None for images, which are known by their names.
    """
    if store.kind is IMAGES:
        return {}
    found: dict[str, set[str]] = {}
    for record, person in store.persons.items():
        about = store.about(record)
        given = (about.get(key) for key in ("source_sha256", "signal_sha256"))
        found.setdefault(person, set()).update(str(one)[:16] for one in given if one)
    return found


def doubtful_persons(store: Store) -> list[str]:
    """List recordings that belong to two persons, and persons that differ only in spelling."""
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
