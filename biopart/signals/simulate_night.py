"""Turn the course of a simulated night into 13 signals, named as in PhysioNet 2018.

Every rhythm is Gaussian noise shaped in the frequency domain once for the whole night, times a
gain that follows the stages smoothly (about 1 s), so that neither an epoch nor a window has an
edge in the signal. Spindles, K-complexes, eye movements and beats are added where they occur.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopart.signals.simulate_course import EPOCH_S, Course, Event, draw_course
from biopart.signals.simulate_tracks import (
    COARSE_HZ,
    SFREQ_HZ,
    STEP,
    Floats,
    add_waves,
    add_weighted,
    bell,
    draw_starts,
    event_gain,
    modulate,
    seconds,
    shaped_noise,
    stage_gain,
    upsample,
)

CHANNELS = (
    "F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2",
    "Chin1-Chin2", "ABD", "CHEST", "AIRFLOW", "SaO2", "ECG",
)  # fmt: skip
UNITS = ("uV",) * 11 + ("%", "mV")

_N_SCALP = 7  # the six EEG leads and E1-M2 share the brain's rhythms


@dataclass(frozen=True)
class SimulatedNight:
    """One simulated recording.

    Attributes
    ----------
    signals
        (13, time) float32 in ``units``, rows in the order of ``names``.
    names, units, sfreq_hz
        Channel names, their units (uV, %, mV) and the rate common to all.
    stages
        (epochs,) int8, W=0 N1=1 N2=2 N3=3 R=4; epoch e starts at ``lead_in_s + e * epoch_s``
        seconds; the last one is cut by the end of the recording.
    lead_in_s
        Seconds before the first scored epoch; unscored.
    events
        Arousals and breathing events in the order of their starts.
    age, sex, alpha_hz
        The person: years, "F" or "M", centre of the alpha rhythm.
    """

    signals: NDArray[np.float32]
    stages: NDArray[np.int8]
    lead_in_s: int
    events: tuple[Event, ...]
    age: int
    sex: str
    alpha_hz: float
    names: tuple[str, ...] = CHANNELS
    units: tuple[str, ...] = UNITS
    sfreq_hz: int = SFREQ_HZ
    epoch_s: int = EPOCH_S


@dataclass(frozen=True)
class _Rhythm:
    """Noise of ``band`` (Hz), amplitude ~ f**-slope, in uV RMS for W N1 N2 N3 R and arousals."""

    band: tuple[float, float]
    slope: float
    levels: tuple[float, ...]
    arousal: float
    weights: tuple[float, ...]  # F3 F4 C3 C4 O1 O2 E1


def simulate_night(seed: int, person: int, hours: float) -> SimulatedNight:
    """Simulate one night of one person, the same for the same arguments.

    Parameters
    ----------
    seed, person
        Non-negative; every pair has a random stream of its own.
    hours
        Length of the recording, 0.2 to 24, rounded to whole seconds; the unscored lead-in of 6
        to 9 minutes is part of it.

    Raises
    ------
    ValueError
        If an argument is outside these limits.
    """
    rng, course = begin_night(seed, person, hours)
    return SimulatedNight(
        signals=_signals(rng, course),
        stages=course.stages,
        lead_in_s=course.lead_in_s,
        events=course.events,
        age=course.person.age,
        sex=course.person.sex,
        alpha_hz=course.person.alpha_hz,
    )


def begin_night(seed: int, person: int, hours: float) -> tuple[np.random.Generator, Course]:
    """Draw the person and the course, and return the generator that draws the signals.

    Raises
    ------
    ValueError
        If an argument is outside the limits of ``simulate_night``.
    """
    if seed < 0 or person < 0:
        raise ValueError(f"seed {seed} and person {person} must not be negative")
    if not 0.2 <= hours <= 24:
        raise ValueError(f"hours is {hours}; a night lasts 0.2 to 24 hours, lead-in included")
    rng = np.random.default_rng([seed, person])
    return rng, draw_course(rng, round(hours * 3600))


def _signals(rng: np.random.Generator, course: Course) -> Floats:
    signals = np.zeros((len(CHANNELS), course.duration_s * SFREQ_HZ), np.float32)
    arousal = event_gain(course, "arousal")
    scalp = signals[:_N_SCALP]
    _add_background(rng, course, scalp)
    for rhythm in _rhythms(course):
        gain = stage_gain(rng, course, rhythm.levels) + np.float32(rhythm.arousal) * arousal
        track = shaped_noise(rng, signals.shape[1], rhythm.band, rhythm.slope)
        add_weighted(scalp, rhythm.weights, modulate(track, gain))
    _add_sleep_waves(rng, course, scalp)
    scalp *= np.float32(course.person.amplitude)
    _add_eyes(rng, course, scalp)
    _add_chin(rng, course, arousal, signals[7])
    breath = _breath_phase(rng, course)
    _add_breathing(rng, course, breath, signals[8:12])
    _add_heart(rng, course, breath, signals)
    return signals


def _rhythms(course: Course) -> tuple[_Rhythm, ...]:
    """List the rhythms shared by the leads; levels give sleep EEG of 5-100 uV in all."""
    person = course.person
    alpha_band = (person.alpha_hz - 0.6, person.alpha_hz + 0.6)
    alpha = tuple(level * person.alpha_gain for level in (15.0, 3.5, 1.5, 1.0, 2.0))
    slow = tuple(level * person.slow_wave_gain for level in (0.0, 2.0, 8.0, 42.0, 2.5))
    muscle = tuple(level * person.muscle_gain for level in (3.0, 0.8, 0.4, 0.3, 0.15))
    front = (1.0, 0.97, 0.8, 0.78, 0.5, 0.52, 0.45)
    even = (0.9, 0.9, 0.9, 0.9, 0.8, 0.8, 0.6)
    left = (0.3, 0.15, 0.5, 0.25, 1.0, 0.4, 0.12)
    right = (0.15, 0.3, 0.25, 0.5, 0.4, 1.0, 0.08)
    return (
        _Rhythm((0.4, 45.0), 0.5, (6, 5, 6, 7, 5), 0, even),
        _Rhythm((0.2, 8.0), 1.0, (5, 6, 9, 15, 6), 0, even),
        _Rhythm((0.5, 1.5), 0.3, slow, 0, front),
        _Rhythm((4.0, 7.5), 0.3, (3, 7, 5, 4, 6.5), 3, (0.8, 0.8, 0.9, 0.9, 0.7, 0.7, 0.5)),
        _Rhythm(alpha_band, 0, alpha, 8, left),
        _Rhythm(alpha_band, 0, alpha, 8, right),
        _Rhythm((11.8, 15.2), 0, (0.8, 1, 3, 2.2, 1), 0, (0.7, 0.7, 1, 1, 0.4, 0.4, 0.2)),
        _Rhythm((16.0, 32.0), 0.5, (4, 3, 1.8, 1, 2.5), 4, even),
        _Rhythm((25.0, 90.0), 0, muscle, 6, (0.8, 0.8, 0.4, 0.4, 0.3, 0.3, 1.0)),
    )  # fmt: skip


def _add_background(rng: np.random.Generator, course: Course, scalp: Floats) -> None:
    """Add each lead's own 1/f noise, steeper in deep sleep by its share of slow frequencies."""
    for row in scalp:
        gain = stage_gain(rng, course, (5, 4.5, 5.5, 6.5, 4.5))
        row += modulate(shaped_noise(rng, len(row), (0.2, 70.0), 0.6), gain)


def _add_sleep_waves(rng: np.random.Generator, course: Course, scalp: Floats) -> None:
    """Add spindles of 0.5-1.5 s and K-complexes (sharp negative, slow positive, over 75 uV)."""
    track = np.zeros(scalp.shape[1], np.float32)
    rate = course.person.spindles_per_min
    starts = draw_starts(rng, course, (0, 0.1, rate, 0.25 * rate, 0))
    count = (len(starts), 1)
    time = seconds(1.6)
    length = rng.uniform(0.5, 1.5, count)
    hz = np.clip(course.person.spindle_hz + rng.normal(0, 0.35, count), 12, 15)
    envelope = np.where(time < length, np.sin(np.pi * time / length) ** 2, 0)
    height = 22 * rng.lognormal(0, 0.3, count)
    add_waves(track, starts, height * envelope * np.sin(2 * np.pi * hz * time))
    add_weighted(scalp, (0.7, 0.7, 1.0, 1.0, 0.35, 0.35, 0.15), track)
    track[:] = 0
    starts = draw_starts(rng, course, (0, 0, 1.8, 0.5, 0))
    time = seconds(2.0)
    wave = -100 * bell(time, 0.4, 0.09) + 60 * bell(time, 0.85, 0.2)
    add_waves(track, starts, rng.uniform(0.7, 1.4, (len(starts), 1)) * wave)
    add_weighted(scalp, (1.0, 1.0, 0.9, 0.9, 0.45, 0.45, 0.5), track)


def _add_eyes(rng: np.random.Generator, course: Course, scalp: Floats) -> None:
    """Add rapid eye movements (R), blinks (W) and slow rolling (N1) to E1 and the front."""
    track = np.zeros(scalp.shape[1], np.float32)
    starts = draw_starts(rng, course, (1.5, 0, 0, 0, 9))
    count = (len(starts), 1)
    time = seconds(2.0)
    height = rng.choice([-1, 1], count) * rng.uniform(40, 150, count)
    hold = np.exp(-time / rng.uniform(0.2, 0.6, count)) * (1 - time / 2)
    add_waves(track, starts, height * (1 - np.exp(-time / 0.03)) * hold)
    add_weighted(scalp, (0.28, 0.12, 0.08, 0.04, 0.0, 0.0, 1.0), track)
    track[:] = 0
    starts = draw_starts(rng, course, (12, 0.3, 0, 0, 0))
    height = rng.uniform(60, 160, (len(starts), 1))
    add_waves(track, starts, height * bell(seconds(0.5), 0.2, 0.055))
    add_weighted(scalp, (0.5, 0.5, 0.12, 0.12, 0.0, 0.0, -0.7), track)
    track = shaped_noise(rng, len(track), (0.15, 0.45), 0)
    rolling = modulate(track, stage_gain(rng, course, (2, 45, 2, 1, 2)))
    add_weighted(scalp, (0.1, 0.05, 0.02, 0.01, 0.0, 0.0, 1.0), rolling)


def _add_chin(rng: np.random.Generator, course: Course, arousal: Floats, row: Floats) -> None:
    """Add muscle tone, high in W, lowest in R, with a burst in every arousal."""
    gain = stage_gain(rng, course, (14, 7, 5, 4.5, 1.5), spread=0.4) + 22 * arousal
    row += modulate(shaped_noise(rng, len(row), (15.0, 95.0), 0), gain * course.person.muscle_gain)
    row += rng.standard_normal(len(row), dtype=np.float32)


def _add_breathing(
    rng: np.random.Generator, course: Course, phase: NDArray[np.float64], rows: Floats
) -> None:
    """Fill ABD, CHEST, AIRFLOW (uV) and SaO2 (%); events flatten the first three."""
    central = event_gain(course, "resp_central")
    apnoea = event_gain(course, "resp_obstructive")
    hypopnoea = event_gain(course, "resp_hypopnea")
    effort = 1 - 0.95 * central - 0.4 * apnoea - 0.4 * hypopnoea
    flow = 1 - 0.95 * central - 0.95 * apnoea - 0.55 * hypopnoea
    paradox = 1.4 * apnoea  # belts move against each other in an obstructive apnoea
    height = stage_gain(rng, course, (260, 240, 230, 230, 220), spread=0.15)
    rows[0] += upsample(height * effort * np.sin(phase + paradox))
    rows[1] += upsample(0.8 * height * effort * np.sin(phase - 0.3 - paradox))
    rows[2] += upsample(0.7 * height * flow * (np.cos(phase) + 0.2 * np.sin(2 * phase)))
    rows[:3] += 4 * rng.standard_normal(rows[:3].shape, dtype=np.float32)
    rows[3] += upsample(_saturation(rng, course))


def _breath_phase(rng: np.random.Generator, course: Course) -> NDArray[np.float64]:
    rate = stage_gain(rng, course, (1.1, 1.0, 0.97, 0.95, 1.05), spread=0.08)
    phase = np.cumsum(rate, dtype=np.float64)
    return phase * (2 * np.pi * course.person.breath_hz / COARSE_HZ)


def _saturation(rng: np.random.Generator, course: Course) -> NDArray[np.float64]:
    """Draw SaO2 in %, falling from 12 s into a breathing event until 12 s after its end."""
    time = np.arange(course.duration_s * COARSE_HZ + 1) / COARSE_HZ
    level = np.full(len(time), rng.uniform(95, 98))
    for event in course.events:
        if event.kind.startswith("resp"):
            knots = event.start_s + 12, event.stop_s + 12, event.stop_s + 35
            inside = slice(int(knots[0] * COARSE_HZ), int(knots[2] * COARSE_HZ) + 1)
            deep = (2, 5) if event.kind == "resp_hypopnea" else (3, 9)
            level[inside] -= np.interp(time[inside], knots, (0, rng.uniform(*deep), 0))
    return level


def _add_heart(
    rng: np.random.Generator, course: Course, breath: NDArray[np.float64], signals: Floats
) -> None:
    """Fill ECG (mV) at the person's rate with breathing arrhythmia; leak 3 uV into the scalp."""
    rate = stage_gain(rng, course, (1.12, 1.03, 1.0, 0.97, 1.06), spread=0.04)
    swing = 1 + 0.03 * np.sin(breath)
    phase = np.cumsum(rate * swing, dtype=np.float64) * (course.person.heart_hz / COARSE_HZ)
    beats = np.interp(np.arange(1, int(phase[-1])), phase, np.arange(len(phase)))
    time = seconds(0.6)
    wave = 0.12 * bell(time, 0.08, 0.025) - 0.1 * bell(time, 0.19, 0.008)
    wave += 1.1 * bell(time, 0.215, 0.01) - 0.2 * bell(time, 0.24, 0.01)
    wave += 0.28 * bell(time, 0.45, 0.045)
    ecg = signals[-1]
    add_waves(ecg, (beats * STEP).astype(np.int64), wave[None].repeat(len(beats), 0))
    add_weighted(signals[:8], (3.0, 2.5, 3.0, 2.5, 3.0, 2.5, 4.0, 4.0), ecg)
    ecg += 0.01 * rng.standard_normal(len(ecg), dtype=np.float32)
