"""Objectives: the training tasks of an encoder, one file each."""

from biopart.objectives.classify import Classify, ClassifySettings
from biopart.objectives.detect import Detect, DetectSettings
from biopart.objectives.droppos import DropPos, DropPosSettings
from biopart.objectives.mae import Mae, MaeSettings
from biopart.objectives.mp3 import Mp3, Mp3Settings
from biopart.objectives.part import Part, PartSettings
from biopart.objectives.sequence import Sequence, SequenceSettings

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
    "ClassifySettings",
    "Detect",
    "DetectSettings",
    "DropPos",
    "DropPosSettings",
    "Mae",
    "MaeSettings",
    "Mp3",
    "Mp3Settings",
    "Part",
    "PartSettings",
    "Sequence",
    "SequenceSettings",
]
