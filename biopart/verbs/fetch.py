"""Fetch the raw files of a card."""

from collections.abc import Callable
from pathlib import Path

from biopart.store import Card
from biopart.store.fetch import fetch_card
from biopart.store.listing import Remote


def fetch(
    card: Card,
    to: Path,
    *,
    records: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Fetch a data set's files, checked against the published sums, free space first.

    Parameters
    ----------
    card : Card
        Says where they are published.
    to : Path
        Raw folder; files that are there and right stay.
    records : int, optional
        The first so many records only.
    report : callable
        Gets a line per file.

    Raises
    ------
    ValueError
        If the card names no source, a checksum is wrong, or there is too little space.
    """
    if card.origin is None:
        raise ValueError(f"card {card.name} names no place to fetch from; its files come by hand")
    where = card.origin
    remote = Remote(where.url, where.records_file, where.files, tuple(where.extra), where.match)
    return fetch_card(remote, to, records=records, report=report)
