"""CIFAR's own binary files, and the pickles of its python version, which are not opened."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biopart.images.cifar import find_cifar
from biopart.store.image_card import load_image_card


def rows(seed: int, count: int = 4) -> tuple[NDArray[np.uint8], list[int]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 3, count).tolist()


def write_cifar10(raw: Path) -> None:
    for number in range(6):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        values, labels = rows(number)
        table = np.hstack([np.array(labels, np.uint8)[:, None], values])
        (raw / f"{name}.bin").write_bytes(table.tobytes())
    (raw / "batches.meta.txt").write_text("a\nb\nc\n\n")


def test_rows_are_channel_y_x(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    found = find_cifar(load_image_card("cifar10"), tmp_path)
    assert found.classes == ("a", "b", "c")
    train, test = found.parts["train"], found.parts["test"]
    assert (len(train.names), len(test.names)) == (20, 4)
    assert (train.names[0], test.names[3]) == ("train/00000", "test/00003")
    values, labels = rows(1)
    read = train.read(4, 8, jobs=1)
    assert read.pixels[2, 1, 3, 7] == values[2, 1024 + 3 * 32 + 7]
    assert train.labels[4:8].tolist() == labels


def test_cifar_100_has_its_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    values, labels = rows(0)
    coarse = np.full((4, 1), 77, np.uint8)
    table = np.hstack([coarse, np.array(labels, np.uint8)[:, None], values])
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(table.tobytes())
    (folder / "fine_label_names.txt").write_text("a\nb\nc")
    found = find_cifar(load_image_card("cifar100"), tmp_path)
    assert found.parts["test"].labels.tolist() == labels
    np.testing.assert_array_equal(
        found.parts["test"].read(0, 4, 1).pixels, values.reshape(4, 3, 32, 32)
    )


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("harm",))


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_the_python_version_is_refused_unopened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: str
) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    (tmp_path / inside / "batches.meta").write_bytes(pickle.dumps({"label_names": Evil()}))
    with pytest.raises(ValueError, match=r"the binary version, cifar-10-binary\.tar\.gz, instead"):
        find_cifar(load_image_card("cifar10"), tmp_path)
    assert "harm" not in capsys.readouterr().out


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("a\nb")
    with pytest.raises(ValueError, match="has labels beyond its 2 classes"):
        find_cifar(load_image_card("cifar10"), tmp_path)


def test_a_cut_or_missing_file_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(b"x" * 3074)
    with pytest.raises(ValueError, match="has 3074 bytes, not a multiple of 3073"):
        find_cifar(load_image_card("cifar10"), tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3\.bin does not exist"):
        find_cifar(load_image_card("cifar10"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no fine_label_names\.txt of cifar100"):
        find_cifar(load_image_card("cifar100"), tmp_path)
