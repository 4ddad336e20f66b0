"""CIFAR-10 and CIFAR-100 in their own files, binary or python (Krizhevsky 2009).

The python files are pickles, which can run any code: they are read by an unpickler without access
to numpy. It accepts lists, dictionaries, texts, bytes and numbers, and stand-ins for arrays, whose
values are copied out of checked bytes.
"""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biopart.files import read_text
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

NUMBERS = ("u1", "i1", "i2", "i4", "i8", "f4", "f8")
# What an unpickler raises on files that are truncated, damaged or malicious.
_DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(MemoryError, OverflowError, RecursionError, ImportError),
)


@dataclass(frozen=True)
class ArrayPart:
    """One part of a collection that is held in memory."""

    names: tuple[str, ...]
    labels: NDArray[np.int16]
    pixels: NDArray[np.uint8]

    def stamp(self, start: int, stop: int) -> str:
        """Return the hash of the pixels, which are in memory."""
        return self.digest(start, stop)

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of the pixels and labels of these image numbers."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels[start:stop]).data)
        digest.update(self.labels[start:stop].tobytes())
        return digest.hexdigest()

    def read(self, start: int, stop: int, jobs: int) -> Read:
        """Return the images of these numbers; they need no decoding."""
        digest = self.digest(start, stop)
        return Read(self.pixels[start:stop], np.arange(start, stop), {}, digest)


def find_cifar(card: ImageCard, raw: Path) -> Collection:
    """Read CIFAR from its folder, or from the parent folder.

    Raises
    ------
    FileNotFoundError
        If its files do not exist.
    ValueError
        If a file differs from CIFAR's in length or content.
    """
    text, pickled, key = CLASSES[card.images]
    for folder in (raw, *(raw / name for name in FOLDERS[card.images])):
        if (folder / text).is_file():
            lines = [line.strip() for line in read_text(folder / text).split("\n")]
            return _collection(card, folder, tuple(filter(None, lines)), _read_binary)
        if (folder / pickled).is_file():
            names = _unpickle(folder / pickled).get(key)
            if not isinstance(names, list) or not all(isinstance(n, bytes | str) for n in names):
                raise ValueError(
                    f"{folder / pickled} has no names under {key.decode()!r}; unpack it again"
                )
            return _collection(card, folder, tuple(map(_text, names)), _read_python)
    raise FileNotFoundError(
        f"{raw} has neither {text} nor {pickled} of {card.images}; give the folder into which its "
        "archive was unpacked"
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
            raise ValueError(
                f"{folder} has labels beyond its {len(classes)} classes; unpack the archive again"
            )
        names = tuple(f"{part}/{number:05d}" for number in range(len(labels)))
        parts[part] = ArrayPart(names, labels, pixels.reshape(-1, 3, 32, 32))
    return Collection(classes, parts)


def _read_binary(path: Path, fine: bool) -> tuple[NDArray[Any], Sequence[int]]:
    """Read rows of a label (CIFAR-100: a coarse and a fine one) and 3,072 pixels."""
    path = path.with_name(f"{path.name}.bin")
    width = PIXELS + (2 if fine else 1)
    values = np.fromfile(path, np.uint8)
    if not values.size or values.size % width:
        raise ValueError(
            f"{path} has {values.size} bytes, not a multiple of {width}; unpack it again"
        )
    rows = values.reshape(-1, width)
    return rows[:, -PIXELS:], rows[:, -PIXELS - 1].tolist()


def _read_python(path: Path, fine: bool) -> tuple[NDArray[Any], Sequence[int]]:
    """Read a dictionary of an array (images, 3072) and a list of labels."""
    batch = _unpickle(path)
    values = batch.get(b"data")
    labels = batch.get(b"fine_labels" if fine else b"labels")
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        raise ValueError(f"{path} has no array of bytes under 'data'; unpack it again")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{path} has no list of numbers as labels; unpack it again")
    if values.shape != (len(labels), PIXELS):
        raise ValueError(f"{path} has not one label per row of {PIXELS} bytes; unpack it again")
    return values, labels


class _Inert(type):
    """Metaclass of what a pickle may call: it cannot set attributes of these classes."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it sets {cls.__name__}.{name}")


class _Dtype(metaclass=_Inert):
    """Stand-in for numpy.dtype: a name and a byte order, without any numpy code."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *flags: Any) -> None:
        self.name, self.order = _text(name), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])


class _Array(metaclass=_Inert):
    """Stand-in for an array; its values are copied out of checked bytes."""

    __slots__ = ("values",)

    def __init__(self, *arguments: Any) -> None:
        self.values: NDArray[Any] = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or dtype.name not in NUMBERS or type(raw) is not bytes:
            raise pickle.UnpicklingError("it has an array of something other than numbers")
        kind = np.dtype(f"{dtype.order if dtype.order in '<>' else '='}{dtype.name}")
        order: Literal["F", "C"] = "F" if fortran else "C"
        self.values = np.frombuffer(raw, kind).reshape(shape, order=order).copy()


class _Bytes(metaclass=_Inert):
    """Stand-in for codecs.encode, with which Python 3 writes bytes for protocol 2."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> Any:
        """Return the bytes themselves."""
        return str(text).encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for the parts of numpy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Array
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Dtype  # of ndarray only the name is used, and _Array ignores it
        if (module, name) == ("_codecs", "encode"):
            return _Bytes
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickle(path: Path) -> dict[bytes, Any]:
    """Read a dictionary; text keys become bytes, stand-ins become their arrays."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; unpack the archive of CIFAR again")
    try:
        with path.open("rb") as file:
            found = _Unpickler(file, encoding="bytes").load()
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is not a file of CIFAR, which has only arrays, lists and texts: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} has no dictionary; unpack the archive of CIFAR again")
    plain = {k: v.values if isinstance(v, _Array) else v for k, v in found.items()}
    return {key.encode() if isinstance(key, str) else key: value for key, value in plain.items()}


def _text(value: Any) -> str:
    if not isinstance(value, bytes | str):
        raise pickle.UnpicklingError(f"it names a type by a {type(value).__name__}")
    return value.decode() if isinstance(value, bytes) else value
