"""Pictures of what a pretrained run predicts: places, uncertainty, symmetry, sizes."""

from biopart.studies.show.show import drawn, lines_of, run_show

__all__ = ["drawn", "lines_of", "run_show"]
