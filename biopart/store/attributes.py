"""Attributes of a store: whether two stores are prepared alike, and whether of sleep."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biopart.addresses import has_file, is_address
from biopart.codes import STAGES
from biopart.store.label_rules import StageLabels

# Keys of a card that change no value.
NAMES = {"title", "licence", "citation", "origin", "baseline", "max_bad"}
# What a store whose card lacks these keys was prepared with.
ADDED: dict[str, Any] = {
    "pad_to_epoch": False,
    "flat_s": 1.0,
    "sources": {},
    "low_rate": "refuse",
    "events": None,
}
ROOT_KEYS = (
    "format_version",
    "card",
    "epoch_s",
    "sfreq_hz",
    "label_names",
    "channels",
    "axes",
    "shape",
)


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the attributes of a store that differ, with each key of its card separately."""
    changed = [key for key in ROOT_KEYS if found.get(key) != wanted.get(key)]
    old, new = found.get("card"), wanted.get("card")
    if "card" in changed and isinstance(old, dict) and isinstance(new, dict):
        old, new = _of_values(old), _of_values(new)
        keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        changed += [f"card.{key}" for key in keys]
        changed.remove("card")
    return changed


def completed(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card with defaults for the keys that were added after it was written."""
    whole = ADDED | dict(card)
    labels = whole.get("labels")
    if isinstance(labels, dict) and labels.get("kind") == "stages":
        whole["labels"] = StageLabels().model_dump(mode="json") | labels
    return whole


def _of_values(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a card that affects the values in a store."""
    kept = {key: value for key, value in completed(card).items() if key not in NAMES}
    if isinstance(kept.get("labels"), dict):  # ``unlabelled`` only silences a warning
        kept["labels"] = {k: v for k, v in kept["labels"].items() if k != "unlabelled"}
    return kept


def holds_stages(attributes: Mapping[str, Any]) -> bool:
    """Recognise a sleep cohort by the label rule of its card, or by label names without one."""
    rule = attributes.get("card", {}).get("labels")
    if isinstance(rule, dict) and "kind" in rule:
        of_stages = rule["kind"] == "table" and tuple(attributes["label_names"]) == STAGES
        return bool(rule["kind"] == "stages" or of_stages)
    return tuple(attributes["label_names"]) == STAGES


def is_store(path: Path) -> bool:
    """Tell a store's folder from a run's; FileNotFoundError of an address without a store."""
    there = has_file(path / "zarr.json")
    if is_address(path) and not there:
        raise FileNotFoundError(f"there is no store at {path}; check the address")
    return there
