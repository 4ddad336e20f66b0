"""Write a store: a record is written to a temporary folder and renamed, so it appears whole."""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from biopart.addresses import has_file, is_address, reached
from biopart.files import cache_folder, held, whole
from biopart.store.attributes import differences, holds_stages
from biopart.store.contents import Images, Record, array_sha256
from biopart.store.records import FORMAT_VERSION, Store, zarr_place

if TYPE_CHECKING:
    import zarr

Layout = Literal["training", "archive"]


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Allow one writer per store: two cards that fill a new one at once would mix.

    At an address only writers on this machine are locked out. Raises ValueError if another process
    is writing the store.
    """
    lock = path.with_name(f".{path.name}.lock")
    if is_address(path):
        name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
        lock = cache_folder() / "writers" / f"{name}.lock"
    with held(lock, f"another process is writing {path}; wait until it is done"):
        yield


def create_store(path: Path, attributes: Mapping[str, Any]) -> None:
    """Create an empty store, or check that an existing one was prepared in the same way.

    A store without records takes the new attributes.

    Parameters
    ----------
    path : Path
        Folder of the store, or its address.
    attributes : mapping
        card, label_names, channels; for recordings epoch_s and sfreq_hz, for images axes and shape.

    Raises
    ------
    ValueError
        If the folder has a store of another card or format, or other files.
    """
    wanted = json.loads(json.dumps({"format_version": FORMAT_VERSION, **attributes}))
    if str(path).startswith(("http://", "https://")):
        raise ValueError(f"{path} can be read but not written; give s3://, gs:// or a folder")
    with reached(path):
        if is_address(path):
            if not has_file(path / "zarr.json"):
                (path / "zarr.json").write_bytes(_group_metadata(wanted))
                return
        elif path.is_file():
            raise ValueError(f"{path} is a file; give the folder of a store")
        elif not path.is_dir() or not any(path.iterdir()):
            with whole(path) as beside:
                beside.mkdir()
                (beside / "zarr.json").write_bytes(_group_metadata(wanted))
            return
    store = Store(path, growing=True)
    if not len(store):
        with reached(path), written(path / "zarr.json") as beside:
            beside.write_bytes(_group_metadata(wanted))
        return
    changed = differences(store.attributes, wanted)
    if changed:
        raise ValueError(
            f"{path} was prepared with another {', '.join(changed)}; give another --out or remove "
            "the store"
        )


def _group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a group with attributes."""
    import zarr
    from zarr.storage import MemoryStore

    memory: dict[str, Any] = {}
    zarr.open_group(MemoryStore(memory), mode="w", zarr_format=3, attributes=dict(attributes))
    content: bytes = memory["zarr.json"].to_bytes()
    return content


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a place to write a file to, which appears whole: an object store does so by itself."""
    if is_address(path):
        yield path
        return
    with whole(path) as beside:
        yield beside


def write_record(
    path: Path, name: str, record: Record | Images, *, layout: Layout = "training"
) -> None:
    """Write one record into a store, whole or not at all, replacing one with the same name.

    Parameters
    ----------
    path : Path
        Folder of the store, or its address: there the record's ``zarr.json``, written last, makes
        it appear.
    name : str
        Name of the record: one folder name.
    record : Record or Images
        Arrays and attributes; the hash of the arrays is added to the latter.
    layout : "training" or "archive"
        One raw chunk, or compressed shards.

    Raises
    ------
    ValueError
        If the name is not a folder name, the arrays do not fit the store's channels, or an address
        cannot be written to.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"a record's name must be a plain folder name; got {name!r}")
    store = Store(path, growing=True)
    record.check(name, store.channels)
    stages = holds_stages(store.attributes)
    if is_address(path):
        with TemporaryDirectory() as folder:
            _write_group(Path(folder) / name, record, layout, stages=stages)
            with reached(path):
                _upload(Path(folder) / name, path / name)
        return
    _remove_leftovers(path, name)
    with whole(path / name) as beside:
        _write_group(beside, record, layout, stages=stages)
        if (path / name).exists():
            (path / name).rename(path / f".{name}.replaced.part")
    _remove_leftovers(path, name)


def _write_group(folder: Path, record: Record | Images, layout: Layout, *, stages: bool) -> None:
    """Write a record as a group of its own; labels that are stages also under that name."""
    import zarr

    hashes = {key: array_sha256(values) for key, (_, values) in record.arrays().items()}
    own = {**record.own_attributes(), "arrays_sha256": hashes, "sha256": record.digest()}
    attributes = {**record.attributes, **own}
    group = zarr.open_group(folder, mode="w", zarr_format=3, attributes=attributes)
    for key, (dimensions, values) in record.arrays().items():
        of_grid = key == record.grid
        options = _options(record, dimensions, values.shape, layout) if of_grid else {}
        _write(group, key, values, dimensions, **options)
        if key == "label" and stages:
            _write(group, "stage", values, dimensions)


def _upload(folder: Path, target: Any) -> None:
    """Copy a record to an address, ``zarr.json`` of its group last; what was there goes first."""
    files, root = target.fs, target.path
    if files.exists(root):
        if files.exists(f"{root}/zarr.json"):
            files.rm_file(f"{root}/zarr.json")
        files.rm(root, recursive=True)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in sorted(paths, key=lambda path: path == folder / "zarr.json"):
        files.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def finish_store(path: Path) -> None:
    """Gather all metadata at the root, so that xarray and object stores open it in one read.

    Records written later are seen by Store at once, in an address by a ``growing`` one, and by
    xarray after the next call. Leftovers of interrupted writers are removed, so no other process
    may be writing.
    """
    import zarr

    if not is_address(path):
        _remove_leftovers(path, "*")
    with reached(path), warnings.catch_warnings():
        # zarr warns that v3 has no standard for this yet; xarray.open_zarr warns without it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        warnings.filterwarnings("ignore", message="Object at")  # of an interrupted writer
        zarr.consolidate_metadata(zarr_place(path, read_only=False), zarr_format=3)


def _remove_leftovers(path: Path, name: str) -> None:
    """Remove leftovers of interrupted writers of a record (``*`` = any) from a store."""
    writers = re.compile(rf"\.{'.+' if name == '*' else re.escape(name)}\.(\d+|replaced)\.part")
    for leftover in path.glob(".*.part"):
        if writers.fullmatch(leftover.name):
            shutil.rmtree(leftover)


def _options(
    record: Record | Images, dimensions: Sequence[str], shape: Sequence[int], layout: Layout
) -> dict[str, Any]:
    """Return how signal or images are stored: one raw chunk, or one shard of compressed chunks."""
    from zarr.codecs import BloscCodec

    about = {"fill_value": record.fill, "attributes": record.attributes_of_grid()}
    whole = [max(extent, 1) for extent in shape]
    if layout == "training":
        return {**about, "chunks": tuple(whole), "compressors": None}
    axis = dimensions.index(record.along)
    chunk, shard = list(whole), list(whole)
    chunk[axis] = min(record.chunk, whole[axis])
    shard[axis] = -(-whole[axis] // chunk[axis]) * chunk[axis]
    codec = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
    return {**about, "chunks": tuple(chunk), "shards": tuple(shard), "compressors": codec}


def _write(
    group: "zarr.Group",
    name: str,
    values: NDArray[Any],
    dimensions: Sequence[str],
    **options: Any,
) -> None:
    """Write an array, as one chunk unless options state otherwise."""
    if name in ("label", "stage"):
        options = {"fill_value": -1, **options}  # lost values are unknown, not the first label
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions,
        config={"write_empty_chunks": True},  # so that a missing chunk means a lost one
        **options,
    )
    array[...] = values
