"""Objectives: the training tasks of an encoder, one file each."""

from typing import TYPE_CHECKING, Any

from biopart.objectives.byol import Byol
from biopart.objectives.classify import Classify
from biopart.objectives.cossl import Cossl
from biopart.objectives.dino import Dino
from biopart.objectives.droppos import DropPos
from biopart.objectives.mae import Mae
from biopart.objectives.moby import Moby
from biopart.objectives.mp3 import Mp3
from biopart.objectives.part import Part
from biopart.objectives.segment import Segment
from biopart.objectives.selfpatch import Selfpatch
from biopart.objectives.sequence import Sequence
from biopart.objectives.sum import SINGLE, Sum
from biopart.recipe import SumSettings

if TYPE_CHECKING:
    from biopart.objectives.detect import Detect

# The pretraining objective for each kind of settings.
PRETRAINING = {**SINGLE, SumSettings: Sum}

__all__ = [
    "PRETRAINING",
    "Byol",
    "Classify",
    "Cossl",
    "Detect",
    "Dino",
    "DropPos",
    "Mae",
    "Moby",
    "Mp3",
    "Part",
    "Segment",
    "Selfpatch",
    "Sequence",
    "Sum",
]


def __getattr__(name: str) -> Any:
    """Import the detector when it is first asked for: torchvision is slow to import."""
    if name != "Detect":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from biopart.objectives.detect import Detect

    return Detect
