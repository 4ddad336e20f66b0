"""CIFAR-10 and CIFAR-100 in their own files, binary or python (Krizhevsky 2009).

The python files are pickles, which can run anything: they are read by an unpickler that admits
arrays, lists, dictionaries, texts, bytes and numbers only.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.images.part import Collection, Read
from biopart.store.image_card import ImageCard

PIXELS = 3 * 32 * 32
FOLDERS = {
    "cifar10": ("cifar-10-batches-bin", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-binary", "cifar-100-python"),
}
FILES = {
    "cifar10": {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
    "cifar100": {"train": ["train"], "test": ["test"]},
}
CLASSES = {
    "cifar10": ("batches.meta.txt", "batches.meta", b"label_names"),
    "cifar100": ("fine_label_names.txt", "meta", b"fine_label_names"),
}


@dataclass(frozen=True)
class ArrayPart:
    """One part of a collection that is read whole."""

    names: tuple[str, ...]
    labels: NDArray[np.int16]
    pixels: NDArray[np.uint8]

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Return the images of these numbers; nothing is decoded."""
        return Read(self.pixels[start:stop], np.arange(start, stop), {})


def find_cifar(card: ImageCard, raw: Path) -> Collection:
    """Read CIFAR from its folder, or from the one above it.

    Raises
    ------
    FileNotFoundError
        If its files are not there.
    ValueError
        If a file has another length or content than CIFAR's.
    """
    text, pickled, key = CLASSES[card.images]
    for folder in (raw, *(raw / name for name in FOLDERS[card.images])):
        if (folder / text).is_file():
            lines = (folder / text).read_text(encoding="utf-8").split()
            return _collection(card, folder, tuple(lines), _read_binary)
        if (folder / pickled).is_file():
            names = _unpickle(folder / pickled)[key]
            return _collection(card, folder, tuple(map(_text, names)), _read_python)
    raise FileNotFoundError(
        f"{raw} holds neither {text} nor {pickled} of {card.images}; give the folder that its "
        "archive was unpacked in"
    )


def _collection(
    card: ImageCard,
    folder: Path,
    classes: tuple[str, ...],
    read: Callable[[Path, bool], tuple[NDArray[Any], Sequence[int]]],
) -> Collection:
    parts = {}
    for part, files in FILES[card.images].items():
        found = [read(folder / file, card.images == "cifar100") for file in files]
        pixels = np.concatenate([values for values, _ in found]).astype(np.uint8, copy=False)
        labels = np.concatenate([labels for _, labels in found]).astype(np.int16)
        if not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(f"{folder} has labels beyond its {len(classes)} classes")
        names = tuple(f"{part}/{number:05d}" for number in range(len(labels)))
        parts[part] = ArrayPart(names, labels, pixels.reshape(-1, 3, 32, 32))
    return Collection(classes, parts)


def _read_binary(path: Path, fine: bool) -> tuple[NDArray[Any], Sequence[int]]:
    """Read rows of a label (CIFAR-100: a coarse and a fine one) and 3,072 pixels."""
    path = path.with_name(f"{path.name}.bin")
    width = PIXELS + (2 if fine else 1)
    values = np.fromfile(path, np.uint8)
    if not values.size or values.size % width:
        raise ValueError(f"{path} has {values.size} bytes, which are no rows of {width}")
    rows = values.reshape(-1, width)
    return rows[:, -PIXELS:], rows[:, -PIXELS - 1].tolist()


def _read_python(path: Path, fine: bool) -> tuple[NDArray[Any], Sequence[int]]:
    """Read a dictionary of an array (images, 3072) and a list of labels."""
    batch = _unpickle(path)
    values = batch.get(b"data")
    labels = batch.get(b"fine_labels" if fine else b"labels")
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        raise ValueError(f"{path} has no array of bytes under 'data'")
    if labels is None or values.shape != (len(labels), PIXELS):
        raise ValueError(f"{path} has no label for each of its rows of {PIXELS} bytes")
    return values, labels


class _Unpickler(pickle.Unpickler):
    """Admits what numpy's arrays are made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        arrays = {"numpy.core.multiarray", "numpy._core.multiarray"}
        if module in arrays and name == "_reconstruct":
            return _new_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        if (module, name) == ("_codecs", "encode"):
            return _bytes
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _new_array(kind: type, shape: tuple[int, ...], dtype: bytes | str) -> NDArray[Any]:
    """Return the empty array that a pickled one is filled into."""
    return np.ndarray.__new__(np.ndarray, shape, _text(dtype))


def _dtype(name: bytes | str, *options: Any) -> np.dtype[Any]:
    """Return a type of numbers; one of Python objects is refused."""
    dtype = np.dtype(_text(name))
    if dtype.hasobject:
        raise pickle.UnpicklingError("it asks for an array of objects")
    return dtype


def _bytes(text: str, encoding: str) -> bytes:
    """Return bytes that Python 3 wrote as text for protocol 2."""
    return text.encode("latin1")


def _unpickle(path: Path) -> dict[bytes, Any]:
    """Read a dictionary of arrays; keys that are texts become bytes."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with path.open("rb") as file:
            found = _Unpickler(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(
            f"{path} is no file of CIFAR, which holds arrays, lists and texts only: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no dictionary")
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
