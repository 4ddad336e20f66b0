"""The content of one record in a store: a recording, or a pack of images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from biopart.codes import MISSING

Arrays = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


@dataclass(frozen=True)
class Record:
    """The stored form of one recording.

    Attributes
    ----------
    signal : int16 (channel, time)
        Physical value = signal * scale; -32768 = missing.
    scale : float (channel,)
        One value per channel.
    label : int8 (epoch,)
        Codes of the cohort's label names, -1 = unknown.
    bad : int64 (segment, 2)
        Start and stop sample of missing, flat or clipped segments.
    attributes : dict
        person, age, sex, name and hash of the source file, montage, what was excluded.
    units : str
        Unit of the physical values.
    event : int64 (event, 3), optional
        Start and stop sample of marked events, and code of the cohort's event names; None = the
        cohort has no events.
    """

    grid: ClassVar = "signal"
    along: ClassVar = "time"  # the axis that an archive cuts into chunks
    chunk: ClassVar = 60_000  # ten minutes at 100 Hz
    fill: ClassVar = MISSING

    signal: NDArray[np.int16]
    scale: NDArray[np.float64]
    label: NDArray[np.int8]
    bad: NDArray[np.int64]
    attributes: dict[str, Any] = field(default_factory=dict)
    units: str = "uV"
    event: NDArray[np.int64] | None = None

    @property
    def varied(self) -> bool:
        """Whether channels have different scales."""
        return len(set(self.scale.tolist())) > 1

    def arrays(self) -> Arrays:
        """Return its arrays by name, with the names of their axes; the grid is first."""
        arrays: Arrays = {"signal": (("channel", "time"), self.signal)}
        if self.varied:
            arrays["scale"] = (("channel",), self.scale)
        arrays["label"] = (("epoch",), self.label)
        arrays["bad"] = (("segment", "bound"), self.bad.reshape(-1, 2))
        if self.event is not None:
            arrays["event"] = (("mark", "start_stop_code"), self.event.reshape(-1, 3))
        return arrays

    def attributes_of_grid(self) -> dict[str, Any]:
        """Return the attributes that xarray needs to decode the signal."""
        factor = 1.0 if self.varied else float(self.scale[0])
        return {"scale_factor": factor, "_FillValue": MISSING, "units": self.units}

    def check(self, name: str, channels: Sequence[str]) -> None:
        """Refuse arrays that are not int16, or not one row and one scale per channel."""
        signal, scale = self.signal, self.scale
        rows = len(channels)
        shaped = (signal.ndim, len(signal), len(scale)) == (2, rows, rows)
        if signal.dtype != np.int16 or not shaped:
            raise ValueError(
                f"record {name} has a signal {signal.dtype} {signal.shape} and {len(scale)} "
                f"scales; the store takes int16 (channel, time) of {', '.join(channels)}"
            )

    def own_attributes(self) -> dict[str, str]:
        """Return the hash of the signal alone, which reveals one recording under two names."""
        return {"signal_sha256": array_sha256(self.signal)}

    def digest(self) -> str:
        """Return the SHA-256 of its arrays."""
        digest = hashlib.sha256(repr(self.signal.shape).encode())
        arrays = (self.signal, self.scale, self.label, self.bad)
        for values, dtype in zip(arrays, ("<i2", "<f8", "i1", "<i8"), strict=True):
            digest.update(np.ascontiguousarray(values, dtype).data)
        if self.event is not None:
            digest.update(np.ascontiguousarray(self.event, "<i8").data)
        return digest.hexdigest()


def array_sha256(values: NDArray[Any]) -> str:
    """Return the SHA-256 of the shape and values of an array, in little-endian order."""
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


IMAGE_AXES = ("channel", "y", "x")


@dataclass(frozen=True)
class Images:
    """The stored form of a pack of images of one size.

    Attributes
    ----------
    image : uint8 (image, channel, y, x)
        Pixels.
    label : int16 (image,)
        Codes of the store's label names, -1 = unknown.
    names : tuple of str
        Name of each image, unique in the store.
    attributes : dict
        part (train, test), source, what was skipped.
    """

    grid: ClassVar = "image"
    along: ClassVar = "image"
    chunk: ClassVar = 1_000
    fill: ClassVar = 0

    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    names: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> Arrays:
        """Return its arrays by name, with the names of their axes; the grid is first."""
        return {
            "image": (("image", "channel", "y", "x"), self.image),
            "label": (("image",), self.label),
            "name": (("image", "byte"), packed(self.names)),
        }

    def attributes_of_grid(self) -> dict[str, Any]:
        """Return the attributes of the pixels: none."""
        return {}

    def check(self, name: str, channels: Sequence[str]) -> None:
        """Refuse pixels that are not uint8 (image, channel, y, x), a label and a name for each."""
        image, count = self.image, len(self.image)
        shaped = image.ndim == 4 and image.shape[1] == len(channels)
        if image.dtype != np.uint8 or not shaped or not count:
            raise ValueError(
                f"pack {name} has images {image.dtype} {image.shape}; the store takes uint8 "
                f"(image, channel, y, x) of {', '.join(channels)}, at least one"
            )
        if (len(self.label), len(set(self.names))) != (count, count) or len(self.names) != count:
            raise ValueError(
                f"pack {name} has {count} images, {len(self.label)} labels and "
                f"{len(set(self.names))} different names; each image needs one of both"
            )

    def own_attributes(self) -> dict[str, str]:
        """Return nothing: images are not recognised by their pixels."""
        return {}

    def digest(self) -> str:
        """Return the SHA-256 of its arrays."""
        digest = hashlib.sha256(repr((self.image.shape, self.names)).encode())
        digest.update(np.ascontiguousarray(self.image).data)
        digest.update(np.ascontiguousarray(self.label, "<i2").data)
        return digest.hexdigest()


def packed(names: Sequence[str]) -> NDArray[np.uint8]:
    """Encode names as UTF-8 in rows of bytes, padded with zeros: (name, byte).

    zarr v3 has no settled text type yet; every reader supports bytes.

    Examples
    --------
    >>> packed(["ab", "c"]).tolist()
    [[97, 98], [99, 0]]
    """
    encoded = np.array([name.encode() for name in names], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(names), -1)


def unpacked(rows: NDArray[np.uint8]) -> tuple[str, ...]:
    """Decode the names that ``packed`` encoded.

    Examples
    --------
    >>> unpacked(packed(["ab", "c", "Aß"]))
    ('ab', 'c', 'Aß')
    """
    width = rows.shape[1]
    texts = np.ascontiguousarray(rows).view(f"S{width}").ravel().tolist()
    return tuple(text.decode() for text in texts)
