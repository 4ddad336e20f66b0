"""A report: one page on any set of runs."""

from biopart.studies.report.report import report

__all__ = ["report"]
