"""A page about what frozen encoders know about objects and their parts."""

from biopart.studies.suite.page import Options, free_folder, lines_of, run_suite

__all__ = ["Options", "free_folder", "lines_of", "run_suite"]
