"""Images in one folder per class, ``train/cat/1.jpg``, as in ImageNet."""

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from biopart.files import read_text
from biopart.images.decoding import decode, quietly, suffixes
from biopart.images.part import (
    Collection,
    Outcome,
    Read,
    class_codes,
    collected,
    digest_of,
    printable,
    skipped,
)
from biopart.store.image_card import ImageCard

SHARE = 256  # images that a process decodes at a time
_BOXES = re.compile(r"(\S+)(?: \d+){4}(?: \S+(?: \d+){4})*")  # boxes in Kaggle's text


@dataclass(frozen=True)
class FolderPart:
    """One part of a collection in folders."""

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int16]
    card: ImageCard

    def stamp(self, start: int, stop: int) -> str:
        """Return a hash of names, sizes and modification times of the files of these numbers."""
        return digest_of({name: _stat(self.root / name) for name in self.names[start:stop]})

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of the names and bytes of the files of these numbers."""
        return digest_of({name: _sha256(self.root, name)[0] for name in self.names[start:stop]})

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Decode the images of these numbers."""
        shares = [range(n, min(n + SHARE, stop)) for n in range(start, stop, SHARE)]
        calls = (
            delayed(decode_all)(self.root.absolute(), self.names[s.start : s.stop], self.card)
            for s in shares
        )
        found = zip(shares, Parallel(n_jobs=jobs)(calls), strict=True)
        outcomes = (
            (number, *made)
            for share, all_made in found
            for number, made in zip(share, all_made, strict=True)
        )
        return collected(outcomes, self.names, (len(self.card.channels), *self.card.size))


def _stat(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def _sha256(root: Path, name: str) -> tuple[str, bytes | None]:
    """Return the SHA-256 of a file and its bytes; the word gone if it cannot be read."""
    try:
        raw = Path(f"{root}/{name}").read_bytes()
    except OSError:
        return "gone", None
    return hashlib.sha256(raw).hexdigest(), raw


def find_folders(card: ImageCard, raw: Path) -> Collection:
    """List a collection in folders, including linked folders.

    Raises
    ------
    FileNotFoundError
        If the folder of a part does not exist or has no class folder.
    ValueError
        If the parts have different classes, or a class has no image in a part.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    others: dict[str, Counter[str]] = {part: Counter() for part in card.parts}
    for part, folder in card.parts.items():
        place = raw / folder
        if part in card.labels:
            found[part] = _listed(raw / card.labels[part], place, others[part])
            continue
        classes = _class_folders(place, card)
        found[part] = {one.name: _images(_files(one), others[part]) for one in classes}
    _compare(found)
    parts = {}
    for part, by_class in found.items():
        names = [str(p.relative_to(raw).as_posix()) for paths in by_class.values() for p in paths]
        counts = [len(paths) for paths in by_class.values()]
        labels = class_codes(np.repeat(np.arange(len(counts)), counts))
        parts[part] = FolderPart(raw, tuple(names), labels, card)
    left_out = {part: [skipped(counts)] for part, counts in others.items() if counts}
    return Collection(tuple(next(iter(found.values()))), parts, left_out)


def _class_folders(place: Path, card: ImageCard) -> list[Path]:
    """Return the folders of a part's classes, sorted; FileNotFoundError if one is missing."""
    found = {p.name: p for p in sorted(place.glob("*")) if p.is_dir() and p.name[0] != "."}
    if not found:
        raise FileNotFoundError(f"{place} has no class folder; {card.name} needs one")
    missing = sorted(set(card.classes or ()) - set(found))
    if missing:
        more = f" and {len(missing) - 3} others" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"{place} has no folder {', '.join(missing[:3])}{more}, which are among the classes of "
            f"{card.name}"
        )
    return [path for name, path in found.items() if card.classes is None or name in card.classes]


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, linked ones too, each folder once."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(place, name) for name in files if name[0] != ".")


def _images(files: Iterator[Path], others: Counter[str]) -> list[Path]:
    """Return the images among files, sorted, and count other files by suffix."""
    images = []
    for path in files:
        if path.suffix.lower() in suffixes():
            images.append(path)
        else:
            others[path.suffix.lower()] += 1
    return sorted(images)


def _listed(path: Path, place: Path, others: Counter[str]) -> dict[str, list[Path]]:
    """Return the images of a flat folder by the class that a text file gives for each.

    A line has the name of a file, with or without its suffix, and its class, separated by a comma,
    a tab or blanks; both may contain blanks. Kaggle's LOC_val_solution.csv, with boxes after the
    class, has this form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it must give the class of each image")
    files = {p.name: p for p in _images((p for p in place.glob("*") if p.is_file()), others)}
    stems: dict[str, list[str]] = {}
    for name in files:
        stems.setdefault(Path(name).stem, []).append(name)
    by_class: dict[str, list[Path]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or (number == 1 and "PredictionString" in line):
            continue
        name, label = _parted(line, files, stems)
        several = stems.get(name, []) if name not in files else [name]
        if not label or len(several) != 1 or several[0] not in files:
            many = f"; {name} may be {' or '.join(several)}" if len(several) > 1 else ""
            raise ValueError(
                f"{path} has {line!r} in line {number}; give a file of {place} and its class once"
                f"{many}"
            )
        by_class.setdefault(label, []).append(files.pop(several[0]))
    if files:
        some = ", ".join(printable(name) for name in sorted(files)[:3])
        raise ValueError(
            f"{path} gives no class for {len(files)} images of {place} ({some}); add them"
        )
    return {name: sorted(by_class[name]) for name in sorted(by_class)}


def _parted(line: str, files: Mapping[str, Path], stems: Mapping[str, object]) -> tuple[str, str]:
    """Split a line into the name of a file and its class."""
    line = line.strip()
    for mark in "\t,;":
        if mark in line:
            name, _, label = (part.strip().strip('"') for part in line.partition(mark))
            label = label.split(mark)[0].strip()
            boxes = _BOXES.fullmatch(label)
            return name, boxes[1] if boxes else label
    words = line.split()
    for count in range(1, len(words)):
        name = " ".join(words[:count])
        if name in files or name in stems:
            return name, " ".join(words[count:])
    return words[0], " ".join(words[1:])


def _compare(found: dict[str, dict[str, list[Path]]]) -> None:
    """Refuse parts with different classes, and classes without an image."""
    everyone = sorted(set().union(*found.values()))
    for part, by_class in found.items():
        absent = [name for name in everyone if not by_class.get(name)]
        if absent:
            where = ", ".join(other for other in found if set(absent) & set(found[other]))
            raise ValueError(
                f"part {part} has no image of {', '.join(absent)}, which {where} has a folder for; "
                "every part needs every class"
            )


def decode_all(root: Path, names: Sequence[str], card: ImageCard) -> list[tuple[Outcome, str]]:
    """Decode images, or give the reason as a text; with the hash of each."""
    with quietly():
        return [_decoded(root, name, card) for name in names]


def _decoded(root: Path, name: str, card: ImageCard) -> tuple[Outcome, str]:
    sha256, raw = _sha256(root, name)
    if printable(name) != name:
        return "has a name that is not UTF-8: rename it", sha256
    if raw is None:
        return "cannot be read, or is a broken link", sha256
    return decode(io.BytesIO(raw), card), sha256
