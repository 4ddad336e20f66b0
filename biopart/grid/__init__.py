"""Geometry of patches on grids with any number of axes."""

from biopart.grid.boxes import Boxes, grid_boxes, random_boxes
from biopart.grid.patches import cut, patchify, unpatchify
from biopart.grid.relations import asymmetry, chance_mse, log_scale, place, spread, translation

__all__ = [
    "Boxes",
    "asymmetry",
    "chance_mse",
    "cut",
    "grid_boxes",
    "log_scale",
    "patchify",
    "place",
    "random_boxes",
    "spread",
    "translation",
    "unpatchify",
]
