"""Images in folders, one per class: ``train/cat/1.jpg``, as ImageNet's by WordNet number."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image

from biopart.images.part import Collection, Read, collected
from biopart.store.image_card import ImageCard

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
DEEP = {"I", "F"}  # and I;16: more than 8 bits, which PIL would clip in silence
SHARE = 256  # images that a process decodes at a time


@dataclass(frozen=True)
class FolderPart:
    """One part of a collection in folders."""

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int16]
    card: ImageCard

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of the names and sizes in bytes of the files of these numbers."""
        names = self.names[start:stop]
        sizes = [f"{name} {(self.root / name).stat().st_size}" for name in names]
        return hashlib.sha256("\n".join(sizes).encode()).hexdigest()

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Decode the images of these numbers."""
        shares = [range(n, min(n + SHARE, stop)) for n in range(start, stop, SHARE)]
        calls = (
            delayed(decode_all)(self.root, self.names[s.start : s.stop], self.card) for s in shares
        )
        found = zip(shares, Parallel(n_jobs=jobs)(calls), strict=True)
        outcomes = (pair for share, made in found for pair in zip(share, made, strict=True))
        return collected(outcomes, self.names, (len(self.card.channels), *self.card.size))


def find_folders(card: ImageCard, raw: Path) -> Collection:
    """List a collection in folders.

    Raises
    ------
    FileNotFoundError
        If a part's folder is missing or holds no folder of a class.
    ValueError
        If the parts have different classes, or a class of a part has no image.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for part, folder in card.parts.items():
        place = raw / folder
        if part in card.labels:
            found[part] = _listed(raw / card.labels[part], place)
            continue
        classes = [p for p in sorted(place.glob("*")) if p.is_dir() and p.name[0] != "."]
        if not classes:
            raise FileNotFoundError(f"{place} holds no folder of a class; {card.name} needs one")
        found[part] = {one.name: _files(one) for one in classes}
    _compare(found)
    classes_of_first = next(iter(found.values()))
    parts = {}
    for part, by_class in found.items():
        names = [str(p.relative_to(raw).as_posix()) for paths in by_class.values() for p in paths]
        counts = [len(paths) for paths in by_class.values()]
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
        parts[part] = FolderPart(raw, tuple(names), labels, card)
    return Collection(tuple(classes_of_first), parts)


def _files(folder: Path) -> list[Path]:
    images = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(
        path for path in images if not any(p[0] == "." for p in path.relative_to(folder).parts)
    )


def _listed(path: Path, place: Path) -> dict[str, list[Path]]:
    """Return the images of a flat folder by the class that a text names for each.

    A line is the name of a file, with or without its ending, and its class, apart by a comma or
    white space; what follows is not read. Kaggle's LOC_val_solution.csv is such a text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}, which should say the class of each image")
    files = {p.stem: p for p in sorted(place.glob("*")) if p.suffix.lower() in SUFFIXES}
    by_class: dict[str, list[Path]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        name, *said = line.replace(",", " ").split() or [""]
        if not name or (number == 1 and said[:1] == ["PredictionString"]):
            continue
        stem = name if name in files else Path(name).stem
        if not said or stem not in files:
            raise ValueError(
                f"{path} says {line!r} in line {number}; give a file of {place} and its class"
            )
        by_class.setdefault(said[0], []).append(files.pop(stem))
    if files:
        raise ValueError(f"{path} says no class of {len(files)} images of {place}")
    return {name: sorted(by_class[name]) for name in sorted(by_class)}


def _compare(found: dict[str, dict[str, list[Path]]]) -> None:
    """Refuse parts of different classes, and classes without an image."""
    everyone = sorted(set().union(*found.values()))
    for part, by_class in found.items():
        absent = [name for name in everyone if not by_class.get(name)]
        if absent:
            where = ", ".join(other for other in found if set(absent) & set(found[other]))
            raise ValueError(
                f"part {part} has no image of {', '.join(absent)}, which {where} has a folder of; "
                "every part needs every class"
            )


def decode_all(root: Path, names: Sequence[str], card: ImageCard) -> list[NDArray[np.uint8] | str]:
    """Decode images; a text in place of one says why it could not be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # corrupt EXIF, which says nothing of the pixels
        return [decode(f"{root}/{name}", card) for name in names]


def decode(path: Path | str | BinaryIO, card: ImageCard) -> NDArray[np.uint8] | str:
    """Decode an image to uint8 (channel, y, x), or say why it is bad.

    CMYK, palettes and transparency become the card's channels by PIL's conversion. The rotation in
    EXIF is not applied, as is usual for ImageNet.
    """
    height, width = card.size
    try:
        with Image.open(path) as image:
            if image.mode.partition(";")[0] in DEEP:
                return f"has more than 8 bits per channel (mode {image.mode})"
            mode = "L" if card.channels == ["grey"] else "RGB"
            image.load()
            converted = image if image.mode == mode else image.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return " ".join(str(error).split())
    if converted.size != (width, height):
        if card.fit is None:
            return f"is {converted.height} x {converted.width}, not {height} x {width}; set fit"
        if card.fit == "crop":
            converted = centre(converted, height, width)
        converted = converted.resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(converted, dtype=np.uint8).reshape(height, width, -1)
    return values.transpose(2, 0, 1)


def centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cut the largest centred part with the proportions of a height and width.

    It is cut before it is resized: PIL's own ``ImageOps.fit`` lets pixels outside bleed in.
    """
    scale = min(image.height / height, image.width / width)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    top, left = (image.height - rows) // 2, (image.width - columns) // 2
    return image.crop((left, top, left + columns, top + rows))
