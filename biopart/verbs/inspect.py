"""Inspect raw recordings: the content of a file, and what a card would prepare from it."""

from collections import Counter
from pathlib import Path
from typing import Any

from biopart.images.ingest import find_collection
from biopart.signals.ingest import find_recordings
from biopart.signals.montage import montage
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.recording import Recording
from biopart.signals.stages import is_event, stage_code
from biopart.store import Card
from biopart.store.image_card import ImageCard

_SPELLINGS = 20


def recording_info(path: Path, card: Card | None = None) -> dict[str, Any]:
    """Describe a recording: channels, rates, units, start, length, annotations.

    Parameters
    ----------
    path : Path
        A file of any supported format.
    card : Card, optional
        Its montage is tried on the recording.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file does not exist or cannot be read.
    """
    recording = open_recording(path, None if card is None else card.reading)
    texts = Counter(mark.text for mark in recording.marks)
    kinds = Counter(
        "stages" if stage_code(t) is not None else "events" if is_event(t) else "others"
        for t in texts.elements()
    )
    return {
        "recording": path.name,
        "start": "" if recording.start is None else recording.start.isoformat(),
        "hours": recording.duration_s / 3600,
        "channels": {
            channel.name: {
                "sfreq_hz": channel.sfreq_hz,
                "unit": channel.unit,
                **({"fault": channel.fault} if channel.fault else {}),
            }
            for channel in recording.channels
        },
        "annotations": dict(kinds),
        "spellings": dict(texts.most_common(_SPELLINGS)),
        "warnings": list(recording.warnings),
        **({} if card is None else {"card": card.name, "montage": _montage(recording, card)}),
    }


def _montage(recording: Recording, card: Card) -> list[str]:
    """Return how the card's channels are derived, or why they cannot be."""
    try:
        derivations = montage(recording.names, card.channels, card.aliases, card.sources)
    except ValueError as error:
        return [str(error)]
    return [f"{derivation.name} = {derivation.rule}" for derivation in derivations]


def raw_info(folder: Path) -> dict[str, Any]:
    """Describe a folder of raw files: number per suffix, readable recordings and refused ones.

    Raises FileNotFoundError if it has no files.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p[0] == "." for p in path.relative_to(folder).parts)
    )
    if not files:
        raise FileNotFoundError(f"{folder} has no files")
    opened, refused = {}, {}
    for path in files:
        if path.suffix.lower() not in (".edf", ".bdf", ".hea", ".vhdr", ".set", ".fif"):
            continue
        name = str(path.relative_to(folder))
        try:
            recording = open_recording(path)
        except (ValueError, OSError) as error:
            refused[name] = " ".join(str(error).split())
            continue
        if recording.channels:
            opened[name] = recording
    channels = Counter(", ".join(recording.names) for recording in opened.values())
    return {
        "folder": str(folder),
        "files": dict(Counter(path.suffix or "(no suffix)" for path in files)),
        "recordings": len(opened),
        "hours": sum(recording.duration_s for recording in opened.values()) / 3600,
        "channels": dict(channels.most_common(_SPELLINGS)),
        "refused": refused,
    }


def try_card(card: Card | ImageCard, raw: Path) -> dict[str, Any]:
    """Prepare every recording of a raw folder with a card and store nothing; list images.

    Returns
    -------
    dict
        ``recordings``, ``persons``, ``labels`` {name: count}, ``problems`` (refused recordings,
        with the reason) and ``remarks`` (warnings and what is excluded).
    """
    if isinstance(card, ImageCard):
        return _try_images(card, raw)
    problems, remarks = [], []
    labels: Counter[str] = Counter()
    persons = set()
    paths = find_recordings(raw, card)
    for name, path in paths.items():
        try:
            record = prepare_recording(open_recording(path, card.reading), card)
            persons.add(card.person_of(path))
        except (ValueError, OSError) as error:
            problems.append(f"{name}: {' '.join(str(error).split())}")
            continue
        names = card.labels.names
        labels.update(names[code] for code in record.label[record.label >= 0].tolist())
        for kind in ("warnings", "left_out"):
            remarks += [f"{name}: {line}" for line in record.attributes[kind]]
    return {
        "card": card.name,
        "recordings": len(paths),
        "persons": len(persons),
        "labels": {name: labels[name] for name in card.labels.names},
        "problems": problems,
        "remarks": remarks,
    }


def _try_images(card: ImageCard, raw: Path) -> dict[str, Any]:
    """List the images that a card finds in a raw folder."""
    collection = find_collection(card, raw)
    counts = {
        part: Counter(collection.classes[code] for code in images.labels.tolist())
        for part, images in collection.parts.items()
    }
    return {
        "card": card.name,
        "images": {part: sum(numbers.values()) for part, numbers in counts.items()},
        "labels": {part: dict(numbers) for part, numbers in counts.items()},
        "problems": [],
        "remarks": [
            f"{part}: {line}" for part, lines in collection.left_out.items() for line in lines
        ],
    }
