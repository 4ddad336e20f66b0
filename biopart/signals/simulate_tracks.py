"""Building blocks of simulated signals: shaped noise, gains that follow the stages, waves.

A *track* is one float32 array over the whole night at 200 Hz; a *gain* is an array at 20 Hz with
one point more than the night has steps, interpolated linearly when applied to a track.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len
from scipy.ndimage import uniform_filter1d

from biopart.signals.simulate_course import EPOCH_S, Course

SFREQ_HZ = 200
COARSE_HZ = 20
STEP = SFREQ_HZ // COARSE_HZ

Floats = NDArray[np.float32]


def shaped_noise(
    rng: np.random.Generator, n_samples: int, band: tuple[float, float], slope: float
) -> Floats:
    """Draw Gaussian noise of unit variance, (n_samples,), amplitude ~ f**-slope in ``band``."""
    n_fast = next_fast_len(n_samples, real=True)
    edge = min(0.2 * (band[1] - band[0]), 0.5 * band[0])
    step = SFREQ_HZ / n_fast
    first, last = int((band[0] - edge) / step) + 1, int((band[1] + edge) / step)
    hz = np.arange(first, min(last, n_fast // 2 - 1) + 1) * step
    knots = band[0] - edge, band[0], band[1], band[1] + edge
    shape = np.interp(hz, knots, (0, 1, 1, 0)) * hz**-slope
    shape *= n_fast / np.sqrt(4 * np.sum(shape**2))  # Parseval: unit variance on average
    spectrum = np.zeros(n_fast // 2 + 1, np.complex64)
    drawn = rng.standard_normal(2 * len(hz), dtype=np.float32).view(np.complex64)
    spectrum[first : first + len(hz)] = drawn * shape.astype(np.float32)
    track: Floats = irfft(spectrum, n_fast, overwrite_x=True)
    return track[:n_samples]


def stage_gain(
    rng: np.random.Generator, course: Course, levels: Sequence[float], spread: float = 0.25
) -> Floats:
    """Draw a gain over the night at the coarse rate: the level of the stage, varying smoothly."""
    stages = np.concatenate([np.zeros(_lead_epochs(course), np.int8), course.stages])
    wander = uniform_filter1d(rng.standard_normal(len(stages)), 3, mode="nearest") * 3**0.5
    gain = np.asarray(levels, np.float64)[stages] * np.exp(spread * wander - spread**2 / 2)
    return _smooth(gain[_coarse_epochs(course)])


def event_gain(course: Course, kind: str) -> Floats:
    """Return 1 inside the events whose kind starts with ``kind``, 0 outside, smoothed."""
    active = np.zeros(course.duration_s * COARSE_HZ + 1)
    for event in course.events:
        if event.kind.startswith(kind):
            active[int(event.start_s * COARSE_HZ) : int(event.stop_s * COARSE_HZ)] = 1
    return _smooth(active)


def _lead_epochs(course: Course) -> int:
    return -(-course.lead_in_s // EPOCH_S)


def _coarse_epochs(course: Course) -> NDArray[np.int64]:
    """Index of the epoch, counting lead-in epochs, that contains each coarse sample."""
    coarse = np.arange(course.duration_s * COARSE_HZ + 1) - course.lead_in_s * COARSE_HZ
    epochs = coarse // (EPOCH_S * COARSE_HZ) + _lead_epochs(course)
    return np.minimum(epochs, _lead_epochs(course) + len(course.stages) - 1)


def _smooth(values: NDArray[np.float64]) -> Floats:
    once = uniform_filter1d(values, COARSE_HZ // 2, mode="nearest")
    return np.asarray(uniform_filter1d(once, COARSE_HZ // 2, mode="nearest"), np.float32)


def upsample(coarse: NDArray[np.floating]) -> Floats:
    """Interpolate linearly from n + 1 coarse points to n * step samples."""
    values = coarse.astype(np.float32)
    ramp = np.arange(STEP, dtype=np.float32) / STEP
    return np.asarray(values[:-1, None] + np.diff(values)[:, None] * ramp, np.float32).ravel()


def modulate(track: Floats, gain: NDArray[np.floating]) -> Floats:
    """Multiply a track in place by a gain at the coarse rate and return it."""
    track *= upsample(gain)
    return track


def add_weighted(rows: Floats, weights: Sequence[float], track: Floats) -> None:
    """Add one track to each row by the row's weight."""
    for row, weight in zip(rows, weights, strict=True):
        if weight:
            row += np.float32(weight) * track


def draw_starts(
    rng: np.random.Generator, course: Course, per_minute: Sequence[float]
) -> NDArray[np.int64]:
    """Draw start samples at a rate per stage; rates vary between epochs (gamma-Poisson)."""
    stages = np.concatenate([np.zeros(_lead_epochs(course), np.int8), course.stages])
    rate = np.asarray(per_minute, np.float64)[stages] * EPOCH_S / 60
    counts = rng.poisson(rate * rng.gamma(2.0, 0.5, len(stages)))
    first_s = course.lead_in_s - _lead_epochs(course) * EPOCH_S
    onsets = first_s + EPOCH_S * np.repeat(np.arange(len(stages)), counts).astype(np.float64)
    onsets += rng.uniform(0, EPOCH_S, len(onsets))
    return np.floor(onsets * SFREQ_HZ).astype(np.int64)


def add_waves(track: Floats, starts: NDArray[np.int64], waves: NDArray[np.float64]) -> None:
    """Add waves (count, length) at their start samples; a wave that does not fit is skipped."""
    inside = (starts >= 0) & (starts + waves.shape[1] <= len(track))
    samples = starts[inside, None] + np.arange(waves.shape[1])
    np.add.at(track, samples.ravel(), waves[inside].astype(np.float32).ravel())


def seconds(length_s: float) -> NDArray[np.float64]:
    """Return the times of the samples of ``length_s`` seconds, from 0."""
    return np.arange(round(length_s * SFREQ_HZ)) / SFREQ_HZ


def bell(time: NDArray[np.float64], centre_s: float, width_s: float) -> NDArray[np.float64]:
    """Return a Gaussian bump of height 1 over ``time`` in seconds."""
    return np.exp(-0.5 * ((time - centre_s) / width_s) ** 2)
