"""Geometry of patches on grids with any number of axes."""

from biopart.grid.boxes import Boxes, grid_boxes, random_boxes
from biopart.grid.constants import constant, on_axes
from biopart.grid.focus import energy, focused_boxes, inside
from biopart.grid.patches import cut, patchify, unpatchify
from biopart.grid.relations import asymmetry, chance_mse, log_scale, place, spread, translation

__all__ = [
    "Boxes",
    "asymmetry",
    "chance_mse",
    "constant",
    "cut",
    "energy",
    "focused_boxes",
    "grid_boxes",
    "inside",
    "log_scale",
    "on_axes",
    "patchify",
    "place",
    "random_boxes",
    "spread",
    "translation",
    "unpatchify",
]
