"""Stage nights: hypnogram, probabilities, sleep statistics and a page of each."""

from biopart.studies.stage.nights import Wishes, channels_of, lines_of, stage_nights

__all__ = ["Wishes", "channels_of", "lines_of", "stage_nights"]
