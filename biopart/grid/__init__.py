"""Geometry of patches on grids with any number of axes."""

from biopart.grid.boxes import Boxes, grid_boxes, random_boxes
from biopart.grid.constants import constant, on_axes
from biopart.grid.draws import BatchGenerator, rand, randint
from biopart.grid.errors import errors_by_overlap, r2_by_hints, translation_errors
from biopart.grid.focus import energy, focused_boxes, inside
from biopart.grid.pairs import check_pairs, draw_near_pairs, draw_pairs, overlap, pick
from biopart.grid.patches import cut, patchify, unpatchify
from biopart.grid.relations import asymmetry, chance_mse, log_scale, place, spread, translation
from biopart.grid.targets import Form, Target, pointwise

__all__ = [
    "BatchGenerator",
    "Boxes",
    "Form",
    "Target",
    "asymmetry",
    "chance_mse",
    "check_pairs",
    "constant",
    "cut",
    "draw_near_pairs",
    "draw_pairs",
    "energy",
    "errors_by_overlap",
    "focused_boxes",
    "grid_boxes",
    "inside",
    "log_scale",
    "on_axes",
    "overlap",
    "patchify",
    "pick",
    "place",
    "pointwise",
    "r2_by_hints",
    "rand",
    "randint",
    "random_boxes",
    "spread",
    "translation",
    "translation_errors",
    "unpatchify",
]
