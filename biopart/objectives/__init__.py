"""Objectives: the training tasks of an encoder, one file each."""

from typing import TYPE_CHECKING, Any

from biopart.objectives.classify import Classify
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

if TYPE_CHECKING:
    from biopart.objectives.detect import Detect

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


def __getattr__(name: str) -> Any:
    """Import the detector when it is first asked for: torchvision is slow to import."""
    if name != "Detect":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from biopart.objectives.detect import Detect

    return Detect
