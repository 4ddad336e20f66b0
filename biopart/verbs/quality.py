"""How well each patch of a night fits its context, by PART's predictions.

Patches of a night are cut on the grid of consecutive windows and the relative encoder predicts all
their relations (arXiv 2506.03682, section 5.1). A patch is never given its own position; of a run
that was trained with hints the others are given theirs.
"""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from biopart.codes import MISSING
from biopart.data import as_trained
from biopart.experiment import load_part, stored_recipe
from biopart.grid import grid_boxes, place, spread
from biopart.grid.boxes import Boxes
from biopart.nn import Normalise
from biopart.objectives import Part
from biopart.run import Run
from biopart.store import Card, Record

BATCH = 64


@dataclass(frozen=True)
class Quality:
    """A PART objective that is applied to nights.

    Attributes
    ----------
    part : Part
        With one axis, time.
    normalise : Normalise
        As in its training.
    """

    part: Part
    normalise: Normalise

    def track(self, record: Record, card: Card) -> xr.Dataset:
        """Measure every patch of a prepared night.

        Returns
        -------
        xarray.Dataset
            Over ``patch``: ``onset_s``; ``spread_s``, the spread of its places over all references,
            in seconds; ``misplaced_s``, the distance of its place, by least squares over
            all pairs, from its true place, in seconds; ``amplitude``, the largest standard
            deviation of its channels, each in units of the channel's median over the night.

        Raises
        ------
        ValueError
            If the night is shorter than a window.
        """
        (size,), (patch,) = self.part.encoder.shape, self.part.encoder.patch
        samples = record.signal.shape[1]
        if samples < size:
            raise ValueError(f"the night is shorter than one window of {size / card.sfreq_hz:g} s")
        starts = np.arange(0, samples - size + 1, size)
        if samples - starts[-1] - size >= patch:  # the rest, seen in a window that ends with it
            starts = np.append(starts, samples - size)
        signal = as_trained(record.signal, self.normalise.how)
        batches = [
            self._windows(signal, starts[i : i + BATCH]) for i in range(0, len(starts), BATCH)
        ]
        scatter, misplaced = (np.concatenate(parts).ravel() for parts in zip(*batches, strict=True))
        onset = (starts[:, None] + np.arange(0, size - patch + 1, patch)).ravel()
        # the last window's patches that the one before has
        kept = np.append(True, onset[1:] >= np.maximum.accumulate(onset)[:-1] + patch)
        seconds = patch / card.sfreq_hz
        return xr.Dataset(
            {
                "spread_s": ("patch", scatter[kept] * seconds),
                "misplaced_s": ("patch", misplaced[kept] * seconds),
                "amplitude": ("patch", amplitude(record, onset[kept], patch)),
                "onset_s": ("patch", onset[kept] / card.sfreq_hz),
            }
        )

    @torch.no_grad()
    def _windows(
        self, signal: NDArray[np.int16], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return spread and error of the patches of windows (W, K), in patch sizes."""
        encoder = self.part.encoder
        (size,) = encoder.shape
        values = np.stack([signal[:, start : start + size] for start in starts])
        tiles = grid_boxes(encoder.shape, encoder.patch)
        start, side = (x.expand(len(values), -1, -1) for x in (tiles.start, tiles.size))
        boxes = Boxes(start, side, tiles.sides)
        normalised = self.normalise(torch.from_numpy(values))
        true = (boxes.centre / tiles.size).double()
        turns = torch.arange(encoder.n_patches) % self.turns
        scatter, misplaced = torch.zeros(2, len(values), encoder.n_patches, dtype=torch.float64)
        for turn in range(self.turns):
            queried = turns == turn
            hinted = (~queried).expand(len(values), -1) if self.turns > 1 else None
            relations = self.part.relations(normalised, boxes, hinted).double()
            error = place(relations) - (true - true.mean(1, keepdim=True))
            scatter[:, queried] = spread(relations)[:, queried, 0]
            misplaced[:, queried] = error[:, queried, 0].abs()
        return scatter.numpy(), misplaced.numpy()

    @property
    def turns(self) -> int:
        """Number of turns in which the places of a window's patches are predicted.

        A run pretrained with hints gets hints here too: each patch is without a hint in one turn.
        """
        return max(1, round(1 / (1 - min(self.part.settings.hint_share(), 0.95))))


def open_quality(run: Run) -> Quality:
    """Open the objective of a PART run on signals; ValueError for any other run."""
    origin = run.pretrained()
    part = load_part(origin, "--quality needs a run pretrained with part")
    if len(part.encoder.shape) != 1:
        raise ValueError(
            f"{origin.path} was trained on images; --quality needs a run on recordings"
        )
    return Quality(part, Normalise(stored_recipe(origin).data.normalise))


def amplitude(record: Record, onsets: NDArray[np.int64], patch: int) -> NDArray[np.float64]:
    """Return the largest deviation of a patch's channels, each over the channel's median.

    Parameters
    ----------
    record : Record
        A prepared night.
    onsets : (K,)
        First sample of each patch.
    patch : int
        Samples of a patch.

    Examples
    --------
    >>> signal = np.array([[1, -1, 1, -1, 4, -4]], np.int16)
    >>> record = Record(signal, np.ones(1), np.zeros(0, np.int8), np.zeros((0, 2), np.int64))
    >>> amplitude(record, np.array([0, 2, 4]), 2).tolist()
    [1.0, 1.0, 4.0]
    """
    rows = []
    for row in record.signal:
        pieces = np.stack([row[start : start + patch] for start in onsets]).astype(np.float64)
        pieces[pieces == MISSING] = 0.0
        deviation = pieces.std(1)
        rows.append(deviation / max(float(np.median(deviation)), 1e-12))
    largest: NDArray[np.float64] = np.stack(rows).max(0)
    return largest
