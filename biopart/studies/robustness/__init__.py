"""A page about the robustness of a frozen encoder."""

from biopart.studies.robustness.page import lines_of, run_robustness

__all__ = ["lines_of", "run_robustness"]
