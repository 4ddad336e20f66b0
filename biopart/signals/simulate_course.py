"""The course of a simulated night: the person, the hypnogram, arousals and breathing events.

No signal is made here; ``simulate_night`` turns this course into samples. The values are rounded
textbook values for adults (AASM scoring manual; Ohayon et al., Sleep 2004), chosen so that stages
overlap as in real nights: simulated data test a pipeline, they do not replace recordings.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

EPOCH_S = 30

# How readily a stage (row) is followed by another (column); 0 = never, as N3 from W.
_FOLLOWS = np.array(
    [
        [1.00, 1.00, 0.15, 0.00, 0.02],
        [0.40, 0.50, 1.50, 0.00, 0.30],
        [0.10, 0.12, 1.00, 1.00, 0.80],
        [0.05, 0.08, 0.80, 1.20, 0.02],
        [0.12, 0.20, 0.40, 0.00, 1.20],
    ]
)


@dataclass(frozen=True)
class Person:
    """Traits of one simulated person, constant over the night."""

    age: int
    sex: str
    amplitude: float
    alpha_hz: float
    alpha_gain: float
    spindle_hz: float
    spindles_per_min: float
    slow_wave_gain: float
    muscle_gain: float
    heart_hz: float
    breath_hz: float
    breathing_events_per_h: float
    arousals_per_h: float


@dataclass(frozen=True)
class Event:
    """Something scored with a start and a stop, in seconds from the start of the recording."""

    kind: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Course:
    """One night without its signals; ``stages`` start at ``lead_in_s``, 30 s each."""

    person: Person
    duration_s: int
    lead_in_s: int
    stages: NDArray[np.int8]
    events: tuple[Event, ...]


def draw_course(rng: np.random.Generator, duration_s: int) -> Course:
    """Draw a person and the course of their night of ``duration_s`` seconds."""
    person = draw_person(rng)
    lead_in_s = int(rng.integers(6 * 60, 9 * 60 + 1))
    stages = draw_stages(rng, ceil((duration_s - lead_in_s) / EPOCH_S))
    events = _draw_events(rng, person, stages, lead_in_s, duration_s=duration_s)
    return Course(person, duration_s, lead_in_s, stages, events)


def draw_person(rng: np.random.Generator) -> Person:
    """Draw a person's traits: alpha slows and slow waves shrink with age."""
    age = int(rng.integers(18, 80))
    years = (age - 18) / 62
    return Person(
        age=age,
        sex=str(rng.choice(["F", "M"])),
        amplitude=float(np.clip(rng.lognormal(0.0, 0.18), 0.75, 1.4)),
        alpha_hz=float(np.clip(rng.normal(10.2 - 0.8 * years, 0.6), 8.5, 11.5)),
        alpha_gain=float(np.clip(rng.lognormal(0.0, 0.3), 0.6, 1.8)),
        spindle_hz=float(rng.uniform(12.5, 14.3)),
        spindles_per_min=float(rng.uniform(3.0, 7.0)),
        slow_wave_gain=float((1.15 - 0.3 * years) * rng.uniform(0.9, 1.15)),
        muscle_gain=float(rng.lognormal(0.0, 0.35)),
        heart_hz=float(rng.uniform(52, 78) / 60),
        breath_hz=float(rng.uniform(0.2, 0.3)),
        breathing_events_per_h=float(np.clip(rng.lognormal(2.0, 0.8), 1, 45)),
        arousals_per_h=float(rng.uniform(6, 18)),
    )


def draw_stages(rng: np.random.Generator, n_epochs: int) -> NDArray[np.int8]:
    """Draw a Markov hypnogram, (n_epochs,) int8, W=0 N1=1 N2=2 N3=3 R=4.

    In each epoch the chain either stays or draws a new stage among those that may follow, weighted
    by the position in the sleep cycle: W and N1 at its start, N3 early in the night, R late in the
    cycle and in the night. Cycles are about 95 minutes; a short night has two compressed ones.
    """
    n_cycles = int(np.clip(round(n_epochs / 190), 2, 7))
    night = np.arange(n_epochs) / max(n_epochs, 1)
    pull = _pull(night, np.mod(night * n_cycles, 1.0), n_cycles)
    dwell = float(np.clip(n_epochs / n_cycles / 14, 1.5, 4.0))
    move = 1 - np.exp(-1 / dwell)
    matrix = _FOLLOWS[None] * pull[:, None, :]
    matrix = move * matrix / matrix.sum(-1, keepdims=True) + (1 - move) * np.eye(5)
    cumulative = np.cumsum(matrix, axis=-1)
    draws = rng.random(n_epochs)
    stages = np.zeros(n_epochs, np.int8)
    for epoch in range(1, n_epochs):
        row = cumulative[epoch, stages[epoch - 1]]
        stages[epoch] = min(int(np.searchsorted(row, draws[epoch])), 4)
    return stages


def _pull(
    night: NDArray[np.float64], cycle: NDArray[np.float64], n_cycles: int
) -> NDArray[np.float64]:
    """Weight the five stages by the position in the night and in the cycle, (n_epochs, 5)."""
    latency = np.exp(-night * n_cycles / 0.08)
    wake = 0.25 + 4.0 * latency + 0.8 * np.exp(-cycle / 0.05)
    light = 0.7 + 0.5 * np.exp(-cycle / 0.08)
    deep = 7.0 * (1 - night) ** 1.5 * np.exp(-(((cycle - 0.45) / 0.2) ** 2))
    dream = (2.0 + 8.0 * night) / (1 + np.exp(-(cycle - 0.74) / 0.03))
    return np.stack([wake, light, np.ones_like(night), deep, dream], axis=-1)


def _draw_events(
    rng: np.random.Generator,
    person: Person,
    stages: NDArray[np.int8],
    lead_in_s: int,
    *,
    duration_s: int,
) -> tuple[Event, ...]:
    """Draw breathing events and arousals in sleep; events of one family never overlap."""
    asleep = np.flatnonzero(stages > 0)
    if len(asleep) == 0:
        return ()
    light = asleep[stages[asleep] != 3] if np.any(stages[asleep] != 3) else asleep
    breathing = _draw_breathing(rng, person, light, lead_in_s, duration_s=duration_s)
    awoken = [event.stop_s for event in breathing if rng.random() < 0.6]
    count = max(1, rng.poisson(person.arousals_per_h * len(asleep) * EPOCH_S / 3600))
    onsets = lead_in_s + EPOCH_S * (rng.choice(asleep, count) + rng.random(count))
    candidates = [(float(onset), "arousal_spontaneous") for onset in onsets]
    candidates += [(onset, "arousal_rera") for onset in awoken]
    arousals = [Event(kind, start, start + float(rng.uniform(3, 12))) for start, kind in candidates]
    kept = [*breathing, *_apart(arousals, duration_s, 5.0)]
    return tuple(sorted(kept, key=lambda event: (event.start_s, event.kind)))


def _draw_breathing(
    rng: np.random.Generator,
    person: Person,
    epochs: NDArray[np.int64],
    lead_in_s: int,
    *,
    duration_s: int,
) -> list[Event]:
    rate = person.breathing_events_per_h * len(epochs) * EPOCH_S / 3600
    count = max(1, rng.poisson(rate))
    starts = lead_in_s + EPOCH_S * (rng.choice(epochs, count) + rng.random(count))
    lengths = rng.uniform(10, 35, count)
    kinds = rng.choice(
        ["resp_hypopnea", "resp_obstructiveapnea", "resp_centralapnea"], count, p=[0.6, 0.3, 0.1]
    )
    events = [
        Event(str(kind), float(start), float(start + length))
        for kind, start, length in zip(kinds, starts, lengths, strict=True)
    ]
    return _apart(events, duration_s, 15.0)


def _apart(events: list[Event], duration_s: int, gap_s: float) -> list[Event]:
    """Keep events that end within the recording and start ``gap_s`` after the previous one."""
    kept: list[Event] = []
    for event in sorted(events, key=lambda event: event.start_s):
        free = not kept or event.start_s >= kept[-1].stop_s + gap_s
        if free and event.stop_s < duration_s - 1:
            kept.append(event)
    return kept
