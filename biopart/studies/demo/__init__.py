"""The demonstration: simulated nights, a pretraining, fine-tunings and a page of it all."""

from biopart.studies.demo.demo import run_demo, table

__all__ = ["run_demo", "table"]
