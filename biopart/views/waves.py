"""Signals changed at random; what holds for any number of axes works on images too."""

import math

import torch
from torch import Tensor

from biopart.grid import Boxes, rand
from biopart.recipe import WaveChanges
from biopart.recipe.views import Changes
from biopart.views.crops import crop_boxes, masked, per_grid


def changed(values: Tensor, settings: Changes, generator: torch.Generator) -> Tensor:
    """Scale, turn over, mask and disturb normalised grids (B, C, *S), each by itself.

    Amplitude scale (log-uniform), masking and noise as in Mohsenvand et al., "Contrastive
    Representation Learning for Electroencephalogram Classification" (2020); sign flips as in Rommel
    et al., "Data augmentation for learning predictive models on EEG" (2022).
    """
    count = len(values)
    low, high = (math.log(bound) for bound in settings.scale)
    if low < high:
        factor = (low + (high - low) * rand(count, generator=generator)).exp()
        values = values * per_grid(factor, values)
    if settings.sign:
        sign = 1 - 2 * (rand(count, generator=generator) < settings.sign).float()
        values = values * per_grid(sign, values)
    if settings.noise:
        width = settings.noise * per_grid(rand(count, generator=generator), values)
        values = values + width * normal(values, generator)
    if settings.mask:
        boxes = crop_boxes(count, values.shape[2:], settings.masks, generator)
        values = masked(values, Boxes(boxes.start[:, 0], boxes.size[:, 0]))
    return values


def disturbed(
    values: Tensor, settings: WaveChanges, sfreq_hz: float, generator: torch.Generator
) -> Tensor:
    """Drop channels and stop bands of normalised signals (B, C, T), each by itself.

    Channel dropout as in Saeed et al., "Learning from heterogeneous EEG signals with differentiable
    channel reordering" (2021), at least one channel stays; band-stop filters of 5 Hz as in
    Mohsenvand et al. (2020), here by removing the band from the spectrum.
    """
    count, channels, samples = values.shape
    if settings.drop_channels and channels > 1:
        drawn = rand(count, channels, generator=generator).to(values.device)
        kept = (drawn >= settings.drop_channels) | (drawn == drawn.amax(1, keepdim=True))
        values = values * kept[..., None]
    if settings.band_stop:
        hertz = torch.fft.rfftfreq(samples, 1 / sfreq_hz, device=values.device)
        room = max(sfreq_hz / 2 - settings.band_hz, 0.0)
        first = room * rand(count, 1, generator=generator).to(values.device)
        stopped = (hertz >= first) & (hertz < first + settings.band_hz)
        takes = rand(count, 1, generator=generator).to(values.device) < settings.band_stop
        spectrum = torch.fft.rfft(values.float(), dim=-1)
        left = spectrum.masked_fill((stopped & takes)[:, None], 0)
        values = torch.fft.irfft(left, n=samples, dim=-1).to(values.dtype)
    return values


def normal(values: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Gaussian noise of the shape of a batch by Box and Muller's formula.

    Uniform numbers are drawn for the whole batch, also by processes that have a part of it.
    """
    one, two = (
        rand(*values.shape, generator=generator).to(values.device).clamp(min=1e-7) for _ in range(2)
    )
    return (-2 * one.log()).sqrt() * (2 * torch.pi * two).cos()
