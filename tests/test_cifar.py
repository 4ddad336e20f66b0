"""CIFAR's own files: both formats give the same images, and a pickle can do no harm."""

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biopart.images.cifar import find_cifar
from biopart.store.image_card import load_image_card

TEN = ["a", "b", "c"]


def rows(seed: int, count: int = 4) -> tuple[NDArray[np.uint8], list[int]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 3, count).tolist()


def write_pickle(path: Path, values: dict[Any, Any], protocol: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(values, protocol=protocol))


def write_cifar10(raw: Path, kind: str, protocol: int = 2) -> None:
    for number in range(6):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        values, labels = rows(number)
        if kind == "binary":
            table = np.hstack([np.array(labels, np.uint8)[:, None], values])
            (raw / f"{name}.bin").write_bytes(table.tobytes())
        else:
            write_pickle(raw / name, {b"data": values, b"labels": labels}, protocol)
    if kind == "binary":
        (raw / "batches.meta.txt").write_text("a\nb\nc\n\n")
    else:
        write_pickle(raw / "batches.meta", {"label_names": TEN}, protocol)


@pytest.mark.parametrize(("kind", "protocol"), [("binary", 0), *(("python", n) for n in range(5))])
def test_both_formats_hold_the_rows_as_channel_y_x(
    tmp_path: Path, kind: str, protocol: int
) -> None:
    write_cifar10(tmp_path, kind, protocol)
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"label_names": Evil()}), r"it asks for builtins\.print"),
        (pickle.dumps({b"label_names": np.array([Evil()], object)}), "it asks for"),
        (pickle.dumps([1, 2]), "has no dictionary"),
        (pickle.dumps({"other": 1}), "has no names under 'label_names'"),
        (pickle.dumps({"label_names": 7}), "has no names under 'label_names'"),
        (b"\x80\x02}", "is not a file of CIFAR"),
        (b"", "is not a file of CIFAR"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_before_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    write_cifar10(tmp_path, "python")
    (tmp_path / "batches.meta").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        find_cifar(load_image_card("cifar10"), tmp_path)
    assert "harm" not in capsys.readouterr().out


def build(*parts: bytes) -> bytes:
    """Put the opcodes of a pickle of protocol 2 together."""
    return b"\x80\x02" + b"".join(parts) + b"."


NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        # ndarray((1,), "O", eight bytes): an object at an address of the file's choice.
        (NDARRAY + b"((K\x01tU\x01OU\x08AAAAAAAAtR", "it names a type by a tuple"),
        # An attribute of a class that find_class gives, by BUILD's second dictionary.
        (b"c_codecs\nencode\n(N}X\x07\x00\x00\x00__new__K\x01stb", r"it sets _Bytes\.__new__"),
        (b"](U\x01ab", "is not a file of CIFAR"),  # BUILD on a list
        (b"c_codecs\nencode\n(K\x01K\x02tR", "has no list of numbers as labels"),
    ],
)
def test_stand_ins_keep_numpy_out_of_reach(tmp_path: Path, value: bytes, message: str) -> None:
    write_cifar10(tmp_path, "python")
    values, _ = rows(1)
    inner = pickle.dumps(values, protocol=2)[2:-1]
    content = build(b"}(U\x04data", inner, b"U\x06labels", value, b"u")
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        find_cifar(load_image_card("cifar10"), tmp_path)


def test_a_dtype_grown_after_the_array_reads_nothing_beyond_it(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "python")
    values = pickle.dumps(np.zeros((4, 3072), "S4"), protocol=2)[2:-1]
    labels = pickle.dumps([0, 1, 2, 0], protocol=2)[2:-1]
    (tmp_path / "data_batch_2").write_bytes(
        build(b"}(U\x04data", values, b"U\x06labels", labels, b"u")
    )
    with pytest.raises(ValueError, match="an array of something other than numbers"):
        find_cifar(load_image_card("cifar10"), tmp_path)


def test_our_pickles_are_as_deep_as_the_published_ones(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "python", protocol=2)
    found = pickletools.genops((tmp_path / "data_batch_1").read_bytes())
    names = {str(argument) for code, argument, _ in found if code.name == "GLOBAL"}
    assert "numpy ndarray" in names  # that is, arrays go through find_class


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data_batch_2", {b"data": np.zeros((4, 7), np.uint8)}, "has not one label per row"),
        ("data_batch_2", {b"data": b"text"}, "has no array of bytes under 'data'"),
        ("data_batch_2", {b"labels": [0, 1, 2, 9]}, "has labels beyond its 3 classes"),
        ("data_batch_2", {b"labels": [0]}, "has not one label per row"),
    ],
)
def test_python_files_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, change: dict[bytes, Any], message: str
) -> None:
    write_cifar10(tmp_path, "python")
    values, labels = rows(1)
    write_pickle(tmp_path / name, {b"data": values, b"labels": labels, **change}, 2)
    with pytest.raises(ValueError, match=message):
        find_cifar(load_image_card("cifar10"), tmp_path)


def test_a_cut_or_missing_file_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "binary")
    (tmp_path / "data_batch_3.bin").write_bytes(b"x" * 3074)
    with pytest.raises(ValueError, match="has 3074 bytes, not a multiple of 3073"):
        find_cifar(load_image_card("cifar10"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has neither fine_label_names\.txt nor meta"):
        find_cifar(load_image_card("cifar100"), tmp_path)
