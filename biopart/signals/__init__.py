"""Turn recordings into windows: readers, montage, stages, preparation, simulation; no torch."""

from biopart.signals.ingest import ingest
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.simulate import simulate_cohort

__all__ = ["ingest", "open_recording", "prepare_recording", "simulate_cohort"]
