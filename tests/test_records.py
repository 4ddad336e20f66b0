"""Stores: two layouts, what xarray sees, and that a record appears whole or not at all."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray
import zarr
from numpy.typing import NDArray

from biopart import files
from biopart.store import Record, Store, create_store, finish_store, write_record, writing

LAYOUTS: tuple[Literal["training", "archive"], ...] = ("training", "archive")
ABOUT: dict[str, Any] = {
    "card": {"name": "n", "trim_s": 0.0},
    "epoch_s": 1.0,
    "sfreq_hz": 10.0,
    "label_names": ["a", "b"],
    "channels": ["C3", "C4"],
}


def make_store(folder: Path, about: Mapping[str, Any] = ABOUT) -> Path:
    create_store(folder / "s.zarr", about)
    return folder / "s.zarr"


def make_record(seed: int = 0, scale: tuple[float, ...] = (0.5, 0.5), samples: int = 35) -> Record:
    """Make a record with sample 4 missing."""
    rng = np.random.default_rng(seed)
    signal = rng.integers(-3000, 3000, (2, samples)).astype(np.int16)
    signal[:, 4] = -32768
    label = np.array([0, 1, -1], np.int8)
    return Record(signal, np.array(scale), label, np.array([[4, 5]]), {"person": f"p{seed}"})


def test_training_layout_is_one_raw_chunk_of_the_int16_values(tmp_path: Path) -> None:
    store, record = make_store(tmp_path), make_record()
    write_record(store, "r", record)
    chunks = [path for path in (store / "r" / "signal").rglob("*") if path.name != "zarr.json"]
    assert [path for path in chunks if path.is_file()] == [store / "r/signal/c/0/0"]
    assert (store / "r/signal/c/0/0").read_bytes() == record.signal.astype("<i2").tobytes()


def test_training_layout_is_memory_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    store, record = make_store(tmp_path), make_record()
    write_record(store, "r", record)
    signal = Store(store).signal("r")
    assert isinstance(signal, np.memmap)
    np.testing.assert_array_equal(signal, record.signal)
    with pytest.raises(ValueError, match="read-only"):
        signal[0, 0] = 1


def test_archive_layout_is_sharded_and_compressed_with_blosc(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    record = make_record(samples=130_000)
    write_record(store, "r", record, layout="archive")
    metadata = json.loads((store / "r/signal/zarr.json").read_text())
    sharding = metadata["codecs"][0]
    blosc = sharding["configuration"]["codecs"][1]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [2, 60_000]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [2, 180_000]
    assert (blosc["name"], blosc["configuration"]["cname"]) == ("blosc", "lz4")
    assert (blosc["configuration"]["shuffle"], blosc["configuration"]["typesize"]) == (
        "bitshuffle",
        2,
    )
    np.testing.assert_array_equal(Store(store).signal("r"), record.signal)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("error")
def test_xarray_opens_a_record_in_physical_values(
    tmp_path: Path, layout: Literal["training", "archive"]
) -> None:
    store, record = make_store(tmp_path), make_record()
    write_record(store, "r", record, layout=layout)
    finish_store(store)
    data = xarray.open_zarr(store, group="r", chunks=None)
    expected = record.signal * 0.5
    expected[:, 4] = np.nan
    np.testing.assert_array_equal(data.signal, expected)
    assert data.signal.dims == ("channel", "time")
    assert data.signal.attrs["units"] == "uV"
    assert (data.label.dtype, data.label.dims) == (np.int8, ("epoch",))
    assert data.label.values.tolist() == [0, 1, -1]
    assert (data.bad.dims, data.bad.values.tolist()) == (("segment", "bound"), [[4, 5]])
    assert "stage" not in data
    assert data.attrs["person"] == "p0"


def test_a_record_without_bad_stretches_has_none(tmp_path: Path) -> None:
    store, none = make_store(tmp_path), np.zeros((0, 2), np.int64)
    record = make_record()
    write_record(store, "r", Record(record.signal, record.scale, record.label, none))
    assert Store(store).bad("r").shape == (0, 2)
    assert Store(store)["r"].sizes["segment"] == 0


def test_a_sleep_cohort_names_its_labels_stage_as_well(tiny_store: Path) -> None:
    data = xarray.open_zarr(tiny_store, group="r0", chunks=None)
    assert data.stage.values.tolist() == data.label.values.tolist() == [-1, 0, 1, 2, 3, 4]
    assert data.stage.dtype == np.int8


def test_channels_of_different_scale_have_one_each(tmp_path: Path) -> None:
    store, record = make_store(tmp_path), make_record(scale=(0.5, 8.0))
    write_record(store, "r", record)
    finish_store(store)
    data = xarray.open_zarr(store, group="r", chunks=None)
    assert (data.scale.dims, data.scale.values.tolist()) == (("channel",), [0.5, 8.0])
    assert data.signal.values[1, 0] == record.signal[1, 0]
    assert Store(store).scale("r").tolist() == [0.5, 8.0]


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.5, 8.0)])
def test_a_store_gives_physical_values_with_named_channels(
    tmp_path: Path, scale: tuple[float, float]
) -> None:
    store, record = make_store(tmp_path), make_record(scale=scale)
    write_record(store, "r", record)
    data = Store(store)["r"]
    for name, row, step in zip(("C3", "C4"), record.signal, scale, strict=True):
        expected = np.where(row == -32768, np.nan, row * step)
        np.testing.assert_array_equal(data.signal.sel(channel=name), expected)
    assert data.signal.attrs["units"] == "uV"
    assert "scale" not in data
    assert Store(store).scale("r").tolist() == list(scale)


def test_a_record_of_missing_samples_only_reads_as_such(tmp_path: Path) -> None:
    store, record = make_store(tmp_path), make_record()
    record.signal[:] = -32768
    write_record(store, "r", record)
    assert (Store(store).signal("r") == -32768).all()
    assert np.isnan(Store(store)["r"].signal.values).all()


def test_a_store_knows_its_cohort(tiny_store: Path) -> None:
    store = Store(str(tiny_store))
    assert list(store) == ["r0", "r1", "r2", "r3", "r4"]
    assert (len(store), "r2" in store, "r9" in store) == (5, True, False)
    assert store.persons == {"r0": "a", "r1": "a", "r2": "b", "r3": "c", "r4": "d"}
    assert store.channels == ("C3", "C4", "O1")
    assert store.label_names == ("W", "N1", "N2", "N3", "R")
    assert (store.sfreq_hz, store.epoch_samples) == (10.0, 30)
    assert store.label("r1").tolist() == [-1, 0, 1, 2, 3, 4]
    assert store.bad("r2").tolist() == [[65, 70]]
    assert store.signal("r2")[1, 60:66].tolist() == [9060, 9061, 9062, 9063, 9064, -32768]


def test_epoch_samples_do_not_suffer_from_floats(tmp_path: Path) -> None:
    store = make_store(tmp_path, {**ABOUT, "epoch_s": 30 - 2 * 0.07, "sfreq_hz": 100.0})
    assert Store(store).epoch_samples == 2986


def test_an_unknown_record_is_refused_with_those_there_are(tiny_store: Path) -> None:
    with pytest.raises(ValueError, match=r"no record 'r9' in .*tiny\.zarr; it has r0, r1, r2, r3"):
        Store(tiny_store)["r9"]


class Crash(BaseException):
    """The power goes."""


def crash(*_: Any, **__: Any) -> None:
    raise Crash


def rows(path: Path) -> NDArray[np.int16]:
    return np.array(Store(path).signal("r"))


def test_a_crash_before_renaming_leaves_nothing_to_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, replace = make_store(tmp_path), Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda a, b: crash() if b.name == "r" else replace(a, b))
        patch.setattr(files, "_remove", lambda path: None)  # nobody tidies up after the power
        with pytest.raises(Crash):
            write_record(store, "r", make_record())
    assert len(list(store.glob(".r.*.part"))) == 1
    assert Store(store).records == ()
    write_record(store, "r", make_record(1))
    assert list(store.glob(".r.*.part")) == []
    np.testing.assert_array_equal(rows(store), make_record(1).signal)


@pytest.mark.parametrize("step", ["_options", "_write"])
def test_a_crash_while_replacing_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record())
    with monkeypatch.context() as patch:
        patch.setattr(writing, step, crash)
        with pytest.raises(Crash):
            write_record(store, "r", make_record(1))
    np.testing.assert_array_equal(rows(store), make_record().signal)


def test_a_crash_between_old_and_new_record_never_shows_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, replace = make_store(tmp_path), Path.replace
    write_record(store, "r", make_record())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda a, b: crash() if b.name == "r" else replace(a, b))
        patch.setattr(files, "_remove", lambda path: None)
        with pytest.raises(Crash):
            write_record(store, "r", make_record(1))
    assert len(list(store.glob(".r.*.part"))) == 2
    assert Store(store).records == ()
    finish_store(store)
    assert [path.name for path in store.iterdir()] == ["zarr.json"]


@pytest.mark.filterwarnings("error")
def test_leftovers_of_other_writers_are_unseen_and_finishing_removes_them(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record())
    shutil.copytree(store / "r", store / ".whole.77.part")
    (store / ".empty.78.part").mkdir()
    assert Store(store).records == ("r",)
    finish_store(store)
    assert sorted(path.name for path in store.iterdir()) == ["r", "zarr.json"]
    assert "whole" not in (store / "zarr.json").read_text()


def test_a_writer_leaves_alone_what_another_writes_under_a_longer_name(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    (store / ".r.1.77.part").mkdir()
    (store / ".r.77.part").mkdir()
    write_record(store, "r", make_record())
    assert [path.name for path in store.glob(".*.part")] == [".r.1.77.part"]


def test_replacing_a_record_leaves_only_the_new_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record(), layout="archive")
    write_record(store, "r", make_record(1))
    assert isinstance(Store(store).signal("r"), np.memmap)
    assert Store(store).persons == {"r": "p1"}
    assert sorted(path.name for path in store.iterdir()) == ["r", "zarr.json"]


@pytest.mark.parametrize("name", ["", ".", "..", ".r", "a/b", "/r"])
def test_a_name_that_is_no_folder_name_is_refused_and_harms_nothing(
    tmp_path: Path, name: str
) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record())
    with pytest.raises(ValueError, match="must be a plain folder name"):
        write_record(store, name, make_record())
    assert Store(store).records == ("r",)


@pytest.mark.parametrize(
    ("signal", "scales"),
    [(np.zeros((3, 9), np.int16), 3), (np.zeros((2, 9)), 2), (np.zeros((2, 9), np.int16), 1)],
)
def test_arrays_that_do_not_fit_the_store_are_refused(
    tmp_path: Path, signal: NDArray[Any], scales: int
) -> None:
    store, none = make_store(tmp_path), np.zeros((0, 2), np.int64)
    with pytest.raises(ValueError, match=r"takes int16 \(channel, time\) of C3, C4"):
        write_record(store, "r", Record(signal, np.ones(scales), np.zeros(0, np.int8), none))


def test_a_missing_store_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"biopart prepare CARD --raw DIR --out .*s\.zarr"):
        Store(tmp_path / "s.zarr")


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(ValueError, match="is not a store"):
        Store(tmp_path)


def test_an_array_is_no_store(tiny_store: Path) -> None:
    with pytest.raises(ValueError, match="is not a store"):
        Store(tiny_store / "r0" / "signal")


@pytest.mark.parametrize("version", [0, 2])
def test_another_format_version_is_refused(tmp_path: Path, version: int) -> None:
    zarr.open_group(tmp_path, mode="w", zarr_format=3, attributes={"format_version": version})
    with pytest.raises(ValueError, match=f"has store format {version}; this biopart reads 1, so"):
        Store(tmp_path)


def test_creating_a_store_again_leaves_its_records(tmp_path: Path) -> None:
    about = {**ABOUT, "channels": ("C3", "C4")}  # as JSON, the same
    store = make_store(tmp_path)
    write_record(store, "r", make_record())
    create_store(store, about)
    assert Store(store).records == ("r",)


def test_a_store_may_begin_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "s.zarr").mkdir()
    assert Store(make_store(tmp_path)).records == ()
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_another_card_is_refused_with_what_differs(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record())
    card = {"name": "n", "trim_s": 1.0}
    with pytest.raises(ValueError, match=r"prepared with another card\.trim_s; give another --out"):
        create_store(store, {**ABOUT, "card": card})
    with pytest.raises(
        ValueError, match=r"prepared with another epoch_s, channels, card\.trim_s; "
    ):
        create_store(store, {**ABOUT, "card": card, "epoch_s": 2.0, "channels": ["C3"]})


def test_a_store_without_a_record_takes_new_attributes(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    finish_store(store)
    create_store(store, {**ABOUT, "epoch_s": 2.0})
    assert Store(store).attributes == {"format_version": 1, **ABOUT, "epoch_s": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    finish_store(store)
    assert xarray.open_zarr(store).attrs["epoch_s"] == 2.0


@pytest.mark.parametrize(
    ("file", "content", "call"),
    [
        ("signal/c/0/0", b"short", "signal"),
        ("signal/zarr.json", b"{", "length"),
        ("signal/zarr.json", None, "scale"),
        ("label/zarr.json", b"", "label"),
        ("bad/zarr.json", b"[]", "bad"),
        ("zarr.json", b"{", "about"),
        ("zarr.json", b"{", "__getitem__"),
    ],
)
def test_a_damaged_record_is_named_with_what_to_do(
    tmp_path: Path, file: str, content: bytes | None, call: str
) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record())
    damaged = store / "r" / file
    damaged.unlink() if content is None else damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"record r of .*s\.zarr cannot be read \(.*prepare it ag"):
        getattr(Store(store), call)("r")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [(0.3, 0.3), (0.1, 7.7)])
def test_the_digest_of_what_is_stored_is_the_one_written(
    tmp_path: Path, layout: Literal["training", "archive"], scale: tuple[float, ...]
) -> None:
    store = make_store(tmp_path)
    write_record(store, "r", make_record(scale=scale), layout=layout)
    assert Store(store).digest("r") == Store(store).about("r")["sha256"]


def test_a_store_is_not_made_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not a store"):
        make_store(tmp_path)
    with pytest.raises(ValueError, match="is a file; give the folder of a store"):
        create_store(tmp_path / "s.zarr" / "thesis.tex", ABOUT)


@pytest.mark.parametrize("changed", ["signal", "label", "bad", "scale"])
def test_the_fingerprint_changes_with_the_data_alone(tmp_path: Path, changed: str) -> None:
    store, record = make_store(tmp_path), make_record()
    write_record(store, "r", record)
    before = Store(store).fingerprint
    write_record(store, "r", make_record(), layout="archive")
    assert Store(store).fingerprint == before
    getattr(record, changed)[0] += 1
    write_record(store, "r", record)
    assert Store(store).fingerprint != before


def test_the_fingerprint_knows_names_and_card(tmp_path: Path) -> None:
    prints = set()
    for number, (name, rate) in enumerate([("r", 10.0), ("q", 10.0), ("r", 20.0)]):
        create_store(tmp_path / str(number), {**ABOUT, "sfreq_hz": rate})
        write_record(tmp_path / str(number), name, make_record())
        prints.add(Store(tmp_path / str(number)).fingerprint)
    assert len(prints) == 3


def test_an_address_opens_like_a_folder(tmp_path: Path) -> None:
    store, record = make_store(tmp_path), make_record(scale=(0.5, 8.0))
    write_record(store, "r", record, layout="archive")
    finish_store(store)
    shutil.copytree(store / "r", store / ".q.77.part")
    opened = Store(f"file://{store}")
    assert opened.records == ("r",)
    np.testing.assert_array_equal(opened.signal("r"), record.signal)
    assert opened["r"].signal.sizes == {"channel": 2, "time": 35}
