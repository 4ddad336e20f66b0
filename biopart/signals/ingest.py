"""A folder of recordings into a store: one record at a time, each whole or not at all."""

import csv
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.simulate import MARKER
from biopart.store import Card, Store, create_store, finish_store, write_record
from biopart.store.report import Report
from biopart.store.writing import Layout


def find_recordings(raw: Path, card: Card) -> dict[str, Path]:
    """Return the recordings of a raw folder by their names.

    Raises
    ------
    FileNotFoundError
        If the folder is missing or holds no recording of the card's kind.
    """
    if not raw.is_dir():
        raise FileNotFoundError(f"no folder {raw}; give the raw files of {card.name} by --raw")
    found = {path for glob in card.recordings for path in raw.glob(glob)}
    paths = sorted(path for path in found if not path.name.startswith("."))
    if not paths:
        remedy = f"fetch some with: biopart fetch {card.name} --to {raw}"
        if card.origin is None:
            remedy = (
                f"card {card.name} names no place to fetch from, so put its files there by hand"
            )
        raise FileNotFoundError(
            f"{raw} holds no recording that fits {', '.join(card.recordings)}; {remedy}"
        )
    names = {path.stem: path for path in paths}
    if len(names) < len(paths):
        twice = sorted({p.stem for p in paths if names[p.stem] != p})
        raise ValueError(f"several recordings are called {', '.join(twice)}")
    return names


def ingest(
    card: Card,
    raw: Path,
    out: Path,
    *,
    jobs: int = 1,
    layout: Layout = "training",
    on_record: Callable[[str, str | None], None] = lambda name, reason: None,
) -> Report:
    """Prepare every recording of a folder that the store does not hold yet.

    Parameters
    ----------
    card : Card
        What to do with them.
    raw, out : Path
        Raw folder and store.
    jobs : int
        Processes.
    layout : "training" or "archive"
        Of the records written.
    on_record : callable
        Gets each record's name and, where it was refused, the reason.

    Returns
    -------
    Report
        A refused recording leaves the others alone; a second call tries it again.
    """
    paths = find_recordings(raw, card)
    create_store(out, card.store_attributes(simulated=(raw / MARKER).is_file()))
    present = set(Store(out).records)
    report = Report(kept=[name for name in paths if name in present])
    missing = {name: path for name, path in paths.items() if name not in present}
    people = read_persons(raw, card)
    calls = (
        delayed(ingest_one)(card, path, out, layout=layout, people=people)
        for path in missing.values()
    )
    results: Iterator[Any] = Parallel(n_jobs=jobs, return_as="generator")(calls)
    for name, outcome in zip(missing, results, strict=True):
        if isinstance(outcome, str):
            report.refused[name] = outcome
        else:
            report.written.append(name)
            for kind, target in (("warnings", report.warnings), ("left_out", report.left_out)):
                if outcome[kind]:
                    target[name] = outcome[kind]
        on_record(name, report.refused.get(name))
    finish_store(out)
    return report


def ingest_one(
    card: Card, path: Path, out: Path, *, layout: Layout, people: dict[str, dict[str, Any]]
) -> dict[str, Any] | str:
    """Prepare one recording; return its attributes, or the reason why it was refused."""
    try:
        record = prepare_recording(open_recording(path, card.table), card)
        person = card.person_of(path.stem)
        source = _hash(path)
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())
    attributes = {
        "person": person,
        **people.get(person, {}),
        "source": path.name,
        "source_sha256": source,
        **record.attributes,
    }
    write_record(out, path.stem, replace(record, attributes=attributes), layout=layout)
    return attributes


def read_persons(raw: Path, card: Card) -> dict[str, dict[str, Any]]:
    """Read age and sex of each person from the card's table, where there is one."""
    table = card.persons
    if table is None or not (raw / table.file).is_file():
        return {}
    people: dict[str, dict[str, Any]] = {}
    with (raw / table.file).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        columns = {"person": table.person, "age": table.age, "sex": table.sex}
        for column in filter(None, columns.values()):
            if column not in header:
                raise ValueError(
                    f"{table.file} has no column {column!r}; it has {', '.join(header)}"
                )
        for row in reader:
            cells = {key: (row[column] or "").strip() for key, column in columns.items() if column}
            person = cells.pop("person")
            people[person] = {key: cell for key, cell in cells.items() if cell}
            if "age" in people[person]:
                people[person]["age"] = number_or_text(cells["age"])
    return people


def number_or_text(text: str) -> int | float | str:
    """Return the finite number that a text is, else the text.

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


def _hash(path: Path) -> str:
    """Return the SHA-256 of a recording's file, and of its data file where they are two."""
    digest = hashlib.sha256()
    beside = [path.with_suffix(suffix) for suffix in (".mat", ".dat") if path.suffix == ".hea"]
    for file in (path, *(b for b in beside if b.is_file())):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
