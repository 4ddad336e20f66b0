"""EDF, BDF and mne: what is refused and why, what is mended, that nothing private comes out."""

import datetime
import re
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from biopart.signals.readers import open_recording
from biopart.signals.recording import Mark

RAMP = np.arange(-1000, 1000, dtype=np.int16)


def write_edf(path: Path, *, marks: bool = True, labels: tuple[str, ...] = ("C3", "C4")) -> Path:
    """Write 20 s of ramps at 100 Hz in records of 1 s, 0.1 uV a step, with a person's data."""
    signals = [
        edfio.EdfSignal.from_digital(
            RAMP,
            100.0,
            label=label,
            physical_dimension="uV",
            physical_range=(-100.0, 100.0),
            digital_range=(-1000, 1000),
        )
        for label in labels
    ]
    notes = [edfio.EdfAnnotation(5.0, 2.0, "Sleep stage W"), edfio.EdfAnnotation(7.5, None, "µ")]
    edfio.Edf(
        signals,
        patient=edfio.Patient(name="Jane_Doe", birthdate=datetime.date(1961, 2, 3)),
        recording=edfio.Recording(startdate=datetime.date(2020, 1, 2), additional=("Dr_Who",)),
        starttime=datetime.time(22, 30, 5),
        data_record_duration=1,
        annotations=notes if marks else None,
    ).write(path)
    return path


def patch(path: Path, start: int, new: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[start : start + len(new)] = new
    path.write_bytes(raw)
    return path


def test_edf_gives_integers_scale_marks_and_start(tmp_path: Path) -> None:
    recording = open_recording(write_edf(tmp_path / "a.edf"))
    np.testing.assert_array_equal(recording.digital(["C4"])[0], RAMP)
    np.testing.assert_allclose(recording.physical(["C3"])[0], RAMP / 10, atol=1e-4)
    assert recording.digital(["C3"])[0].dtype == np.int16
    assert recording.marks == (Mark(5.0, "Sleep stage W", 2.0), Mark(7.5, "µ"))
    assert recording.start == datetime.datetime(2020, 1, 2, 22, 30, 5)
    assert (recording.channels[0].digital_min, recording.channels[0].digital_max) == (-1000, 1000)


def test_edf_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf").rename(tmp_path / "a.rec")
    assert open_recording(path).names == ("C3", "C4")


def test_no_name_birth_date_or_free_text_leaves_the_reader(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf")
    recording = open_recording(path)
    assert b"Jane_Doe" in path.read_bytes()
    assert not re.search("jane|doe|1961|who", repr(recording), re.IGNORECASE)
    with pytest.raises(ValueError, match="wrong record count") as caught:
        open_recording(patch(path, 236, b"7       "))
    assert not re.search("jane|doe|1961|who", str(caught.value), re.IGNORECASE)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "a.edf is empty"),
        (100, "a.edf is truncated: it ends inside its header, after 100 bytes"),
        (300, "a.edf is truncated: it ends inside its header, after 300 bytes"),
        (768, "header states 20 data records of 400 bytes, the file has 0 data records;"),
        (768 + 399, "the file has 0 data records and 399 bytes of another"),
        (768 + 12 * 400, "a.edf is truncated: its header states 20 .* has 12 data records;"),
        (768 + 19 * 400 + 1, "has 19 data records and 1 bytes of another; copy it again"),
    ],
)
def test_a_truncated_edf_is_refused(tmp_path: Path, size: int, message: str) -> None:
    path = write_edf(tmp_path / "a.edf", marks=False)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=message):
        open_recording(path)


def test_a_wrong_record_count_is_refused(tmp_path: Path) -> None:
    path = patch(write_edf(tmp_path / "a.edf", marks=False), 236, b"12      ")
    with pytest.raises(ValueError, match=r"wrong record count: its header states 12 .* has 20"):
        open_recording(path)


def test_a_record_count_of_minus_one_is_taken_from_the_size(tmp_path: Path) -> None:
    recording = open_recording(patch(write_edf(tmp_path / "a.edf"), 236, b"-1      "))
    assert recording.channels[0].n_samples == 2000
    assert recording.warnings == (
        "The header states no record count; the file has 20 data records.",
    )


@pytest.mark.parametrize("flag", [b"EDF+C", b"EDF+D"])
def test_a_gap_is_refused_with_its_time(tmp_path: Path, flag: bytes) -> None:
    path = patch(write_edf(tmp_path / "a.edf"), 192, flag)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"+12\x14\x14", b"+52\x14\x14", 1))
    with pytest.raises(ValueError, match=r"a.edf is discontinuous .* at 12 s, .* starts at 52 s"):
        open_recording(path)


def test_a_file_marked_discontinuous_without_a_gap_is_read(tmp_path: Path) -> None:
    recording = open_recording(patch(write_edf(tmp_path / "a.edf"), 192, b"EDF+D"))
    np.testing.assert_array_equal(recording.digital(["C3"])[0], RAMP)


def test_discontinuous_without_times_is_refused(tmp_path: Path) -> None:
    path = patch(write_edf(tmp_path / "a.edf", marks=False), 192, b"EDF+D")
    with pytest.raises(ValueError, match="has no annotations that locate"):
        open_recording(path)
    path = patch(write_edf(tmp_path / "b.edf"), 192, b"EDF+D")
    path.write_bytes(path.read_bytes().replace(b"+3\x14\x14", b"\0\0\0\0", 1))
    with pytest.raises(ValueError, match="data record 3 does not state when it starts"):
        open_recording(path)


@pytest.mark.parametrize(
    ("start", "new", "message"),
    [
        (0, b"RIFF", "is not an EDF or BDF file"),
        (252, b"two ", "is not an EDF or BDF file"),
        (236, b"many    ", "damaged EDF header: invalid literal"),
        (184, b"1024    ", "damaged EDF header: 1024 bytes for 2 signals"),
        (244, b"0       ", "damaged EDF header: data records of 0 s"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, start: int, new: bytes, message: str) -> None:
    path = patch(write_edf(tmp_path / "a.edf", marks=False), start, new)
    with pytest.raises(ValueError, match=message):
        open_recording(path)


@pytest.mark.parametrize(
    ("start", "new", "reason"),
    [
        (256 + 2 * 104, b"abc     ", "its header is damaged"),
        (256 + 2 * 120, b"        ", "its header is damaged"),
        (256 + 2 * 216, b"0       ", "it has no samples"),
    ],
)
def test_a_damaged_signal_refuses_itself_and_no_other(
    tmp_path: Path, start: int, new: bytes, reason: str
) -> None:
    path = write_edf(tmp_path / "a.edf", marks=False)
    whole = open_recording(path).channels[1]
    raw = patch(path, start, new).read_bytes()
    if reason == "it has no samples":  # so its 200 bytes of every record are not there
        records = np.frombuffer(raw[768:], np.uint8).reshape(20, 400)
        path.write_bytes(raw[:768] + records[:, 200:].tobytes())
    recording = open_recording(path)
    assert recording.channels[1] == whole
    with pytest.raises(ValueError, match=f"a.edf: signal C3 cannot be read, {reason}"):
        recording.digital(["C3"])


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", marks=False)
    expected = open_recording(path).physical(["C3"])[0]
    patch(path, 256 + 2 * 120, b"-1000.0 ")
    np.testing.assert_array_equal(open_recording(path).physical(["C3"])[0], expected)


def test_nul_padding_and_decimal_commas_are_mended(tmp_path: Path) -> None:
    path = patch(write_edf(tmp_path / "a.edf", marks=False), 256 + 2 * 104, b"-100,0\0\0")
    recording = open_recording(patch(path, 256, b"C3\0\0\0"))
    np.testing.assert_allclose(recording.physical(["C3"])[0], RAMP / 10, atol=1e-4)
    assert recording.warnings == ("NUL bytes or decimal commas in the header were repaired.",)


def test_a_signal_without_a_range_keeps_its_integers_with_a_warning(tmp_path: Path) -> None:
    path = patch(write_edf(tmp_path / "a.edf", marks=False), 256 + 2 * 104, b"100     ")
    recording = open_recording(path)
    assert recording.physical(["C3"])[0].tolist() == RAMP.tolist()
    assert recording.channels[0].unit == ""
    assert recording.warnings == (
        "Signal C3 states no range: its values are the integers of the file.",
    )


@pytest.mark.parametrize("unit", ["µV".encode("latin-1"), "µV".encode()])
def test_micro_signs_are_read_in_both_encodings(tmp_path: Path, unit: bytes) -> None:
    path = patch(write_edf(tmp_path / "a.edf", marks=False), 256 + 2 * 96, unit.ljust(8))
    assert open_recording(path).channels[0].unit == "uV"


def test_a_start_without_a_date_is_a_time_of_day(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", marks=False)
    for day in (b"31.02.20", b"        ", b"X"):
        start = open_recording(patch(path, 168, day.ljust(8))).start
        assert start == datetime.time(22, 30, 5)
    assert open_recording(patch(path, 176, b"99.30.05")).start is None


def test_latin_annotations_are_read(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf")
    path.write_bytes(path.read_bytes().replace("µ".encode(), b"\xfc\x20"))
    assert open_recording(path).marks[1].text == "ü "


def test_bdf_gives_24_bits_with_their_sign(tmp_path: Path) -> None:
    digital = np.array([-8388608, -1, 0, 1, 70000, 8388607], np.int32)
    signal = edfio.BdfSignal.from_digital(digital, 6.0, label="Cz")
    edfio.Bdf([signal], data_record_duration=1).write(tmp_path / "a.bdf")
    recording = open_recording(tmp_path / "a.bdf")
    assert recording.digital(["Cz"])[0].tolist() == digital.tolist()
    np.testing.assert_allclose(recording.physical(["Cz"])[0], digital, atol=1e-6)


def test_other_formats_come_through_mne_in_microvolt(tmp_path: Path) -> None:
    values = np.array([[1e-6, -2.5e-5, 3e-4], [1e-3, 2e-3, 3e-3], [36.5, 37.0, 37.25]])
    info = mne.create_info(["C3", "ECG", "Temp"], 100.0, ["eeg", "ecg", "misc"])
    raw = mne.io.RawArray(values, info, first_samp=250, verbose="ERROR")
    raw.set_meas_date(datetime.datetime(2020, 1, 2, 22, 30, tzinfo=datetime.UTC))
    raw.set_annotations(mne.Annotations([0.01, 0.02], [0.0, 2**-7], ["W", "N1"]))
    raw.save(tmp_path / "a_raw.fif", fmt="double", verbose="ERROR")
    recording = open_recording(tmp_path / "a_raw.fif")
    temp, ecg, eeg = recording.physical(["Temp", "ECG", "C3"])
    np.testing.assert_allclose(eeg, [1.0, -25.0, 300.0], atol=0.001)
    np.testing.assert_allclose(ecg, [1000.0, 2000.0, 3000.0], atol=0.001)
    np.testing.assert_allclose(temp, [36.5, 37.0, 37.25], atol=1e-8)
    assert [channel.unit for channel in recording.channels] == ["uV", "uV", ""]
    assert recording.marks == (Mark(0.01, "W"), Mark(0.02, "N1", 2**-7))
    assert recording.start == datetime.datetime(2020, 1, 2, 22, 30, 2, 500000)


@pytest.mark.parametrize("name", ["a.foo", "a.fif", "a.vhdr", "a.set", "a.gdf", "a.asc", "a.dat"])
def test_what_mne_refuses_is_refused_with_its_words(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a recording")
    with pytest.raises(ValueError, match=f"{name} has no supported format .*; mne reports"):
        open_recording(tmp_path / name)


def test_a_file_of_mne_without_samples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nxe").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.nxe has no samples"):
        open_recording(tmp_path / "a.nxe")


def test_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.edf does not exist; give the path"):
        open_recording(tmp_path / "a.edf")


def test_a_folder_is_offered_to_mne(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mne reports"):
        open_recording(tmp_path)
