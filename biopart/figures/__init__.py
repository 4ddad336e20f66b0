"""Arrays in, matplotlib figures out: curves, hypnograms, confusion, reconstructions.

Figures are made by matplotlib's object interface alone, so no window system, no global state and
no leak of open figures. Colours are Okabe & Ito's (2008), viridis and one-hue blues: safe for
colour-blind eyes.
"""

from biopart.figures.corrupted import corrupted
from biopart.figures.drawing import PALETTE, save
from biopart.figures.efficiency import Panel, comparison, in_rows, sample_efficiency
from biopart.figures.maps import alike, over_image, over_signal
from biopart.figures.markup import THEME, to_html
from biopart.figures.nights import epochs_of, quality, spectrogram
from biopart.figures.pairs import matrices, scattered, stretched
from biopart.figures.places import pasted, pasted_together, sized, uncertain
from biopart.figures.predictions import STAGE_COLOURS, confusion, hypnogram
from biopart.figures.reconstructions import reconstruction
from biopart.figures.swept import over_values
from biopart.figures.training import training_curves

__all__ = [
    "PALETTE",
    "STAGE_COLOURS",
    "THEME",
    "Panel",
    "alike",
    "comparison",
    "confusion",
    "corrupted",
    "epochs_of",
    "hypnogram",
    "in_rows",
    "matrices",
    "over_image",
    "over_signal",
    "over_values",
    "pasted",
    "pasted_together",
    "quality",
    "reconstruction",
    "sample_efficiency",
    "save",
    "scattered",
    "sized",
    "spectrogram",
    "stretched",
    "to_html",
    "training_curves",
    "uncertain",
]
