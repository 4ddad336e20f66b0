"""The demonstration: simulated nights, a pretraining, fine-tunings and a page about the results."""

from biopart.studies.demo.demo import run_demo, table

__all__ = ["run_demo", "table"]
