"""Stores of recordings and images, data set cards and fetching; never imports torch."""

from biopart.store.card import Card, load_card
from biopart.store.contents import Images, Record
from biopart.store.records import Store
from biopart.store.writing import (
    create_store,
    finish_store,
    one_writer,
    write_record,
)

__all__ = [
    "Card",
    "Images",
    "Record",
    "Store",
    "create_store",
    "finish_store",
    "load_card",
    "one_writer",
    "write_record",
]
