"""Sound as mel-frequency cepstral coefficients, by librosa: channels at the rate of its frames."""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopart.signals.readers.wav import open_wav
from biopart.signals.recording import Channel, Recording, quantised
from biopart.store.card import Cepstrum


def open_cepstrum(path: Path, settings: Cepstrum) -> Recording:
    """Open a WAV file as cepstral coefficients; several channels of sound are averaged.

    Frame f lies around (f + 1/2) steps, so that n seconds have n / step_s frames; beyond its ends
    sound is silent.

    Parameters
    ----------
    path : Path
        The WAV file.
    settings : Cepstrum
        Frames, bands and coefficients.

    Returns
    -------
    Recording
        Channels mfcc0, mfcc1, ..., without a unit.

    Raises
    ------
    ValueError
        If librosa is not installed, the file is not a WAV file, it is shorter than a step, or a
        step or frame is not a whole number of samples.
    """
    if importlib.util.find_spec("librosa") is None:
        raise ValueError(
            'cepstral coefficients need librosa; install the extra: pip install "biopart[speech]"'
        )
    import librosa

    sound = open_wav(path)
    rate = sound.channels[0].sfreq_hz
    step, frame = (_samples(path, s, rate) for s in (settings.step_s, settings.frame_s))
    if settings.high_hz is not None and settings.high_hz > rate / 2:
        raise ValueError(
            f"{path.name} has {rate:g} samples per second, too few for bands up to "
            f"{settings.high_hz:g} Hz; lower high_hz in the card"
        )
    mono = np.stack(sound.physical(sound.names)).astype(np.float64).mean(0)
    length = max(len(mono), round((settings.pad_s or 0) * rate)) // step * step
    if not length:
        raise ValueError(f"{path.name} is shorter than a step of {settings.step_s:g} s")
    coefficients = librosa.feature.mfcc(
        y=_in_silence(mono[:length], length, frame - step),
        sr=rate,
        n_mfcc=settings.coefficients,
        n_fft=frame,
        hop_length=step,
        center=False,
        n_mels=settings.bands,
        fmin=settings.low_hz,
        fmax=settings.high_hz or rate / 2,
    )
    pairs = [quantised(row.astype(np.float64)) for row in coefficients]
    channels = tuple(
        Channel(f"mfcc{number}", "", 1 / settings.step_s, len(integers), scale)
        for number, (integers, scale) in enumerate(pairs)
    )
    return Recording(path, channels, lambda indices: [pairs[index][0] for index in indices])


def _in_silence(sound: NDArray[np.float64], length: int, around: int) -> NDArray[np.float64]:
    """Return sound (T,) filled up to a length, with half of ``around`` samples before it."""
    before = around // 2
    return np.pad(sound, (before, length - len(sound) + around - before))


def _samples(path: Path, seconds: float, rate: float) -> int:
    """Return a length in samples; ValueError if it is not whole."""
    samples = round(seconds * rate)
    if abs(samples - seconds * rate) > 1e-6:
        raise ValueError(
            f"{path.name} has {rate:g} samples per second: {seconds:g} s is not a whole number of "
            "them; change frame_s or step_s"
        )
    return samples
