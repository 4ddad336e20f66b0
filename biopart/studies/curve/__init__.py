"""A sample-efficiency curve: compared methods over labelled persons."""

from biopart.studies.curve.curve import announce, lines_of, run_curve

__all__ = ["announce", "lines_of", "run_curve"]
