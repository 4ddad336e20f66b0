"""WFDB records and annotations: scales, segments, mended headers, and what is refused."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from biopart.signals.readers import open_recording
from biopart.signals.readers.wfdb_headers import wfdb, without_pandas_warnings
from biopart.signals.readers.wfdb_marks import read_annotations
from biopart.signals.recording import Mark
from biopart.signals.stages import label_epochs, read_stage_file, stage_code


def write_wfdb(folder: Path, header: str, *signals: np.ndarray, file: str = "n.dat") -> Path:
    """Write interleaved int16 samples and the header that is given."""
    np.stack(signals, axis=1).astype("<i2").tofile(folder / file)
    (folder / "n.hea").write_text(header, "utf-8")
    return folder / "n.hea"


def test_wfdb_gives_gain_baseline_unit_and_missing_samples(tmp_path: Path) -> None:
    header = (
        "n 2 50 3 22:30:05 02/01/2020\nn.dat 16 10(5)/µV 12 0 0 0 0 C3\nn.dat 16 4/mV 0 0 0 0 0 X\n"
    )
    first, second = np.array([5, 25, -32768]), np.array([4, 8, 12])
    recording = open_recording(write_wfdb(tmp_path, header, first, second))
    assert [channel.unit for channel in recording.channels] == ["uV", "mV"]
    np.testing.assert_allclose(recording.physical(["C3"])[0], [0.0, 2.0, np.nan])
    assert recording.physical(["X"])[0].tolist() == [1.0, 2.0, 3.0]
    assert recording.start == datetime.datetime(2020, 1, 2, 22, 30, 5)
    assert recording.channels[0].digital_max == 2047
    assert recording.channels[1].digital_max is None


@pytest.mark.parametrize("name", ["n.hea", "n", "n.dat"])
def test_a_record_opens_by_header_name_or_signal_file(tmp_path: Path, name: str) -> None:
    write_wfdb(tmp_path, "n 1 50 2\nn.dat 16 10/uV 16 0 0 0 0 C3\n", np.array([1, 2]))
    assert open_recording(tmp_path / name).digital(["C3"])[0].tolist() == [1, 2]


def test_an_iso_date_is_mended_and_nothing_is_written_beside(tmp_path: Path) -> None:
    header = "n 1 50 2 2020-01-02 22:30:05\nn.dat 16 10/uV 16 0 0 0 0 C3\n# 2020-01-02\n"
    recording = open_recording(write_wfdb(tmp_path, header, np.array([1, 2])))
    assert recording.digital(["C3"])[0].tolist() == [1, 2]
    assert recording.start == datetime.datetime(2020, 1, 2, 22, 30, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.dat", "n.hea"]
    assert (tmp_path / "n.hea").read_text("utf-8") == header


def test_an_old_header_in_latin_1_is_read(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "", np.array([1, 2]))
    path.write_bytes("n 1 50 2\nn.dat 16 10/\xb5V 16 0 0 0 0 C3\n".encode("latin-1"))
    recording = open_recording(path)
    assert recording.channels[0].unit == "uV"
    np.testing.assert_allclose(recording.physical(["C3"])[0], [0.1, 0.2], rtol=1e-6)


def test_signals_of_one_name_are_made_unique_with_a_warning(tmp_path: Path) -> None:
    lines = "n.dat 16 10/uV 16 0 0 0 0 C3\n" * 2
    path = write_wfdb(tmp_path, f"n 2 50 2\n{lines}", np.array([1, 2]), np.array([3, 4]))
    recording = open_recording(path)
    assert recording.names == ("C3", "C3-1")
    assert recording.digital(["C3-1", "C3"])[0].tolist() == [3, 4]
    assert recording.warnings == ("2 channels are called C3: read as C3, C3-1.",)


def test_a_missing_signal_file_is_named_with_its_header(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "n 1 50 2\nm.dat 16 10/uV 16 0 0 0 0 C3\n", np.array([1, 2]))
    with pytest.raises(FileNotFoundError, match=r"n\.hea names the signal file m\.dat.*2 frames"):
        open_recording(path)


@pytest.mark.parametrize(
    ("fmt", "wanted"),
    [
        ("16", 200),
        ("16+24", 224),
        ("212", 150),
        ("310", 134),
        ("311", 134),
        ("24", 300),
        ("80", 100),
    ],
)
def test_a_short_signal_file_is_refused_with_both_sizes(
    tmp_path: Path, fmt: str, wanted: int
) -> None:
    header = f"n 1 50 100\nn.dat {fmt} 10/uV 16 0 0 0 0 C3\n"
    path = write_wfdb(tmp_path, header, np.zeros(40))
    message = rf"n\.hea needs {wanted} bytes in its signal file n\.dat \(100 frames\), which has 80"
    with pytest.raises(ValueError, match=message):
        open_recording(path)


@pytest.mark.parametrize(("fmt", "frames"), [("16", 20), ("212", 26), ("310", 30), ("80", 40)])
def test_a_header_without_a_length_takes_all_that_is_there(
    tmp_path: Path, fmt: str, frames: int
) -> None:
    path = write_wfdb(tmp_path, f"n 1 50\nn.dat {fmt} 10/uV 16 0 0 0 0 C3\n", np.zeros(20))
    recording = open_recording(path)
    assert recording.channels[0].n_samples == frames == len(recording.digital(["C3"])[0])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "n.hea is not a WFDB header"),
        ("n two 50\n", "n.hea is not a WFDB header"),
        ("n 1 50\nn.dat 16+99 10/uV 16 0 0 0 0 C3\n", "n.hea needs 99 bytes in its signal file"),
        ("n 1 50 2\nn.dat 0 10/uV 16 0 0 0 0 C3\n", "signal C3 has format 0; biopart reads 80"),
        ("n 1 50 2\nn.dat 516 10/uV 16 0 0 0 0 C3\n", "needs FLAC in its signal file n.dat"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, header: str, message: str) -> None:
    path = write_wfdb(tmp_path, header, np.array([1, 2]))
    with pytest.raises(ValueError, match=message):
        open_recording(path).digital(["C3"])


def test_a_short_flac_file_is_refused(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "formats/wfdb"
    (tmp_path / "flacformats.d1").write_bytes((source / "flacformats.d1").read_bytes())
    line = "flacformats.d1 516 200/mV 16 0 0 0 0 C3\n"
    (tmp_path / "n.hea").write_text(f"n 1 200 500\n{line}", "ascii")
    with pytest.raises(ValueError, match=r"needs 500 samples .* flacformats\.d1, which has 499"):
        open_recording(tmp_path / "n.hea")
    (tmp_path / "n.hea").write_text(f"n 1 200\n{line}", "ascii")
    with pytest.raises(ValueError, match="states no length, which FLAC files need"):
        open_recording(tmp_path / "n.hea")


def write_segments(folder: Path, second: str = "b.dat 16 10/uV 16 0 0 0 0 C4\n") -> Path:
    """Write a record of variable layout: C3 in the first segment, a gap, C4 in the second."""
    layout = "".join(f"~ 0 10/uV 16 0 0 0 0 {name}\n" for name in ("C3", "C4", "O1"))
    (folder / "l.hea").write_text(f"l 3 50 0\n{layout}", "ascii")
    (folder / "a.hea").write_text("a 1 50 2\na.dat 212 10/uV 12 0 0 0 0 C3\n", "ascii")
    (folder / "b.hea").write_text(f"b 1 50 3\n{second}", "ascii")
    (folder / "a.dat").write_bytes(bytes([1, 0x20, 0]))  # 1 and 0x200 in 12 bits each
    np.array([7, 8, -32768], "<i2").tofile(folder / "b.dat")
    (folder / "m.hea").write_text("m/4 3 50 6\nl 0\na 2\n~ 1\nb 3\n", "ascii")
    return folder / "m.hea"


def test_segments_are_joined_and_what_none_holds_is_missing(tmp_path: Path) -> None:
    recording = open_recording(write_segments(tmp_path))
    nan = np.nan
    expected = {
        "C3": [0.1, 51.2, nan, nan, nan, nan],
        "C4": [nan, nan, nan, 0.7, 0.8, nan],
        "O1": [nan] * 6,
    }
    for name, values in zip(expected, recording.physical(list(expected)), strict=True):
        np.testing.assert_allclose(values, expected[name], rtol=1e-6)
    assert recording.warnings == ("Signal O1 is in no segment of m.hea: all samples are missing.",)


def test_a_missing_code_of_another_format_is_translated(tmp_path: Path) -> None:
    path = write_segments(tmp_path, "b.dat 16 10/uV 16 0 0 0 0 C3\n")
    (tmp_path / "a.dat").write_bytes(bytes([0, 0x08, 1]))  # -2048, the code of 212, and 1
    (values,) = open_recording(path).physical(["C3"])
    np.testing.assert_allclose(values, [np.nan, 0.1, np.nan, 0.7, 0.8, np.nan], rtol=1e-6)


def test_segments_with_different_gains_are_refused(tmp_path: Path) -> None:
    path = write_segments(tmp_path, "b.dat 16 20/uV 16 0 0 0 0 C3\n")
    with pytest.raises(ValueError, match="segments store signal C3 with different gains"):
        open_recording(path)


def test_a_segment_of_another_length_or_without_a_header_is_refused(tmp_path: Path) -> None:
    path = write_segments(tmp_path)
    path.write_text("m/4 3 50 5\nl 0\na 2\n~ 1\nb 2\n", "ascii")
    with pytest.raises(ValueError, match=r"needs 2 frames of its segment b\.hea, which has 3"):
        open_recording(path)
    path.write_text("m/4 3 50 9\nl 0\na 2\n~ 1\nb 3\n", "ascii")
    with pytest.raises(ValueError, match="states 9 frames, its segments have 6"):
        open_recording(path)
    (tmp_path / "b.hea").unlink()
    with pytest.raises(FileNotFoundError, match=r"WFDB header b\.hea does not exist"):
        open_recording(path)


def test_stages_of_a_wfdb_annotation_keep_the_recordings_clock(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "n 1 10 6000\nn.dat 16 10/uV 16 0 0 0 0 C3\n", np.zeros(6000))
    with without_pandas_warnings():
        samples, notes = np.array([3700, 3900, 4200]), ["W", "(arousal_rera", "N1"]
        wfdb.wrann("n", "arousal", samples, ['"'] * 3, aux_note=notes, write_dir=str(tmp_path))
    marks = read_annotations(path, "arousal")
    assert marks == (Mark(370.0, "W"), Mark(390.0, "(arousal_rera"), Mark(420.0, "N1"))
    assert read_stage_file(tmp_path / "n.arousal") == (marks[0], marks[2])
    labels = label_epochs(marks, stage_code, n_samples=6000, sfreq_hz=10.0, epoch=300)
    assert labels.tolist() == [-1] * 12 + [0, 0] + [1] * 6


def test_a_missing_or_damaged_annotation_file_is_refused(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "n 1 50 2\nn.dat 16 10/uV 16 0 0 0 0 C3\n", np.array([1, 2]))
    with pytest.raises(
        FileNotFoundError, match=r"annotation file n\.atr is not in the folder of n\.hea"
    ):
        read_annotations(path, "atr")
    (tmp_path / "n.atr").write_bytes(b"\0\xec\1")
    with pytest.raises(ValueError, match=r"n\.atr is not a complete WFDB annotation file"):
        read_annotations(path, "atr")


@pytest.mark.parametrize("start", ["", " 22:30:05 02/01/2020"])
def test_a_length_of_0_is_taken_from_the_signal_file(tmp_path: Path, start: str) -> None:
    header = f"n 1 50 0{start}\nn.dat 16 10/uV 16 0 0 0 0 C3\n"
    recording = open_recording(write_wfdb(tmp_path, header, np.array([1, 2, 3])))
    assert recording.digital(["C3"])[0].tolist() == [1, 2, 3]
    assert (recording.start is None) == (start == "")


def test_a_time_without_a_date_is_a_clock(tmp_path: Path) -> None:
    header = "n 1 50 2 22:30:05\nn.dat 16 10/uV 16 0 0 0 0 C3\n"
    recording = open_recording(write_wfdb(tmp_path, header, np.array([1, 2])))
    assert recording.start == datetime.time(22, 30, 5)


def test_a_note_at_sample_0_is_an_annotation_and_definitions_are_none(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "n 1 10 600\nn.dat 16 10/uV 16 0 0 0 0 C3\n", np.zeros(600))
    with without_pandas_warnings():
        samples, notes = np.array([0, 300, 450]), ["W", "N2", ""]
        wfdb.wrann(
            "n", "st", samples, ['"', '"', "R"], aux_note=notes, fs=20, write_dir=str(tmp_path)
        )
    marks = read_annotations(path, "st")
    assert marks == (Mark(0.0, "W"), Mark(15.0, "N2"), Mark(22.5, "R"))  # R: a heart beat
    assert read_annotations(path, "st", text="note") == marks[:2]
    assert read_stage_file(tmp_path / "n.st") == marks[:2]
