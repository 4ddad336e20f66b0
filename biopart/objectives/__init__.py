"""Objectives: the training tasks of an encoder, one file each."""

from biopart.objectives.classify import Classify
from biopart.objectives.detect import Detect
from biopart.objectives.droppos import DropPos
from biopart.objectives.mae import Mae
from biopart.objectives.mp3 import Mp3
from biopart.objectives.part import Part
from biopart.objectives.sequence import Sequence
from biopart.recipe import (
    DropPosSettings,
    MaeSettings,
    Mp3Settings,
    PartSettings,
)

# The pretraining objective for each kind of settings.
PRETRAINING = {
    DropPosSettings: DropPos,
    MaeSettings: Mae,
    Mp3Settings: Mp3,
    PartSettings: Part,
}

__all__ = [
    "PRETRAINING",
    "Classify",
    "Detect",
    "DropPos",
    "Mae",
    "Mp3",
    "Part",
    "Sequence",
]
