"""Stage nights: hypnogram, probabilities, sleep statistics and a page of each."""

from biopart.studies.stage.nights import (
    StagingOptions,
    channels_of,
    lines_of,
    stage_nights,
    stage_recording,
)
from biopart.studies.stage.page import draw_night

__all__ = [
    "StagingOptions",
    "channels_of",
    "draw_night",
    "lines_of",
    "stage_nights",
    "stage_recording",
]
