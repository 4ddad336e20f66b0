"""Scores: arrays in, numbers out, with intervals over persons."""

from biopart.evaluation.collapse import feature_std, rankme
from biopart.evaluation.leak import patch_features, position_leak
from biopart.evaluation.metrics import (
    auc_by_person,
    balanced_weights,
    kappa_interval,
    kappa_of,
    mean_interval,
    score,
)
from biopart.evaluation.paired import (
    Paired,
    adjusted,
    curve_interval,
    paired_difference,
    signed_rank,
    smallest_p,
)
from biopart.evaluation.probes import (
    BANDS,
    band_powers,
    fit_linear_probe,
    linear_probe,
    usable_bands,
)

__all__ = [
    "BANDS",
    "Paired",
    "adjusted",
    "auc_by_person",
    "balanced_weights",
    "band_powers",
    "curve_interval",
    "feature_std",
    "fit_linear_probe",
    "kappa_interval",
    "kappa_of",
    "linear_probe",
    "mean_interval",
    "paired_difference",
    "patch_features",
    "position_leak",
    "rankme",
    "score",
    "signed_rank",
    "smallest_p",
    "usable_bands",
]
