"""Agreement of predicted with scored nights through YASA, where the extra [clinical] is there.

YASA follows Menghini et al. 2021, A standardized framework for testing the performance of
sleep-tracking technology, SLEEP 44(2), zsaa170.
"""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart.codes import YASA

MEASURES = ("accuracy", "balanced_acc", "kappa", "mcc", "f1")
UNSCORED = "UNS"

Nights = Mapping[str, NDArray[Any]]
"""Stage per epoch by record, as index into W N1 N2 N3 R; -1 = unscored."""


def is_installed() -> bool:
    """Tell whether YASA is there."""
    return find_spec("yasa") is not None


def agreement(truth: Nights, predicted: Nights) -> list[dict[str, Any]]:
    """Return YASA's agreement of every night, and their mean as the last row.

    Parameters
    ----------
    truth, predicted : mapping
        Stages per epoch of 30 s by record; unscored epochs do not count.

    Returns
    -------
    list of dict
        ``night``, then ``accuracy``, ``balanced_acc`` and ``f1`` in percent, ``kappa`` and
        ``mcc``; None where undefined, which does not count in the mean.
    """
    nights = _agreement(truth, predicted)
    with warnings.catch_warnings():
        # scikit-learn warns of nights that lack a stage; their figures say what they are.
        warnings.simplefilter("ignore", UserWarning)
        table = nights.get_agreement()
    if table.ndim == 1:  # so YASA gives a single night
        table = table.to_frame(next(iter(truth))).T
    rows: list[dict[str, Any]] = [
        {"night": str(night), **{key: _known(row[key]) for key in MEASURES}}
        for night, row in table.iterrows()
    ]
    return [*rows, {"night": "mean", **means_of(rows)}]


def hypnograms(truth: Nights, predicted: Nights, night: str) -> Figure:
    """Draw a night as scored and as predicted, by YASA."""
    figure = Figure((9.0, 3.0), dpi=110, layout="constrained")
    chosen = _agreement({night: truth[night]}, {night: predicted[night]})
    chosen.plot_hypnograms(sleep_id=night, ax=figure.subplots())
    figure.set_label(f"Hypnograms of {night}: scored and predicted, by YASA")
    return figure


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def means_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each measure over the rows where it is defined."""
    values = {key: [row[key] for row in rows if row[key] is not None] for key in MEASURES}
    return {key: float(np.mean(known)) if known else None for key, known in values.items()}


def _agreement(truth: Nights, predicted: Nights) -> Any:
    """Hand nights to YASA; ImportError that says how to get it."""
    try:
        import yasa
    except ImportError as error:
        raise ImportError(
            "agreement statistics need YASA: pip install 'biopart[clinical]'"
        ) from error
    return yasa.EpochByEpochAgreement(
        {name: _hypnogram(stages, "scored") for name, stages in truth.items()},
        {name: _hypnogram(stages, "predicted") for name, stages in predicted.items()},
    )


def _hypnogram(stages: NDArray[Any], scorer: str) -> Any:
    import yasa

    names = np.array([*YASA.values(), UNSCORED])  # the last one serves -1
    return yasa.Hypnogram(names[stages], n_stages=5, freq="30s", scorer=scorer)
