"""Events of a store, counted by class."""

from collections import Counter
from contextlib import suppress

from biopart.store.records import Store


def events_in(store: Store) -> dict[str, int]:
    """Count the events of each class in a store; nothing where it has none."""
    counts = Counter(dict.fromkeys(store.event_names, 0))
    for record in store if store.event_names else ():
        with suppress(ValueError):  # of an unreadable record, reported elsewhere
            found = store.events(record)
            codes = [] if found is None else found[:, 2].tolist()
            counts.update(store.event_names[code] for code in codes)
    return dict(counts)
