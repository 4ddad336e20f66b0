"""A cohort of recordings, or an image collection, as one zarr v3 group in two layouts.

``training``: one uncompressed chunk per record, memory-mapped. ``archive``: sharded and
compressed (blosc lz4 with bitshuffle), for object stores. One class reads both.
"""

import hashlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biopart.addresses import OPTIONS, has_file, is_address, place, reached, unreachable
from biopart.store.cache import NoRoom, opened_cache
from biopart.store.codecs import CODECS, codecs_of
from biopart.store.contents import array_sha256, unpacked
from biopart.store.kinds import IMAGES, Kind, kind_of

if TYPE_CHECKING:
    import xarray
    import zarr

FORMAT_VERSION = 1
THREADS = 16  # that fetch from an address at a time
_READ: dict[str, Any] = {"mode": "r", "zarr_format": 3}
# What zarr, xarray, numpy and json raise on damaged or missing files.
_UNREADABLE = (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError)


def zarr_place(path: Path, *, read_only: bool = True) -> Any:
    """Return a place as zarr takes it: a path, or the store of an address."""
    if not is_address(path):
        return path
    from zarr.storage import FsspecStore

    return FsspecStore.from_url(str(path), storage_options=OPTIONS, read_only=read_only)


class Store:
    """A prepared cohort, read-only: a mapping from record names to data.

    Parameters
    ----------
    path : Path or str
        Folder of the store, or an address that fsspec opens (``s3://...``), whose arrays are kept
        in the cache of this machine while they are used.
    growing : bool
        Of an address: also look for records that were written since the store was finished.
    cached : bool
        Of an address: use the cache.

    Raises
    ------
    FileNotFoundError
        If ``path`` does not exist.
    ValueError
        If it is not a biopart store or has another format version.
    """

    def __init__(self, path: Path | str, *, growing: bool = False, cached: bool = True) -> None:
        import zarr

        self.path = place(path)
        self.remote = is_address(self.path)
        if not (has_file(self.path / "zarr.json") if self.remote else self.path.is_dir()):
            raise FileNotFoundError(
                f"store {path} does not exist; make it: biopart prepare CARD --raw DIR --out {path}"
            )
        consolidated = None if self.remote and not growing else False
        with reached(self.path):
            try:
                self.group = zarr.open_group(
                    zarr_place(self.path), mode="r", zarr_format=3, use_consolidated=consolidated
                )
            except (FileNotFoundError, ValueError, TypeError) as error:
                raise ValueError(
                    f"{path} is not a store (a zarr v3 group); make one with: biopart prepare CARD "
                    "--raw DIR --out STORE"
                ) from error
        self.attributes: dict[str, Any] = dict(self.group.attrs)
        self._whole: set[str] = set()  # records whose missing chunks were verified
        self._cache = opened_cache() if self.remote and cached else None
        self._small = False  # whether labels and bad segments of an address were fetched
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
        if not self.remote:
            found = [entry.parent.name for entry in self.path.glob("*/zarr.json")]
        else:
            with reached(self.path), warnings.catch_warnings():
                # Of a record that is being written.
                warnings.filterwarnings("ignore", message="Object at")
                found = list(self.group.group_keys())
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, record: str) -> "xarray.Dataset":
        """Open one record as an xarray.Dataset in physical units, lazily if it has one scale.

        A ``scale`` per channel is multiplied in and is not among the variables. A pack of images
        has their names as a coordinate.
        """
        import xarray

        with self._named(record):
            for name in self.kind.arrays:
                self._array(record, name)  # refuses damaged or foreign arrays
            data: xarray.Dataset = xarray.open_zarr(
                zarr_place(self.path),
                group=record,
                chunks=None,
                consolidated=False,
                zarr_format=3,
            )
        if "scale" in data:
            physical = (data["signal"] * data["scale"]).assign_attrs(data["signal"].attrs)
            data = data.assign(signal=physical).drop_vars("scale")
        if "name" in data:
            data = data.drop_vars("name").assign_coords(name=("image", list(self.names(record))))
        whole: xarray.Dataset = data.assign_coords(channel=("channel", list(self.channels)))
        return whole

    @cached_property
    def kind(self) -> Kind:
        """What its records are, recordings or packs of images, and all that depends on it."""
        return kind_of(self.attributes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents S of one grid: of an epoch in samples, of an image in pixels (y, x)."""
        return self.kind.shape(self.attributes)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.attributes["channels"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels by code."""
        return tuple(self.attributes["label_names"])

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the classes of events by code; none where the cohort has no events."""
        return tuple(self.attributes.get("event_names", ()))

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
        """Person of each record; packs of images have none, since each image is its own unit."""
        if self.kind is IMAGES:
            return {}
        return {record: str(self.about(record)["person"]) for record in self.records}

    @cached_property
    def people(self) -> dict[str, tuple[str, ...]]:
        """Persons of each record: one for a recording, every image for a pack of images."""
        return {record: self.kind.people(self, record) for record in self.records}

    def part_of_persons(self) -> dict[str, str]:
        """Return the part (train, test) of each person or image; "" where there are none."""
        return {
            person: part
            for record in self.records
            for part in (self.kind.part(self, record),)
            for person in self.people[record]
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the store's attributes and of each record's name, person and array hash."""
        parts = [repr(sorted((k, repr(v)) for k, v in self.attributes.items()))]
        for record in self.records:
            about = self.about(record)
            parts.append(f"{record} {about.get('sha256')} {about.get('person')}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def about(self, record: str) -> dict[str, Any]:
        """Return the attributes of a record; ValueError names those that exist."""
        with self._named(record):
            return dict(self._group(record).attrs)

    def digest(self, record: str) -> str:
        """Return the SHA-256 of a record's current arrays; ``about`` has the one at writing."""
        return self.kind.digest(self, record)

    def signal(self, record: str) -> NDArray[np.int16]:
        """Return the stored integers (channel, time): memory-mapped in the training layout."""
        values: NDArray[np.int16] = self._grid(record, "signal", "<i2")
        return values

    def images(self, record: str) -> NDArray[np.uint8]:
        """Return a pack's pixels (image, channel, y, x): memory-mapped in the training layout."""
        values: NDArray[np.uint8] = self._grid(record, "image", "u1")
        return values

    def names(self, record: str) -> tuple[str, ...]:
        """Return the names of a pack's images."""
        with self._named(record):
            return unpacked(np.asarray(self._values(record, "name"), dtype=np.uint8))

    def _grid(self, record: str, name: str, dtype: str) -> NDArray[Any]:
        """Return signal or images, memory-mapped if raw, in a local folder or in the cache."""
        with self._named(record):
            if self.remote:
                return self._values(record, name, dtype)
            array = self._array(record, name)
            raw = self._raw_chunk(record, name)
            if raw is not None and not array.compressors and array.chunks == array.shape:
                if raw.stat().st_size != array.nbytes:
                    raise ValueError(
                        f"{name} has {raw.stat().st_size} bytes instead of {array.nbytes}"
                    )
                return np.memmap(raw, dtype=dtype, mode="r", shape=array.shape)
            return np.asarray(array[...], dtype=dtype)

    def length(self, record: str) -> int:
        """Return the number of samples of a record."""
        with self._named(record):
            return int(self._array(record, "signal").shape[1])

    def scale(self, record: str) -> NDArray[np.float64]:
        """Return physical value per stored unit, one per channel."""
        with self._named(record):
            factor = float(str(self._array(record, "signal").attrs["scale_factor"]))
            if "scale" in self._group(record):
                return factor * np.asarray(self._values(record, "scale"), dtype=np.float64)
            return np.full(len(self.channels), factor)

    def label(self, record: str) -> NDArray[Any]:
        """Return the label of each epoch (int8) or image (int16), -1 = unknown."""
        self._fetch_small()
        with self._named(record):
            return np.asarray(self._values(record, "label"))

    def bad(self, record: str) -> NDArray[np.int64]:
        """Return start and stop of bad segments in samples, (segment, 2)."""
        self._fetch_small()
        with self._named(record):
            return np.asarray(self._values(record, "bad"), dtype=np.int64).reshape(-1, 2)

    def events(self, record: str) -> NDArray[np.int64] | None:
        """Return start, stop and code of events, (event, 3); None if the cohort has none."""
        if not self.event_names:
            return None
        with self._named(record):
            return np.asarray(self._values(record, "event"), dtype=np.int64).reshape(-1, 3)

    @contextmanager
    def _named(self, record: str) -> Iterator[None]:
        """Name the record that could not be read, for any error of zarr, numpy or the disk."""
        if record not in self.records:
            raise ValueError(
                f"no record {record!r} in {self.path}; it has {', '.join(self.records)}"
            )
        faults: tuple[type[BaseException], ...] = _UNREADABLE
        if self.remote:
            faults = (*faults, *unreachable())
        try:
            yield
        except NoRoom:
            raise
        except faults as error:
            remedy = "remove its folder and prepare it again"
            if self.remote:
                remedy = f"check the connection; if that is good, {remedy}"
            raise ValueError(
                f"record {record} of {self.path} cannot be read ({' '.join(str(error).split())}); "
                f"{remedy}"
            ) from error

    def _group(self, record: str) -> "zarr.Group":
        """Open the group of a record: of an address by the metadata gathered at its root."""
        import zarr

        if self.remote:
            group = self.group[record]
            assert isinstance(group, zarr.Group)
            return group
        return zarr.open_group(self.group.store, path=record, **_READ)

    def _values(self, record: str, name: str, dtype: str | None = None) -> NDArray[Any]:
        """Read an array of a record, through the cache where the store is at an address."""
        array = self._array(record, name)
        if self._cache is None:
            return np.asarray(array[...], dtype=dtype)

        def fetch() -> NDArray[Any]:
            values = np.asarray(array[...], dtype=dtype)
            if written is not None and array_sha256(values) != written:
                raise ValueError(f"its {name} does not match the hash stored when it was written")
            return values

        hashes = self._group(record).attrs.get("arrays_sha256")
        written = hashes.get(name) if isinstance(hashes, dict) else None
        # By its content, so that what another store says of its arrays does no harm.
        key = hashlib.sha256(f"{written or self.path} {record if not written else ''}".encode())
        kind = dtype or array.dtype.str
        return self._cache.array(key.hexdigest(), name, dtype=kind, shape=array.shape, fetch=fetch)

    def _fetch_small(self) -> None:
        """Fetch the labels and bad segments of all records of an address at once."""
        if self._cache is None or self._small:
            return
        self._small = True  # before: the calls below come here again
        arrays = [name for name in ("label", "bad") if name in self.kind.arrays]
        with ThreadPoolExecutor(THREADS) as pool:
            for name in arrays:
                list(pool.map(getattr(self, name), self.records))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all signals or images, not compressed."""
        grid = self.kind.arrays[0]
        return sum(int(self._array(record, grid).nbytes) for record in self.records)

    @property
    def is_larger_than_cache(self) -> bool:
        """Whether the store is at an address and does not fit into the cache."""
        return self._cache is not None and self.nbytes > self._cache.limit

    def _array(self, record: str, name: str) -> "zarr.Array[Any]":
        """Open an array of a record: zarr v3 only, plain numbers, no missing chunks."""
        import zarr

        array: Any
        if self.remote:
            array = self._group(record)[name]
        else:
            array = zarr.open_array(self.group.store, path=f"{record}/{name}", **_READ)
        strange = codecs_of(array.metadata.to_dict()["codecs"]) - CODECS
        if strange or array.dtype.kind not in "iuf":
            raise ValueError(f"{name} is encoded by {', '.join(strange) or array.dtype}")
        self._check_chunks(record, name, array)
        opened: zarr.Array[Any] = array
        return opened

    def _check_chunks(self, record: str, name: str, array: "zarr.Array[Any]") -> None:
        """Refuse an array with missing chunks, which zarr would fill with one value.

        A chunk with only that value may never have been written; then the record's hash agrees.
        """
        if self.remote or record in self._whole:
            return
        sides = zip(array.shape, array.shards or array.chunks, strict=True)
        wanted = prod(-(-extent // side) for extent, side in sides)
        held = sum(1 for file in self.path.joinpath(record, name, "c").rglob("*") if file.is_file())
        if held < wanted:
            self._whole.add(record)  # so that its arrays can be read for comparison
            if self.about(record).get("sha256") != self.digest(record):
                self._whole.discard(record)
                raise ValueError(f"{name} has lost {wanted - held} of its {wanted} chunks")

    def _raw_chunk(self, record: str, name: str) -> Path | None:
        """Return the file of an array's single raw chunk, if the store is a local folder."""
        if self.remote:
            return None
        first = ["0"] * len(self._array(record, name).shape)
        chunk = self.path.joinpath(record, name, "c", *first)
        return chunk if chunk.is_file() else None
