"""WAV files: every width of sample, several channels, and files that are not whole."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from biopart.signals.readers import open_recording


def write_wav(
    path: Path, data: bytes, *, bits: int, channels: int = 1, kind: int = 1, extra: bytes = b""
) -> Path:
    """Write the bytes of samples at 8 kHz under a header of the published layout."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, 8000, 8000 * block, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + extra
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("bits", "data", "integers", "values"),
    [
        (8, b"\x00\x80\xc0\xff", [0, 128, 192, 255], [-1.0, 0.0, 0.5, 127 / 128]),
        (16, b"\x00\x80\x00\x00\x00\x40", [-32768, 0, 16384], [-1.0, 0.0, 0.5]),
        (24, b"\x00\x00\x80\x01\x00\x00\x00\x00\x40", [-(2**23), 1, 2**22], [-1, 2**-23, 0.5]),
        (32, b"\x00\x00\x00\x80\x00\x00\x00\x40", [-(2**31), 2**30], [-1.0, 0.5]),
    ],
)
def test_integers_are_the_files_and_values_are_parts_of_full_scale(
    tmp_path: Path, bits: int, data: bytes, integers: list[int], values: list[float]
) -> None:
    recording = open_recording(write_wav(tmp_path / "a.wav", data, bits=bits))
    (channel,) = recording.channels
    assert (channel.name, channel.unit, channel.sfreq_hz) == ("audio", "", 8000.0)
    assert channel.missing is None
    assert recording.digital(["audio"])[0].tolist() == integers
    np.testing.assert_allclose(recording.physical(["audio"])[0], values, atol=1e-12)
    lowest = 0 if bits == 8 else -(2 ** (bits - 1))
    assert (channel.digital_min, channel.digital_max) == (lowest, lowest + 2**bits - 1)


@pytest.mark.parametrize(("bits", "dtype"), [(32, "<f4"), (64, "<f8")])
def test_floats_keep_their_values_and_nan_is_missing(tmp_path: Path, bits: int, dtype: str) -> None:
    values = np.array([0.5, -2.0, np.nan, 1e-6], dtype)
    path = write_wav(tmp_path / "a.wav", values.tobytes(), bits=bits, kind=3)
    recording = open_recording(path)
    # The step is 2**-30 of the largest, 2.
    assert recording.digital(["audio"])[0].tolist() == [2**28, -(2**30), -(2**31), 537]
    np.testing.assert_allclose(recording.physical(["audio"])[0], values, atol=2**-30)


def test_channels_of_a_stereo_file_are_numbered(tmp_path: Path) -> None:
    data = np.array([[1, -1], [2, -2], [3, -3]], "<i2").tobytes()
    recording = open_recording(write_wav(tmp_path / "a.wav", data, bits=16, channels=2))
    assert recording.names == ("audio-1", "audio-2")
    right, left = recording.digital(["audio-2", "audio-1"])
    assert (right.tolist(), left.tolist()) == ([-1, -2, -3], [1, 2, 3])


def test_a_wav_file_is_known_by_its_first_bytes_and_other_chunks_are_passed_over(
    tmp_path: Path,
) -> None:
    note = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    path = write_wav(tmp_path / "a.sound", b"\x05\x00", bits=16, extra=note)
    assert open_recording(path).digital(["audio"])[0].tolist() == [5]


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    form = struct.pack(">HHIIHH", 1, 1, 8000, 16000, 2, 16)
    body = b"WAVEfmt " + struct.pack(">I", 16) + form + b"data" + struct.pack(">I", 4)
    body += b"\x01\x00\xff\xff"
    (tmp_path / "a.wav").write_bytes(b"RIFX" + struct.pack(">I", len(body)) + body)
    assert open_recording(tmp_path / "a.wav").digital(["audio"])[0].tolist() == [256, -1]


@pytest.mark.parametrize("lost", [1, 3, 5])
def test_a_truncated_file_is_refused(tmp_path: Path, lost: int) -> None:
    path = write_wav(tmp_path / "a.wav", bytes(6), bits=16)
    path.write_bytes(path.read_bytes()[:-lost])
    message = rf"a\.wav states 6 bytes of sound but has {6 - lost}: copy it again"
    with pytest.raises(ValueError, match=message):
        open_recording(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.wav is not a WAV file with sound"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", r"a\.wav is not a WAV file with sound"),
        (b"nothing like a sound, but long enough to have a data chunk", "not a WAV file with"),
    ],
)
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_recording(tmp_path / "a.wav")


def test_a_file_without_samples_or_of_a_compressed_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a WAV file with sound"):
        open_recording(write_wav(tmp_path / "a.wav", b"", bits=16))
    with pytest.raises(ValueError, match=r"a\.wav cannot be read as WAV: Unknown wave file format"):
        open_recording(write_wav(tmp_path / "a.wav", bytes(4), bits=8, kind=7))


def test_spoken_digits_are_those_of_scipy(real_data: Path) -> None:
    files = sorted((real_data / "audio_digits").glob("*_theo_1.wav"))
    assert len(files) == 10
    for file in files:
        sfreq_hz, expected = wavfile.read(file)
        recording = open_recording(file)
        assert recording.channels[0].sfreq_hz == sfreq_hz == 8000
        np.testing.assert_array_equal(recording.digital(["audio"])[0], expected)
