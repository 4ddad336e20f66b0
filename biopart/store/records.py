"""A cohort of recordings as one zarr v3 group, in two layouts behind one class.

``training``: one uncompressed chunk per record, memory-mapped. ``archive``: sharded and
compressed (blosc lz4 with bitshuffle), for object stores. A record appears whole or not at all:
it is written beside and renamed.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from biopart.store.attributes import differences, holds_stages

FORMAT_VERSION = 1
MISSING = -32768
Layout = Literal["training", "archive"]
# What zarr, xarray, numpy and json raise on files that are damaged or gone.
_UNREADABLE = (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Record:
    """What a store holds of one recording.

    Attributes
    ----------
    signal : int16 (channel, time)
        Physical value = signal * scale; -32768 = missing.
    scale : float (channel,)
        One value per channel.
    label : int8 (epoch,)
        Codes of the cohort's label names, -1 = unknown.
    bad : int64 (segment, 2)
        Start and stop sample of NaN, flat or clipped stretches.
    attributes : dict
        person, age, sex, source file's name and hash, what the montage did, what was left out.
    units : str
        Unit of the physical values.
    """

    signal: NDArray[np.int16]
    scale: NDArray[np.float64]
    label: NDArray[np.int8]
    bad: NDArray[np.int64]
    attributes: dict[str, Any] = field(default_factory=dict)
    units: str = "uV"


def create_store(path: Path, attributes: Mapping[str, Any]) -> None:
    """Create an empty store, or check that an existing one was made the same way.

    A store that holds no record yet takes the new attributes.

    Parameters
    ----------
    path : Path
        Folder of the store.
    attributes : mapping
        card, epoch_s, sfreq_hz, label_names, channels.

    Raises
    ------
    ValueError
        If the folder holds a store made by another card or format, or something else.
    """
    wanted = json.loads(json.dumps({"format_version": FORMAT_VERSION, **attributes}))
    if path.is_file():
        raise ValueError(f"{path} is a file; give the folder of a store")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    if not path.is_dir() or not any(path.iterdir()):
        path.parent.mkdir(parents=True, exist_ok=True)
        zarr.open_group(beside, mode="w", zarr_format=3, attributes=wanted)
        beside.replace(path)
        return
    store = Store(path)
    if not len(store):
        zarr.open_group(beside, mode="w", zarr_format=3, attributes=wanted)
        (beside / "zarr.json").replace(path / "zarr.json")
        beside.rmdir()
        return
    changed = differences(store.attributes, wanted)
    if changed:
        raise ValueError(
            f"{path} is a store that was made with another {', '.join(changed)}; "
            "give another --out or remove it"
        )


def write_record(path: Path, name: str, record: Record, *, layout: Layout = "training") -> None:
    """Write one record into a store, whole or not at all, replacing one of its name.

    Parameters
    ----------
    path : Path
        Folder of the store.
    name : str
        Name of the record: one folder name.
    record : Record
        Arrays and attributes; the hash of the arrays is added to these.
    layout : "training" or "archive"
        One raw chunk, or compressed shards.

    Raises
    ------
    ValueError
        If the name is no folder name, or the arrays do not fit the store's channels.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"a record's name must be a plain folder name; got {name!r}")
    store = Store(path)
    _check(name, record, store.channels)
    beside = path / f".{name}.{os.getpid()}.part"
    _remove_leftovers(path, name)
    varied = len(set(record.scale.tolist())) > 1
    attributes = {**record.attributes, "sha256": _digest(record)}
    group = zarr.open_group(beside, mode="w", zarr_format=3, attributes=attributes)
    _write_signal(group, record, 1.0 if varied else float(record.scale[0]), layout)
    if varied:
        _write_array(group, "scale", record.scale, ("channel",))
    for label in ("label", "stage") if holds_stages(store.attributes) else ("label",):
        _write_array(group, label, record.label, ("epoch",))
    _write_array(group, "bad", record.bad.reshape(-1, 2), ("segment", "bound"))
    if (path / name).exists():
        (path / name).rename(path / f".{name}.replaced.part")
    beside.rename(path / name)
    _remove_leftovers(path, name)


def finish_store(path: Path) -> None:
    """Gather all metadata at the root, so that xarray and object stores open it in one read.

    Records written later are seen by Store at once, and by xarray after the next call. What a
    writer that was stopped left behind is removed, so nobody else may be writing.
    """
    _remove_leftovers(path, "*")
    with warnings.catch_warnings():
        # zarr notes that v3 has no standard for this yet; xarray.open_zarr warns without it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(path, zarr_format=3)


def _remove_leftovers(path: Path, name: str) -> None:
    """Remove what writers of a record (``*`` = of any) that were stopped left in a store."""
    writers = re.compile(rf"\.{'.+' if name == '*' else re.escape(name)}\.(\d+|replaced)\.part")
    for leftover in path.glob(".*.part"):
        if writers.fullmatch(leftover.name):
            shutil.rmtree(leftover)


def _check(name: str, record: Record, channels: Sequence[str]) -> None:
    """Refuse arrays that are not int16, or not one row and one scale per channel."""
    signal, scale = record.signal, record.scale
    rows = len(channels)
    if signal.dtype != np.int16 or signal.ndim != 2 or len(signal) != rows or len(scale) != rows:
        raise ValueError(
            f"record {name} has a signal {signal.dtype} {signal.shape} and {len(scale)} scales; "
            f"the store takes int16 (channel, time) of {', '.join(channels)}"
        )


def _digest(record: Record) -> str:
    """Return the SHA-256 of a record's arrays."""
    digest = hashlib.sha256(repr(record.signal.shape).encode())
    arrays = (record.signal, record.scale, record.label, record.bad)
    for values, dtype in zip(arrays, ("<i2", "<f8", "i1", "<i8"), strict=True):
        digest.update(np.ascontiguousarray(values, dtype).data)
    return digest.hexdigest()


def _write_signal(group: zarr.Group, record: Record, factor: float, layout: Layout) -> None:
    """Write the signal as one raw chunk, or as one shard of compressed ten-minute chunks."""
    channels, samples = record.signal.shape
    options: dict[str, Any] = {"chunks": (channels, max(samples, 1)), "compressors": None}
    if layout == "archive":
        chunk = min(60_000, max(samples, 1))
        options = {
            "chunks": (channels, chunk),
            "shards": (channels, -(-samples // chunk) * chunk),
            "compressors": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        }
    array = group.create_array(
        "signal",
        shape=record.signal.shape,
        dtype="int16",
        fill_value=MISSING,
        dimension_names=("channel", "time"),
        attributes={"scale_factor": factor, "_FillValue": MISSING, "units": record.units},
        **options,
    )
    array[:] = record.signal


def _write_array(
    group: zarr.Group, name: str, values: NDArray[Any], dimensions: Sequence[str]
) -> None:
    """Write a small array as one chunk."""
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, dimension_names=dimensions
    )
    array[...] = values


class Store:
    """A prepared cohort, read-only: a mapping from record names to data.

    Parameters
    ----------
    path : Path or str
        Folder of the store, or an address that fsspec opens (``s3://...``; archive layout).

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    ValueError
        If it is no store of ours or has another format version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path if "://" in str(path) else Path(path)
        if isinstance(self.path, Path) and not self.path.is_dir():
            raise FileNotFoundError(
                f"no store at {path}; make one with: biopart prepare CARD --raw DIR --out {path}"
            )
        try:
            self.group = zarr.open_group(self.path, mode="r", zarr_format=3, use_consolidated=False)
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a store, a zarr v3 group: {error}") from error
        self.attributes: dict[str, Any] = dict(self.group.attrs)
        version = self.attributes.get("format_version")
        if version is None:
            raise ValueError(f"{path} is not a store: its zarr group has no format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{path} has store format {version}; this biopart reads {FORMAT_VERSION}, so "
                "prepare the store again"
            )

    @cached_property
    def records(self) -> tuple[str, ...]:
        """Names of the records, sorted."""
        if isinstance(self.path, Path):
            found = [entry.parent.name for entry in self.path.glob("*/zarr.json")]
        else:
            found = list(self.group.group_keys())
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, record: str) -> xarray.Dataset:
        """Open one record as an xarray.Dataset in physical units, lazily where one scale will do.

        A ``scale`` per channel is multiplied in, and is not among the variables.
        """
        with self._named(record):
            data: xarray.Dataset = xarray.open_zarr(
                self.path, group=record, chunks=None, consolidated=False
            )
        if "scale" in data:
            physical = (data["signal"] * data["scale"]).assign_attrs(data["signal"].attrs)
            data = data.assign(signal=physical).drop_vars("scale")
        return data.assign_coords(channel=("channel", list(self.channels)))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.attributes["channels"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels by code."""
        return tuple(self.attributes["label_names"])

    @property
    def sfreq_hz(self) -> float:
        """Sampling rate in hertz."""
        return float(self.attributes["sfreq_hz"])

    @property
    def epoch_samples(self) -> int:
        """Samples in an epoch."""
        return round(float(self.attributes["epoch_s"]) * self.sfreq_hz)

    @cached_property
    def persons(self) -> dict[str, str]:
        """Person of each record."""
        return {record: str(self.about(record)["person"]) for record in self.records}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the store's attributes and each record's name and the hash of its arrays."""
        parts = [repr(sorted((k, repr(v)) for k, v in self.attributes.items()))]
        parts += [f"{record} {self.about(record).get('sha256')}" for record in self.records]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def about(self, record: str) -> dict[str, Any]:
        """Return the attributes of a record; ValueError names those that exist."""
        with self._named(record):
            return dict(zarr.open_group(self.group.store, path=record, mode="r").attrs)

    def digest(self, record: str) -> str:
        """Return the SHA-256 of a record's arrays as they are; ``about`` has the written one's."""
        arrays = self.signal(record), self.scale(record), self.label(record), self.bad(record)
        return _digest(Record(*arrays))

    def signal(self, record: str) -> NDArray[np.int16]:
        """Return the stored integers (channel, time): memory-mapped in the training layout."""
        with self._named(record):
            array = self._array(record, "signal")
            raw = self._raw_chunk(record)
            if raw is not None and not array.compressors and array.chunks == array.shape:
                return np.memmap(raw, dtype="<i2", mode="r", shape=array.shape)
            return np.asarray(array[:], dtype=np.int16)

    def length(self, record: str) -> int:
        """Return the number of samples of a record."""
        with self._named(record):
            return int(self._array(record, "signal").shape[1])

    def scale(self, record: str) -> NDArray[np.float64]:
        """Return physical value per stored unit, one per channel."""
        with self._named(record):
            factor = float(str(self._array(record, "signal").attrs["scale_factor"]))
            about = zarr.open_group(self.group.store, path=record, mode="r")
            if "scale" in about:
                return factor * np.asarray(self._array(record, "scale")[:], dtype=np.float64)
            return np.full(len(self.channels), factor)

    def label(self, record: str) -> NDArray[np.int8]:
        """Return the label of each epoch, -1 = unknown."""
        with self._named(record):
            return np.asarray(self._array(record, "label")[:], dtype=np.int8)

    def bad(self, record: str) -> NDArray[np.int64]:
        """Return start and stop of bad stretches in samples, (segment, 2)."""
        with self._named(record):
            return np.asarray(self._array(record, "bad")[...], dtype=np.int64).reshape(-1, 2)

    @contextmanager
    def _named(self, record: str) -> Iterator[None]:
        """Say which record could not be read, whatever zarr, numpy or the disk says of it."""
        if record not in self.records:
            raise ValueError(
                f"no record {record!r} in {self.path}; it has {', '.join(self.records)}"
            )
        try:
            yield
        except _UNREADABLE as error:
            raise ValueError(
                f"record {record} of {self.path} cannot be read ({' '.join(str(error).split())}); "
                "remove its folder and prepare it again"
            ) from error

    def _array(self, record: str, name: str) -> zarr.Array[Any]:
        return zarr.open_array(self.group.store, path=f"{record}/{name}", mode="r")

    def _raw_chunk(self, record: str) -> Path | None:
        """Return the file of the single raw chunk, where the store is a local folder."""
        if not isinstance(self.path, Path):
            return None
        chunk = self.path / record / "signal" / "c" / "0" / "0"
        return chunk if chunk.is_file() else None
