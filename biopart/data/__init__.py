"""Turn a prepared cohort into batches: items, splits by person and the order of an epoch.

A cohort has records, a source has windows or images, a sampler only their number. Values keep
their stored form until they are on the device.
"""

from biopart.data.batch import (
    Batch,
    Context,
    DenseBatch,
    Metrics,
    SceneBatch,
    StepOutput,
    View,
    Windows,
)
from biopart.data.cohort import Cohort, open_cohort
from biopart.data.embedded import EmbeddedWindows
from biopart.data.images import ImageSource
from biopart.data.sampler import Sampler
from biopart.data.scenes import SceneSource
from biopart.data.source import Source
from biopart.data.split import Split, fold_of, split_persons
from biopart.data.standard import as_trained, deviations, standardised
from biopart.data.windows import WindowSource

__all__ = [
    "Batch",
    "Cohort",
    "Context",
    "DenseBatch",
    "EmbeddedWindows",
    "ImageSource",
    "Metrics",
    "Sampler",
    "SceneBatch",
    "SceneSource",
    "Source",
    "Split",
    "StepOutput",
    "View",
    "WindowSource",
    "Windows",
    "as_trained",
    "deviations",
    "fold_of",
    "open_cohort",
    "split_persons",
    "standardised",
]
