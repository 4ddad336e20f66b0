"""What a pretrained run can do, drawn: places, uncertainty, symmetry, sizes."""

from biopart.studies.show.show import lines_of, run_show

__all__ = ["lines_of", "run_show"]
