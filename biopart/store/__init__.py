"""Stores of recordings, data set cards and fetching; never imports torch."""

from biopart.store.card import Card, load_card
from biopart.store.records import Record, Store, create_store, finish_store, write_record

__all__ = ["Card", "Record", "Store", "create_store", "finish_store", "load_card", "write_record"]
