"""Corruptions of items at several strengths, for images and for signals."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Change = Callable[[Tensor, float, torch.Generator], Tensor]

SMALL = 64  # pixels per side up to which images have the strengths of CIFAR-10-C


@dataclass(frozen=True)
class Corruption:
    """A corruption and its strengths.

    Attributes
    ----------
    name, unit : str
        What it is, and what its strength means.
    levels : sequence of float
        Strengths, the mildest first.
    change : callable
        ``(values (B, C, *S), level, generator) -> values``.
    """

    name: str
    unit: str
    levels: Sequence[float]
    change: Change


def noisy(values: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of a deviation."""
    return values + level * torch.randn(values.shape, generator=generator).to(values.device)


def noisy_pixels(values: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of a deviation to pixels from 0 to 255, relative to white."""
    return noisy(values, 255 * level, generator).clamp(0, 255)


def blurred(values: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Blur images by a Gaussian of a deviation in pixels."""
    filters: Any = importlib.import_module("kornia.filters")
    side = 2 * max(1, round(4 * level)) + 1
    side = min(side, (min(values.shape[2:]) - 1) // 2 * 2 + 1)
    result: Tensor = filters.gaussian_blur2d(values, (side, side), (level, level))
    return result


def dropped_out(values: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Set a consecutive share of each signal (B, C, T) to 0, at a place at random."""
    samples = values.shape[-1]
    length = round(level * samples)
    start = torch.rand(len(values), generator=generator) * (samples - length + 1)
    at = torch.arange(samples)
    first = start.long()[:, None]
    gone = (at >= first) & (at < first + length)
    return values.masked_fill(gone[:, None].to(values.device), 0.0)


def drifting(values: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add half a period of a slow sine of an amplitude, at a phase at random."""
    phase = 2 * torch.pi * torch.rand(len(values), 1, 1, generator=generator)
    through = torch.linspace(0, torch.pi, values.shape[-1])
    return values + level * (through + phase).sin().to(values.device)


def humming(sfreq_hz: float, mains_hz: float) -> Change:
    """Return the change that adds the mains of a frequency, or its alias, at an amplitude."""

    def change(values: Tensor, level: float, generator: torch.Generator) -> Tensor:
        phase = 2 * torch.pi * torch.rand(len(values), 1, 1, generator=generator)
        seconds = torch.arange(values.shape[-1]) / sfreq_hz
        return values + level * (2 * torch.pi * mains_hz * seconds + phase).sin().to(values.device)

    return change


def corruptions_of_images(side: int) -> tuple[Corruption, ...]:
    """Return corruptions of pixels from 0 to 255.

    Strengths of ImageNet-C, of small images those of CIFAR-10-C (Hendrycks & Dietterich, arXiv
    1903.12261; hendrycks/robustness).
    """
    small = side <= SMALL
    noise = (0.04, 0.06, 0.08, 0.09, 0.10) if small else (0.08, 0.12, 0.18, 0.26, 0.38)
    blur = (0.4, 0.6, 0.7, 0.8, 1.0) if small else (1.0, 2.0, 3.0, 4.0, 6.0)
    return (
        Corruption("noise", "deviation, relative to white", noise, noisy_pixels),
        Corruption("blur", "deviation in pixels", blur, blurred),
    )


def corruptions_of_signals(sfreq_hz: float, mains_hz: float = 50.0) -> tuple[Corruption, ...]:
    """Return corruptions of normalised signals: strengths in deviations of the signal."""
    strengths = (0.1, 0.25, 0.5, 1.0, 2.0)
    amplitude = "amplitude, in deviations of the signal"
    return (
        Corruption("noise", "deviation, in those of the signal", strengths, noisy),
        Corruption("drop-outs", "share of the window", (0.1, 0.2, 0.3, 0.5, 0.7), dropped_out),
        Corruption("drift", amplitude, (0.5, 1.0, 2.0, 4.0, 8.0), drifting),
        Corruption(f"{mains_hz:g} Hz", amplitude, strengths, humming(sfreq_hz, mains_hz)),
    )
