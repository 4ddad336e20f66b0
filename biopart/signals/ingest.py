"""Prepare a folder of recordings into a store. A record appears whole or not at all."""

import csv
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from biopart.files import read_text
from biopart.signals.labels import label_files
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.simulate import MARKER
from biopart.store import (
    Card,
    Store,
    create_store,
    finish_store,
    one_writer,
    write_record,
)
from biopart.store.report import Report
from biopart.store.writing import Layout


def find_recordings(raw: Path, card: Card) -> dict[str, Path]:
    """Return the recordings of a raw folder by name.

    Raises
    ------
    FileNotFoundError
        If the folder is missing or has no recording that matches the card.
    """
    if not raw.is_dir():
        raise FileNotFoundError(
            f"raw folder {raw} does not exist; give the raw files of {card.name} by --raw"
        )
    found = {path for glob in card.recordings for path in raw.glob(glob)}
    paths = sorted(path for path in found if not path.name.startswith("."))
    if not paths:
        remedy = f"download some with: biopart fetch {card.name} --to {raw}"
        if card.origin is None:
            remedy = f"card {card.name} has no download address, so put its files there yourself"
        raise FileNotFoundError(
            f"{raw} has no recording that matches {', '.join(card.recordings)}; {remedy}"
        )
    names = {card.name_of(path): path for path in paths}
    if len(names) < len(paths):
        twice = sorted({card.name_of(p) for p in paths if names[card.name_of(p)] != p})
        raise ValueError(
            f"several recordings have the name {', '.join(twice)}; rename or remove all but one"
        )
    return names


def ingest(
    card: Card,
    raw: Path,
    out: Path,
    *,
    jobs: int = 1,
    layout: Layout = "training",
    verify: bool = False,
    on_record: Callable[[str, str | None], None] = lambda name, reason: None,
) -> Report:
    """Prepare every recording that the store lacks or whose source files have changed.

    Parameters
    ----------
    card : Card
        How to prepare them.
    raw, out : Path
        Raw folder and store.
    jobs : int
        Number of processes.
    layout : "training" or "archive"
        Layout of the written records.
    verify : bool
        Compare the bytes of all source files, not only of those whose size or time has changed.
    on_record : callable
        Called with the name of each record and, if it was refused, the reason.

    Returns
    -------
    Report
        A refused recording does not affect the others and is tried again by the next call, which
        also rewrites records whose recording, labels or person have changed.
    """
    paths = find_recordings(raw, card)
    people = read_persons(raw, card)
    report = Report()
    with one_writer(out):
        create_store(out, card.store_attributes(simulated=(raw / MARKER).is_file()))
        store, there = Store(out, growing=True), out.absolute()  # workers are in other folders
        wanted = {}
        for name, path in paths.items():
            changes = (
                [] if name not in store.records else stale(store, name, path, people, verify=verify)
            )
            if name in store.records and not changes:
                report.kept.append(name)
            else:
                wanted[name] = path
                report.updated |= {name: changes} if changes else {}
        calls = (
            delayed(ingest_one)(card, path.absolute(), there, layout=layout, people=people)
            for path in wanted.values()
        )
        results: Iterator[Any] = Parallel(n_jobs=jobs, return_as="generator")(calls)
        seen = Twins(store, skip=set(wanted))
        for name, outcome in zip(wanted, results, strict=True):
            _note(report, name, outcome, seen.twin_of(name, outcome))
            on_record(name, report.refused.get(name))
        finish_store(out)
    return report


def _note(report: Report, name: str, outcome: dict[str, Any] | str, twin: str) -> None:
    """Add the outcome of a recording to the report."""
    if isinstance(outcome, str):
        report.refused[name] = outcome
        report.updated.pop(name, None)
        return
    if name not in report.updated:
        report.written.append(name)
    for kind, target in (("warnings", report.warnings), ("left_out", report.left_out)):
        if outcome[kind]:
            target[name] = list(outcome[kind])
    if twin:
        report.warnings.setdefault(name, []).append(twin)


class Twins:
    """Finds recordings with equal bytes that belong to two persons.

    Parameters
    ----------
    store : Store
        Its records are compared from the start.
    skip : set of str
        Except these, which are being rewritten.
    """

    def __init__(self, store: Store, skip: set[str]) -> None:
        self.owners: dict[str, tuple[str, str]] = {}
        for name in store.records:
            if name not in skip:
                self._add(name, store.about(name))

    def twin_of(self, name: str, outcome: dict[str, Any] | str) -> str:
        """Return the reason if a new record is a copy of another person's; else register it."""
        if isinstance(outcome, str):
            return ""
        other, person = self.owners.get(outcome["source_sha256"], (name, outcome["person"]))
        if person != outcome["person"]:
            return (
                f"its bytes equal those of {other}, but that belongs to {outcome['person']} and "
                f"this to {person}: training refuses such a pair; remove one, or state same_person "
                "in the card"
            )
        self._add(name, outcome)
        return ""

    def _add(self, name: str, about: dict[str, Any]) -> None:
        if "source_sha256" in about:
            self.owners.setdefault(about["source_sha256"], (name, str(about["person"])))


def ingest_one(
    card: Card, path: Path, out: Path, *, layout: Layout, people: dict[str, dict[str, Any]]
) -> dict[str, Any] | str:
    """Prepare one recording; return its attributes, or the reason why it was refused."""
    try:
        recording = open_recording(path, card.reading)
        record = prepare_recording(recording, card)
        person = card.person_of(path)
        labels = label_files(path, card)
        sources = {
            os.path.relpath(file, path.parent): _described(file)
            for file in (*recording.sources, *labels)
        }
    except (ValueError, OSError, MemoryError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    attributes = {
        "person": person,
        **people.get(person, {}),
        "source": path.name,
        "source_sha256": joined_sha256(
            sources[os.path.relpath(file, path.parent)]["sha256"] for file in recording.sources
        ),
        "sources": sources,
        "label_files": [os.path.relpath(file, path.parent) for file in labels],
        **record.attributes,
    }
    write_record(out, card.name_of(path), replace(record, attributes=attributes), layout=layout)
    return attributes


def stale(
    store: Store, name: str, path: Path, people: dict[str, dict[str, Any]], *, verify: bool
) -> list[str]:
    """List how the source files of a record have changed since it was written.

    Parameters
    ----------
    store : Store
        Holds the record; its attributes have the card that was used.
    name, path
        Of the record and of its current recording.
    people : dict
        Current result of ``read_persons``.
    verify : bool
        Compare bytes even if size and time are equal.
    """
    about = store.about(name)
    if "sources" not in about:  # written by an earlier version, without its sources
        return []
    card = Card.model_validate(store.attributes["card"])
    changes = []
    try:
        labels = [os.path.relpath(file, path.parent) for file in label_files(path, card)]
        person = card.person_of(path)
    except ValueError as error:
        return [str(error)]
    recorded = about["label_files"]
    changes += [f"{file} is new" for file in labels if file not in recorded]
    changes += [f"{file} is gone" for file in recorded if file not in labels]
    for file, described in about["sources"].items():
        if file in labels or file not in recorded:
            changes += _difference(path.parent / file, file, described, verify)
    now = {"person": person, **people.get(person, {})}
    for key in ("person", "age", "sex"):
        if about.get(key) != now.get(key):
            changes.append(f"{key} is now {now.get(key)}, was {about.get(key)}")
    return changes


def _difference(path: Path, name: str, recorded: dict[str, Any], verify: bool) -> list[str]:
    """List the difference if a file no longer matches its description."""
    if not path.is_file():
        return [f"{name} is gone"]
    found = path.stat()
    if not verify and [found.st_size, found.st_mtime_ns] == [
        recorded["size"],
        recorded["mtime_ns"],
    ]:
        return []
    return [] if _described(path)["sha256"] == recorded["sha256"] else [f"{name} has changed"]


def _described(path: Path) -> dict[str, Any]:
    """Return size, modification time and SHA-256 of a file."""
    found = path.stat()
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": sha256}


def joined_sha256(hashes: Iterable[str]) -> str:
    """Return the SHA-256 of the hashes of one recording's files, in order."""
    return hashlib.sha256(b"".join(bytes.fromhex(one) for one in hashes)).hexdigest()


def stale_records(store: Store, raw: Path) -> list[str]:
    """List differences between the recordings of a raw folder and a store, by bytes."""
    card = Card.model_validate(store.attributes["card"])
    paths, people = find_recordings(raw, card), read_persons(raw, card)
    lines = [f"{name}: its recording is not in {raw}" for name in store if name not in paths]
    for name, path in paths.items():
        if name not in store.records:
            lines.append(f"{name}: {path.name} is not in the store")
            continue
        if "sources" not in store.about(name):
            lines.append(f"{name}: the store does not record its source files; prepare it again")
        lines += [f"{name}: {change}" for change in stale(store, name, path, people, verify=True)]
    return lines


def read_persons(raw: Path, card: Card) -> dict[str, dict[str, Any]]:
    """Read age and sex of each person from the card's table, if there is one."""
    table = card.persons
    if table is None or not (raw / table.file).is_file():
        return {}
    people: dict[str, dict[str, Any]] = {}
    reader = csv.DictReader(io.StringIO(read_text(raw / table.file)), strict=True)
    header = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = header
    columns = {"person": table.person, "age": table.age, "sex": table.sex}
    for column in filter(None, columns.values()):
        if column not in header:
            raise ValueError(f"{table.file} has no column {column!r}; it has {', '.join(header)}")
    for row in reader:
        cells = {key: (row[column] or "").strip() for key, column in columns.items() if column}
        person = cells.pop("person")
        about: dict[str, Any] = {key: cell for key, cell in cells.items() if cell}
        if "age" in about:
            about["age"] = number_or_text(cells["age"])
        if people.setdefault(person, about) != about:
            raise ValueError(
                f"{table.file}, line {reader.line_num} contradicts an earlier line about {person}; "
                "keep one"
            )
    return people


def number_or_text(text: str) -> int | float | str:
    """Return the finite number that a text represents, else the text.

    Examples
    --------
    >>> [number_or_text(text) for text in ("21", "21.5", "> 89", "nan")]
    [21, 21.5, '> 89', 'nan']
    """
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return text
