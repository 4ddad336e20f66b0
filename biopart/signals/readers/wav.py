"""WAV files through scipy: PCM of 8, 16, 24 and 32 bits, and floats, as fractions of full scale."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from biopart.signals.recording import QUANTISED_MISSING, Channel, Recording, quantised

# What scipy raises on damaged files.
_REFUSALS = (
    *(ValueError, LookupError, TypeError, NameError, ArithmeticError, EOFError, MemoryError),
    struct.error,
)


def open_wav(path: Path) -> Recording:
    """Open a WAV file; its channels are ``audio``, or ``audio-1``, ``audio-2``, ... if several.

    Values are fractions of full scale, from -1 to 1, without a unit; the integers are those of the
    file; floats are quantised.

    Raises
    ------
    ValueError
        If the file is not a WAV file, is shorter than stated, has no samples or is compressed.
    """
    bits = _check_whole(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=wavfile.WavFileWarning)
        warnings.filterwarnings("ignore", "Chunk .non-data. not understood", wavfile.WavFileWarning)
        try:
            # Mapped, so that only wanted samples are read; no type of three bytes can be mapped.
            sfreq_hz, samples = wavfile.read(path, mmap=bits in (8, 16, 32, 64))
        except (*_REFUSALS, wavfile.WavFileWarning) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path.name} cannot be read as WAV: {reason}") from None
    columns = samples.reshape(len(samples), -1).T
    names = ["audio"] if len(columns) == 1 else [f"audio-{n + 1}" for n in range(len(columns))]
    if samples.dtype.kind == "f":
        return _of_floats(path, names, columns, float(sfreq_hz))
    shift = 8 if bits == 24 else 0  # scipy moves 24 bits to the upper end of 32
    unsigned = samples.dtype.kind == "u"
    full = 2 ** (8 * samples.dtype.itemsize - shift - 1)
    about: dict[str, Any] = {"digital_min": 0 if unsigned else -full, "scale": 1 / full}
    about["digital_max"] = about["digital_min"] + 2 * full - 1
    about["offset"] = -1.0 if unsigned else 0.0
    return Recording(
        path=path,
        channels=tuple(
            Channel(name=name, unit="", sfreq_hz=float(sfreq_hz), n_samples=len(samples), **about)
            for name in names
        ),
        load=lambda indices: [_native(columns[index]) >> shift for index in indices],
    )


def _of_floats(
    path: Path, names: list[str], columns: NDArray[np.floating], sfreq_hz: float
) -> Recording:
    """Make a recording from floats, quantised to 2**-30 of the maximum of each channel."""
    pairs = [quantised(column.astype(np.float64)) for column in columns]
    channels = tuple(
        Channel(name, "", sfreq_hz, len(integers), scale, missing=QUANTISED_MISSING)
        for name, (integers, scale) in zip(names, pairs, strict=True)
    )
    return Recording(path, channels, lambda indices: [pairs[index][0] for index in indices])


def _native(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Copy mapped integers to memory in native byte order."""
    return values.astype(values.dtype.newbyteorder("="))


def _check_whole(path: Path) -> int:
    """Return the bits per sample; ValueError if the data reach beyond the end of the file."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(0)
        order = ">" if file.read(4) == b"RIFX" else "<"
        file.seek(12)
        bits = 0
        while len(head := file.read(8)) == 8:
            size = struct.unpack(f"{order}I", head[4:])[0]
            if head[:4] == b"data":
                if file.tell() + size > end:
                    raise ValueError(
                        f"{path.name} states {size} bytes of sound but has "
                        f"{end - file.tell()}: copy it again."
                    )
                if not size:
                    break
                return bits
            body = file.read(size + size % 2)
            if head[:4] == b"fmt " and len(body) >= 16:
                bits = struct.unpack(f"{order}H", body[14:16])[0]
    raise ValueError(f"{path.name} is not a WAV file with sound: copy it again.")
