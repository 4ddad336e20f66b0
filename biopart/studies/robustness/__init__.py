"""A page of how a frozen encoder bears corrupted items."""

from biopart.studies.robustness.page import lines_of, run_robustness

__all__ = ["lines_of", "run_robustness"]
