"""Objectives: what an encoder is trained to do, one file each."""

from biopart.objectives.classify import Classify, ClassifySettings
from biopart.objectives.part import Part, PartSettings

__all__ = ["Classify", "ClassifySettings", "Part", "PartSettings"]
