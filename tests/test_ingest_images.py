"""Collections of images into stores, and what `info` and `check` say of these."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biopart.images import ingest, ingest_images
from biopart.images.ingest import stale_packs
from biopart.store import Store, one_writer
from biopart.store.image_card import ImageCard, load_image_card
from biopart.verbs.check import check_leak, check_store
from biopart.verbs.info import info

CARD = ImageCard(
    name="n", title="t", licence="l", citation="c", images="folders", size=(4, 5), max_bad=1
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for part, count in (("train", 3), ("test", 1)):
        for code, name in enumerate(("cat", "dog")):
            (tmp_path / "raw" / part / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "raw" / part / name / f"{number}.png"
                Image.new("RGB", (5, 4), (100 * code + number, 0, 0)).save(path)
    return tmp_path / "raw"


def test_packs_hold_every_image_once_and_a_second_call_keeps_them(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "PACK", 4)
    out = tmp_path / "s.zarr"
    report = ingest_images(CARD, raw, out)
    assert report.written == ["train-0000", "train-0001", "test-0000"]
    store = Store(out)
    train = np.concatenate([store.images(f"train-000{n}")[:, 0, 0, 0] for n in (0, 1)])
    assert train.tolist() == [0, 1, 2, 100, 101, 102]
    assert store.label("test-0000").tolist() == [0, 1]
    assert store.about("test-0000")["part"] == "test"
    assert ingest_images(CARD, raw, out).kept == report.written


def test_bad_images_are_left_out_up_to_the_number_that_may_be(raw: Path, tmp_path: Path) -> None:
    (raw / "train/cat/1.png").write_text("no image")
    report = ingest_images(CARD, raw, tmp_path / "s.zarr")
    assert [line.split(":")[0] for line in report.left_out["train-0000"]] == ["train/cat/1.png"]
    assert Store(tmp_path / "s.zarr").names("train-0000")[1] == "train/cat/2.png"
    remarks = check_store(Store(tmp_path / "s.zarr"))["remarks"]
    assert "train-0000: train/cat/1.png is excluded, cannot identify image file" in remarks[0]
    (raw / "test/dog/0.png").write_text("no image")
    with pytest.raises(
        ValueError, match=r"2 images are bad, more than the 1 allowed \(train/cat/1\.png: cannot"
    ):
        ingest_images(CARD, raw, tmp_path / "t.zarr")


def test_bad_images_of_packs_that_are_there_count_too(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "PACK", 4)
    (raw / "train/cat/1.png").write_text("no image")
    (raw / "test/dog/0.png").write_text("no image")
    for _ in range(2):  # the first call leaves the packs before the second bad image
        with pytest.raises(ValueError, match="2 images are bad, more than the 1 allowed"):
            ingest_images(CARD, raw, tmp_path / "s.zarr")
    more = CARD.model_copy(update={"max_bad": 2})
    report = ingest_images(more, raw, tmp_path / "s.zarr")
    assert report.kept == ["train-0000", "train-0001"]
    assert sorted(report.left_out) == ["test-0000", "train-0000"]


def test_what_changed_of_the_images_is_taken_up_and_told(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    ingest_images(CARD, raw, store)
    Image.new("RGB", (5, 4), (7, 7, 7)).save(raw / "train/cat/0.png")  # of as many bytes
    Image.new("RGB", (5, 4), (8, 8, 8)).save(raw / "train/dog/9.png")
    assert stale_packs(Store(store), CARD, raw) == [
        "pack train-0000 has other images than the raw folder has now"
    ]
    report = ingest_images(CARD, raw, store)
    assert report.updated == {
        "train-0000": [
            "1 images changed (train/cat/0.png)",
            "1 images new here (train/dog/9.png)",
        ]
    }
    assert report.kept == ["test-0000"]
    pack = Store(store)
    images = dict(zip(pack.names("train-0000"), pack.images("train-0000"), strict=True))
    assert [int(images[f"train/{n}.png"][0, 0, 0]) for n in ("cat/0", "dog/9")] == [7, 8]
    assert ingest_images(CARD, raw, store).kept == ["train-0000", "test-0000"]
    assert stale_packs(Store(store), CARD, raw) == []


def test_an_edit_that_keeps_size_and_time_is_found_by_its_bytes(raw: Path, tmp_path: Path) -> None:
    path = raw / "train/cat/0.png"
    Image.new("RGB", (5, 4), (1, 1, 1)).save(path, "BMP")  # whose size depends on no colour
    ingest_images(CARD, raw, tmp_path / "s.zarr")
    before = path.stat()
    Image.new("RGB", (5, 4), (7, 7, 7)).save(path, "BMP")
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ingest_images(CARD, raw, tmp_path / "s.zarr").updated == {}
    report = ingest_images(CARD, raw, tmp_path / "s.zarr", verify=True)
    assert report.updated == {"train-0000": ["1 images changed (train/cat/0.png)"]}


def test_images_that_are_gone_refuse_the_raw_folder(raw: Path, tmp_path: Path) -> None:
    ingest_images(CARD, raw, tmp_path / "s.zarr")
    (raw / "train/cat/1.png").rename(raw / "train/cat/7.png")
    with pytest.raises(ValueError, match=r"are not in the raw folder \(train/cat/1\.png"):
        ingest_images(CARD, raw, tmp_path / "s.zarr")


def test_a_store_has_one_writer(raw: Path, tmp_path: Path) -> None:
    with (
        one_writer(tmp_path / "s.zarr"),
        pytest.raises(ValueError, match="another process is writing"),
    ):
        ingest_images(CARD, raw, tmp_path / "s.zarr")
    assert len(ingest_images(CARD, raw, tmp_path / "s.zarr").written) == 2


def test_info_and_check_count_images(raw: Path, tmp_path: Path) -> None:
    ingest_images(CARD, raw, tmp_path / "s.zarr")
    said = info(str(tmp_path / "s.zarr"))
    assert said["parts"] == {"train": 6, "test": 2}
    assert said["images"] == {"cat": 4, "dog": 4}
    checked = check_store(Store(tmp_path / "s.zarr"))
    assert (checked["images"], checked["problems"]) == (8, [])
    chunk = tmp_path / "s.zarr/train-0000/image/c/0/0/0/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    (problem,) = check_store(Store(tmp_path / "s.zarr"))["problems"]
    assert "train-0000: its arrays have changed since they were written" in problem
    with pytest.raises(ValueError, match="position leaks are measured on recordings"):
        check_leak(Store(tmp_path / "s.zarr"))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the raw files of n by --raw"):
        ingest_images(CARD, tmp_path / "none", tmp_path / "s.zarr")


def test_real_images_come_whole(real_data: Path, tmp_path: Path) -> None:
    card = load_image_card("cifar10_folders")
    ingest_images(card, real_data / "images_cifar10", tmp_path / "s.zarr")
    store = Store(tmp_path / "s.zarr")
    assert store.images("train-0000").shape == (10_000, 3, 32, 32)
    assert np.bincount(store.label("test-0000")).tolist() == [200] * 10
    name = store.names("test-0000")[777]
    with Image.open(real_data / "images_cifar10" / name) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(store.images("test-0000")[777], expected)
