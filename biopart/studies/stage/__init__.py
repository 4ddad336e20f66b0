"""Stage nights: hypnogram, probabilities, sleep statistics and a page of each."""

from biopart.studies.stage.nights import lines_of, stage_nights

__all__ = ["lines_of", "stage_nights"]
