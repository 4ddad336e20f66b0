"""A sweep: values of one key of a recipe, all else equal."""

from biopart.studies.sweep.sweep import announce, lines_of, parse_over, run_sweep, variants_of

__all__ = ["announce", "lines_of", "parse_over", "run_sweep", "variants_of"]
