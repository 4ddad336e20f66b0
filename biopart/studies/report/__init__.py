"""A report: one page on any set of runs."""

from biopart.studies.report.page import curves_of
from biopart.studies.report.report import find_entries, report

__all__ = ["curves_of", "find_entries", "report"]
