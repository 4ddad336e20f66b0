"""Images in tar files of WebDataset's convention, written as they are found."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from biopart.images import ingest_images
from biopart.images.shards import find_shards
from biopart.store import Store
from biopart.store.image_card import ImageCard


def card(**values):
    about = {"name": "n", "title": "t", "licence": "l", "citation": "c", "images": "shards"}
    return ImageCard.model_validate({**about, "size": (4, 5), "parts": {"train": "tr"}, **values})


def packed(colour, size=(5, 4)):
    file = io.BytesIO()
    Image.new("RGB", size, (colour, 0, 0)).save(file, "png")
    return file.getvalue()


def write(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def shard(path, numbers, **more):
    members = {}
    for n in numbers:
        members |= {f"d/{n:03d}.png": packed(n), f"d/{n:03d}.cls": str(n % 3).encode()}
        members |= {f"d/{n:03d}.json": b"{}"}
    return write(path, members | more)


def test_images_keep_their_order_over_shards_and_packs(tmp_path):
    shard(tmp_path / "tr/s-0.tar", range(4))
    shard(tmp_path / "tr/s-1.tar", range(4, 6))
    shard(tmp_path / "tr/s-2.tar", range(6, 9))
    part = find_shards(card(), tmp_path).parts["train"]
    assert part.names[0] == "tr/s-0/d/000"
    assert part.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    for start, stop in ((0, 9), (3, 5), (4, 6), (8, 9), (2, 7)):
        read = part.read(start, stop, jobs=1)
        assert read.pixels[:, 0, 0, 0].tolist() == list(range(start, stop))
        assert read.kept.tolist() == list(range(start, stop))


def test_classes_are_numbers_or_the_lines_of_a_text(tmp_path):
    shard(tmp_path / "tr/s.tar", range(3))
    assert find_shards(card(), tmp_path).classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    assert find_shards(card(), tmp_path).classes == ("cat", "dog", "owl")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(
        ValueError, match=r"classes\.txt has 2 classes, but the shards have number 2"
    ):
        find_shards(card(), tmp_path)


def test_a_bad_image_is_named_counted_and_left_out_of_the_store(tmp_path):
    bad = {"d/900.png": b"no image", "d/900.cls": b"0"}
    shard(tmp_path / "tr/s.tar", range(3), **bad)
    with pytest.raises(ValueError, match=r"1 images are bad, more than the 0 allowed \(tr/s/d/900"):
        ingest_images(card(), tmp_path, tmp_path / "a.zarr")
    report = ingest_images(card(max_bad=1), tmp_path, tmp_path / "b.zarr")
    (left,) = report.left_out["train-0000"]
    assert left.startswith("tr/s/d/900: cannot identify image file")
    store = Store(tmp_path / "b.zarr")
    assert store.names("train-0000") == tuple(f"tr/s/d/{n:03d}" for n in range(3))
    assert np.asarray(store.images("train-0000"))[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_what_is_wrong_with_a_shard_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="tr has no tar file; n needs one"):
        find_shards(card(), tmp_path)
    write(tmp_path / "tr/s.tar", {"a.png": packed(1)})
    with pytest.raises(
        ValueError, match=r"s\.tar: a has no \.cls beside it; add one with the class"
    ):
        find_shards(card(), tmp_path)
    write(tmp_path / "tr/s.tar", {"a.txt": b"text", "a.cls": b"1"})
    with pytest.raises(ValueError, match="have no images"):
        find_shards(card(), tmp_path)
    whole = shard(tmp_path / "tr/s.tar", range(4)).read_bytes()
    (tmp_path / "tr/s.tar").write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"s\.tar is damaged: it has no end of a tar file"):
        find_shards(card(), tmp_path)


@pytest.mark.parametrize("cut", [512 * 2 + 100, 512 * 4, -1024])
def test_a_shard_that_is_cut_anywhere_is_refused(tmp_path, cut):
    whole = shard(tmp_path / "tr/s.tar", range(4)).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 1024
    (tmp_path / "tr/s.tar").write_bytes(whole[:cut] if cut > 0 else whole[: end + cut])
    with pytest.raises(ValueError, match=r"s\.tar is damaged: it has no end of a tar file"):
        find_shards(card(), tmp_path)


def test_names_with_points_are_images_of_their_own_where_they_have_a_class(tmp_path):
    members = {"a.v1.png": packed(1), "a.v1.cls": b"0", "a.v2.png": packed(2), "a.v2.cls": b"1"}
    members |= {"b.png": packed(3), "b.cls": b"1", "b.seg.png": packed(9), "b.json": b"{}"}
    write(tmp_path / "tr/s.tar", members)
    found = find_shards(card(), tmp_path)
    part = found.parts["train"]
    assert part.names == ("tr/s/a.v1", "tr/s/a.v2", "tr/s/b")
    assert part.labels.tolist() == [0, 1, 1]
    assert part.read(0, 3, 1).pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert found.left_out == {
        "train": ["skipped files that are not images: .json (1), .seg.png (1)"]
    }


def test_classes_are_lines_and_a_number_above_what_is_stored_is_refused(tmp_path):
    shard(tmp_path / "tr/s.tar", range(2))
    (tmp_path / "classes.txt").write_bytes("fire truck\r\ngolden retriever\r\n".encode("utf-16"))
    assert find_shards(card(), tmp_path).classes == ("fire truck", "golden retriever")
    write(tmp_path / "tr/s.tar", {"a.png": packed(1), "a.cls": b"40000"})
    with pytest.raises(ValueError, match="the class 40000 cannot be stored; classes are"):
        find_shards(card(), tmp_path)


def test_shards_that_have_changed_are_taken_up(tmp_path):
    shard(tmp_path / "tr/s.tar", range(3))
    ingest_images(card(), tmp_path, tmp_path / "a.zarr")
    shard(tmp_path / "tr/s.tar", range(4))
    report = ingest_images(card(), tmp_path, tmp_path / "a.zarr")
    assert report.updated == {"train-0000": ["1 images new here (tr/s/d/003)"]}
    assert Store(tmp_path / "a.zarr").label("train-0000").tolist() == [0, 1, 2, 0]
