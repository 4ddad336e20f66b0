"""Every file of the folder ``formats``: read with the reference's values, or refused clearly.

References are pyedflib for EDF and BDF, wfdb for WFDB, and a bare numpy read where wfdb refuses.
"""

from pathlib import Path

import numpy as np
import pyedflib
import pytest

from biopart.signals.readers import open_recording
from biopart.signals.readers.wfdb_headers import wfdb
from biopart.signals.readers.wfdb_marks import read_annotations

# Channels of each file that is read.
EDF = {
    "formats/edf/S002R04.edf": 64,
    "formats/edf/SC4001EC-Hypnogram.edf": 0,
    "formats/edf/chtypes_edf.edf": 42,
    "formats/edf/duplicate_channel_labels.edf": 3,
    "formats/edf/multiple_annotation_chans.bdf": 19,
    "formats/edf/short_psg.bdf": 7,
    "formats/edf/short_psg.edf": 7,
    "formats/edf/subsecond_starttime.edf": 3,
    "formats/edf/test_uneven_samp.edf": 2,
    "formats/edf/test_utf8_annotations.edf": 11,
    "eeg_arithmetic/Subject00_1.edf": 21,
}
WFDB = {
    "formats/wfdb/03700181.hea": 3,
    "formats/wfdb/041s/041s.hea": 7,
    "formats/wfdb/041s/041s01.hea": 7,
    "formats/wfdb/041s/041s02.hea": 7,
    "formats/wfdb/3000003_0003.hea": 2,
    "formats/wfdb/310derive.hea": 2,
    "formats/wfdb/311derive.hea": 1,
    "formats/wfdb/a103l-no-len.hea": 3,
    "formats/wfdb/a103l.hea": 3,
    "formats/wfdb/binformats.hea": 10,
    "formats/wfdb/fixed1/v102s.hea": 4,
    "formats/wfdb/fixed1/v102s_1.hea": 4,
    "formats/wfdb/fixed1/v102s_2.hea": 4,
    "formats/wfdb/fixed1/v102s_3.hea": 4,
    "formats/wfdb/flacformats.hea": 3,
    "formats/wfdb/mixedsignals.hea": 6,
    "ecg_mitdb/100.hea": 2,
}
ISO_DATED = {
    "formats/wfdb/cinc2017/A00001.hea": 1,
    "formats/wfdb/cinc2017/A00002.hea": 1,
    "formats/wfdb/cinc2017/A00003.hea": 1,
}
# A signal file with a header of its name beside it is that record.
SIGNAL_FILES = {
    "formats/wfdb/03700181.dat": "formats/wfdb/03700181.hea",
    "formats/wfdb/041s/041s01.dat": "formats/wfdb/041s/041s01.hea",
    "formats/wfdb/041s/041s02.dat": "formats/wfdb/041s/041s02.hea",
    "formats/wfdb/3000003_0003.dat": "formats/wfdb/3000003_0003.hea",
    "formats/wfdb/310derive.dat": "formats/wfdb/310derive.hea",
    "formats/wfdb/311derive.dat": "formats/wfdb/311derive.hea",
    "formats/wfdb/a103l.mat": "formats/wfdb/a103l.hea",
    "formats/wfdb/fixed1/v102s.dat": "formats/wfdb/fixed1/v102s.hea",
    "formats/wfdb/cinc2017/A00001.mat": "formats/wfdb/cinc2017/A00001.hea",
    "formats/wfdb/cinc2017/A00002.mat": "formats/wfdb/cinc2017/A00002.hea",
    "formats/wfdb/cinc2017/A00003.mat": "formats/wfdb/cinc2017/A00003.hea",
    "ecg_mitdb/100.dat": "ecg_mitdb/100.hea",
}
# A signal file without such a header is refused: its header has another name.
REFUSED = [
    *(f"formats/wfdb/binformats.d{number}" for number in range(10)),
    *(f"formats/wfdb/flacformats.d{number}" for number in range(3)),
    *(f"formats/wfdb/mixedsignals_{letter}.dat" for letter in "epr"),
]


def test_no_file_of_the_folder_is_left_out(real_data: Path) -> None:
    files = (file for file in (real_data / "formats").rglob("*") if file.is_file())
    expected = {*EDF, *WFDB, *ISO_DATED, *SIGNAL_FILES, *REFUSED}
    assert {file.relative_to(real_data).as_posix() for file in files} == {
        name for name in expected if name.startswith("formats/")
    }


@pytest.mark.parametrize("name", EDF)
def test_edf_values_are_those_of_pyedflib(real_data: Path, name: str) -> None:
    recording = open_recording(real_data / name)
    assert len(recording.channels) == EDF[name]
    with pyedflib.EdfReader(str(real_data / name)) as reference:
        assert reference.signals_in_file == EDF[name]
        for index, values in enumerate(recording.physical(recording.names)):
            channel = recording.channels[index]
            assert channel.sfreq_hz == pytest.approx(reference.getSampleFrequency(index))
            assert_within_a_step(values, reference.readSignal(index), channel.scale)


@pytest.mark.parametrize("name", EDF)
def test_edf_annotations_are_those_of_pyedflib(real_data: Path, name: str) -> None:
    marks = open_recording(real_data / name).marks
    with pyedflib.EdfReader(str(real_data / name)) as reference:
        onsets, durations, texts = reference.readAnnotations()
    expected = {(round(float(o), 4), str(t)) for o, t in zip(onsets, texts, strict=True)}
    assert {(round(mark.onset_s, 4), mark.text) for mark in marks} == expected
    assert sum(mark.duration_s or 0 for mark in marks) == pytest.approx(
        sum(float(duration) for duration in durations if float(duration) > 0)
    )


@pytest.mark.parametrize("name", WFDB)
def test_wfdb_values_are_those_of_wfdb(real_data: Path, name: str) -> None:
    recording = open_recording(real_data / name)
    reference = wfdb.rdrecord(str((real_data / name).with_suffix("")), smooth_frames=False)
    assert len(recording.channels) == WFDB[name] == reference.n_sig
    for index, values in enumerate(recording.physical(recording.names)):
        channel = recording.channels[index]
        assert channel.sfreq_hz == reference.fs * reference.samps_per_frame[index]
        assert_within_a_step(values, reference.e_p_signal[index], channel.scale)


@pytest.mark.parametrize("name", ISO_DATED)
def test_records_with_an_iso_date_have_the_values_of_their_mat(real_data: Path, name: str) -> None:
    recording = open_recording(real_data / name)
    (values,) = recording.physical(["ECG"])
    expected = np.fromfile((real_data / name).with_suffix(".mat"), "<i2", offset=24) / 1000
    assert recording.start is not None
    assert recording.start.year == 2014
    assert_within_a_step(values, expected, 0.001)


@pytest.mark.parametrize(("name", "header"), SIGNAL_FILES.items())
def test_a_signal_file_opens_the_record_beside_it(real_data: Path, name: str, header: str) -> None:
    recording, expected = open_recording(real_data / name), open_recording(real_data / header)
    assert recording.channels == expected.channels
    assert recording.start == expected.start


@pytest.mark.parametrize("name", REFUSED)
def test_a_signal_file_without_its_header_is_refused(real_data: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"has no supported format .*mne reports"):
        open_recording(real_data / name)


def test_chinese_annotation_text_is_read_as_utf8(real_data: Path) -> None:
    marks = open_recording(real_data / "formats/edf/test_utf8_annotations.edf").marks
    assert [(mark.onset_s, mark.text, mark.duration_s) for mark in marks] == [
        (0.0, "RECORD START", None),
        (2.0, "仰卧", 0.5),
    ]


def test_start_time_has_its_fraction_of_a_second(real_data: Path) -> None:
    recording = open_recording(real_data / "formats/edf/subsecond_starttime.edf")
    assert str(recording.start) == "2020-01-24 04:05:56.394531"


def test_duplicate_labels_are_made_unique_with_a_warning(real_data: Path) -> None:
    recording = open_recording(real_data / "formats/edf/duplicate_channel_labels.edf")
    assert recording.names == ("EEG F1-Ref", "EEG F2-Ref", "EEG F1-Ref-1")
    assert recording.warnings == (
        "2 channels are called EEG F1-Ref: read as EEG F1-Ref, EEG F1-Ref-1.",
    )


def test_heart_beats_of_mitdb_are_notes_or_symbols(real_data: Path) -> None:
    notes = read_annotations(real_data / "ecg_mitdb/100.hea", "atr")
    symbols = read_annotations(real_data / "ecg_mitdb/100", "atr", text="symbol")
    assert len(notes) == len(symbols) == 2274
    assert [mark.text for mark in notes[:3]] == ["(N", "N", "N"]
    assert [mark.text for mark in symbols[:3]] == ["+", "N", "N"]
    assert notes[1].onset_s == pytest.approx(77 / 360)


def assert_within_a_step(values: np.ndarray, expected: np.ndarray, step: float) -> None:
    assert values.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    assert np.nanmax(np.abs(values - expected)) < 0.01 * abs(step)
