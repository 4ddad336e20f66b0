"""Stage nights: hypnogram, probabilities, sleep statistics and a page of each."""

from biopart.studies.stage.nights import StagingOptions, channels_of, lines_of, stage_nights

__all__ = ["StagingOptions", "channels_of", "lines_of", "stage_nights"]
