"""Stores that are damaged or made to harm: what is lost or foreign is refused, by its record."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from biopart.store import Record, Store, create_store, write_record
from biopart.store.verifying import check_arrays

ABOUT = {
    "card": {"name": "n"},
    "epoch_s": 1.0,
    "sfreq_hz": 10.0,
    "label_names": ["W", "N1"],
    "channels": ["C3", "C4"],
}


def made(folder: Path, layout="training", label=(0, 0, 0)) -> Path:
    create_store(folder / "s.zarr", ABOUT)
    signal = np.random.default_rng(0).integers(-99, 99, (2, 35)).astype(np.int16)
    bad = np.zeros((0, 2), np.int64)
    record = Record(signal, np.ones(2), np.array(label, np.int8), bad, {"person": "p"})
    write_record(folder / "s.zarr", "r", record, layout=layout)
    return folder / "s.zarr"


@pytest.mark.parametrize("layout", ["training", "archive"])
@pytest.mark.parametrize("array", ["label", "signal"])
@pytest.mark.parametrize("label", [(0, 0, 0), (-1, -1, -1), (1, 0, -1)])
def test_a_lost_chunk_is_refused_and_never_one_label_for_a_night(tmp_path, layout, array, label):
    if array == "label" and set(label) == {-1}:
        pytest.skip("an array of nothing but the fill value reads the same")
    store = made(tmp_path, layout, label)
    assert Store(store).label("r").tolist() == list(label)
    shutil.rmtree(store / "r" / array / "c")
    read = getattr(Store(store), array)
    with pytest.raises(ValueError, match=f"record r of .*{array} has lost 1 of its 1 chunks"):
        read("r")
    with pytest.raises(ValueError, match="has lost 1 of its 1 chunks"):
        Store(store)["r"]


def test_what_is_missing_of_labels_is_unknown_to_other_readers(tmp_path):
    store = made(tmp_path)
    shutil.rmtree(store / "r/label/c")
    assert zarr.open_array(store, path="r/label", mode="r")[:].tolist() == [-1, -1, -1]


def test_a_chunk_of_nothing_but_the_fill_value_need_not_be_there(tmp_path):
    """Earlier versions, and zarr by itself, leave such a chunk away."""
    store = made(tmp_path)
    about = json.loads((store / "r/label/zarr.json").read_text()) | {"fill_value": 0}
    (store / "r/label/zarr.json").write_text(json.dumps(about))
    shutil.rmtree(store / "r/label/c")
    assert Store(store).label("r").tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [100, 142])
def test_a_chunk_of_another_size_is_refused(tmp_path, size):
    store = made(tmp_path)
    (store / "r/signal/c/0/0").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"signal has {size} bytes instead of 140"):
        Store(store).signal("r")


def test_half_a_signal_of_zeros_is_found_once_and_again_after_a_change(tmp_path):
    store = made(tmp_path)
    check_arrays(Store(store))
    chunk = store / "r/signal/c/0/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:70] + bytes(70))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"the arrays of r in .* do not match the hash"):
            check_arrays(Store(store))
    chunk.write_bytes(whole)
    check_arrays(Store(store))


def test_a_store_that_did_not_change_is_hashed_once(tmp_path, monkeypatch):
    store = made(tmp_path)
    check_arrays(Store(store))
    monkeypatch.setattr(Store, "digest", lambda self, record: pytest.fail("hashed again"))
    check_arrays(Store(store))


def test_an_array_of_zarr_2_is_not_opened(tmp_path):
    store = made(tmp_path)
    shutil.rmtree(store / "r/signal")
    old = zarr.open_array(
        store / "r/signal", mode="w", shape=(2, 35), dtype="<i2", chunks=(2, 35), zarr_format=2
    )
    old[:] = 1
    with pytest.raises(ValueError, match=r"record r of .* cannot be read"):
        Store(store).signal("r")
    with pytest.raises(ValueError, match=r"record r of .* cannot be read"):
        Store(store)["r"]


def test_an_array_that_is_packed_by_another_codec_is_refused(tmp_path, monkeypatch):
    store = made(tmp_path, "archive")
    monkeypatch.setattr("biopart.store.records.CODECS", {"bytes"})
    with pytest.raises(ValueError, match=r"signal is encoded by .*sharding_indexed"):
        Store(store).signal("r")
