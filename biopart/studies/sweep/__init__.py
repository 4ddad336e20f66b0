"""A sweep: values of one key of a recipe, all else equal."""

from biopart.studies.sweep.sweep import lines_of, parse_over, run_sweep

__all__ = ["lines_of", "parse_over", "run_sweep"]
