"""Write a store: a record is written to a temporary folder and renamed, so it appears whole."""

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from biopart.files import held, whole
from biopart.store.attributes import differences, holds_stages
from biopart.store.contents import Images, Record
from biopart.store.records import FORMAT_VERSION, Store

if TYPE_CHECKING:
    import zarr

Layout = Literal["training", "archive"]


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Allow one writer per store: two cards that fill a new one at once would mix.

    Raises ValueError if another process is writing it.
    """
    busy = f"another process is writing {path}; wait until it is done"
    with held(path.with_name(f".{path.name}.lock"), busy):
        yield


def create_store(path: Path, attributes: Mapping[str, Any]) -> None:
    """Create an empty store, or check that an existing one was prepared in the same way.

    A store without records takes the new attributes.

    Parameters
    ----------
    path : Path
        Folder of the store.
    attributes : mapping
        card, label_names, channels; for recordings epoch_s and sfreq_hz, for images axes and shape.

    Raises
    ------
    ValueError
        If the folder has a store of another card or format, or other files.
    """
    import zarr
    from zarr.storage import MemoryStore

    wanted = json.loads(json.dumps({"format_version": FORMAT_VERSION, **attributes}))
    if path.is_file():
        raise ValueError(f"{path} is a file; give the folder of a store")
    if not path.is_dir() or not any(path.iterdir()):
        with whole(path) as beside:
            zarr.open_group(beside, mode="w", zarr_format=3, attributes=wanted)
        return
    store = Store(path)
    if not len(store):
        memory: dict[str, Any] = {}
        zarr.open_group(MemoryStore(memory), mode="w", zarr_format=3, attributes=wanted)
        with whole(path / "zarr.json") as beside:
            beside.write_bytes(memory["zarr.json"].to_bytes())
        return
    changed = differences(store.attributes, wanted)
    if changed:
        raise ValueError(
            f"{path} was prepared with another {', '.join(changed)}; give another --out or remove "
            "the store"
        )


def write_record(
    path: Path, name: str, record: Record | Images, *, layout: Layout = "training"
) -> None:
    """Write one record into a store, whole or not at all, replacing one with the same name.

    Parameters
    ----------
    path : Path
        Folder of the store.
    name : str
        Name of the record: one folder name.
    record : Record or Images
        Arrays and attributes; the hash of the arrays is added to the latter.
    layout : "training" or "archive"
        One raw chunk, or compressed shards.

    Raises
    ------
    ValueError
        If the name is not a folder name, or the arrays do not fit the store's channels.
    """
    import zarr

    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"a record's name must be a plain folder name; got {name!r}")
    store = Store(path)
    record.check(name, store.channels)
    _remove_leftovers(path, name)
    attributes = {**record.attributes, **record.own_attributes(), "sha256": record.digest()}
    with whole(path / name) as beside:
        group = zarr.open_group(beside, mode="w", zarr_format=3, attributes=attributes)
        for key, (dimensions, values) in record.arrays().items():
            of_grid = key == record.grid
            options = _options(record, dimensions, values.shape, layout) if of_grid else {}
            _write(group, key, values, dimensions, **options)
            if key == "label" and holds_stages(store.attributes):
                _write(group, "stage", values, dimensions)
        if (path / name).exists():
            (path / name).rename(path / f".{name}.replaced.part")
    _remove_leftovers(path, name)


def finish_store(path: Path) -> None:
    """Gather all metadata at the root, so that xarray and object stores open it in one read.

    Records written later are seen by Store at once, and by xarray after the next call. Leftovers of
    interrupted writers are removed, so no other process may be writing.
    """
    import zarr

    _remove_leftovers(path, "*")
    with warnings.catch_warnings():
        # zarr warns that v3 has no standard for this yet; xarray.open_zarr warns without it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(path, zarr_format=3)


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
