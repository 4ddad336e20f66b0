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
    """Download the files of a data set; check the free space, then the checksums.

    Parameters
    ----------
    card : Card
        Its ``origin`` names the address.
    to : Path
        Raw folder; files that are already there with the right checksum are kept.
    records : int, optional
        Only the first N records.
    report : callable
        Called with a line per file.

    Raises
    ------
    ValueError
        If the card has no ``origin``, a checksum is wrong, or there is too little space.
    """
    if card.origin is None:
        raise ValueError(
            f"card {card.name} has no download address (origin); put its files into {to} yourself"
        )
    where = card.origin
    remote = Remote(where.url, where.records_file, where.files, tuple(where.extra), where.match)
    return fetch_card(remote, to, records=records, report=report)
