"""Sleep stages: spellings, numbers, hypnograms of all kinds, clocks, labels of epochs."""

from biopart.codes import is_event, stage_code
from biopart.signals.stages.epochs import label_epochs, unscored_tail_s
from biopart.signals.stages.reading import (
    of_annotation,
    of_recording,
    read_scoring,
    read_stage_file,
    stated_start,
)
from biopart.signals.stages.scoring import Night, Scoring

__all__ = [
    "Night",
    "Scoring",
    "is_event",
    "label_epochs",
    "of_annotation",
    "of_recording",
    "read_scoring",
    "read_stage_file",
    "stage_code",
    "stated_start",
    "unscored_tail_s",
]
