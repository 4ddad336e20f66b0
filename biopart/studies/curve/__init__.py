"""A sample-efficiency curve: compared methods over labelled persons."""

from biopart.studies.curve.curve import announce, compare, lines_of, run_curve

__all__ = ["announce", "compare", "lines_of", "run_curve"]
