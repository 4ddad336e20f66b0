"""Agreement of predicted with scored nights through YASA, where the extra [clinical] is there.

YASA follows Menghini et al. 2021, A standardized framework for testing the performance of
sleep-tracking technology, SLEEP 44(2), zsaa170.
"""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart.codes import STAGES, YASA
from biopart.nn.weights import load_tensors
from biopart.studies.curve.table import Curve

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
    return [*rows, {"night": "mean", **_means(rows)}]


def hypnograms(truth: Nights, predicted: Nights, night: str) -> Figure:
    """Draw a night as scored and as predicted, by YASA."""
    figure = Figure((9.0, 3.0), dpi=110, layout="constrained")
    chosen = _agreement({night: truth[night]}, {night: predicted[night]})
    chosen.plot_hypnograms(sleep_id=night, ax=figure.subplots())
    figure.set_label(f"Hypnograms of {night}: scored and predicted, by YASA")
    return figure


def read_nights(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Read predictions.safetensors as whole nights: truth and prediction by record.

    Epochs that were not predicted are -1, up to the last one that was.

    Raises
    ------
    ValueError
        If the classes are not the five stages of sleep.
    """
    tensors, about = load_tensors(path)
    classes = about["classes"]
    if not is_sleep(classes):
        raise ValueError(
            f"{path} predicts {', '.join(classes)}; agreement by YASA takes {', '.join(STAGES)}"
        )
    order = np.array([STAGES.index(name) for name in classes])
    record, epoch = tensors["record"].numpy(), tensors["epoch"].numpy()
    nights: tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]] = ({}, {})
    for number in np.unique(record):
        mine = record == number
        for night, key in zip(nights, ("truth", "predicted"), strict=True):
            values = tensors[key].numpy()[mine]
            stages = np.full(epoch[mine].max() + 1, -1)
            stages[epoch[mine]] = np.where(values >= 0, order[values], -1)
            night[about["records"][number]] = stages
    return nights


def is_sleep(classes: list[str]) -> bool:
    """Tell whether classes are the five stages of sleep, in any order.

    Examples
    --------
    >>> is_sleep(["W", "N1", "N2", "N3", "R"]), is_sleep(["rest", "arithmetic"])
    (True, False)
    """
    return sorted(classes) == sorted(STAGES)


def of_curve(folder: Path, curve: Curve) -> list[dict[str, Any]]:
    """Return the mean agreement by method of a curve's cells with the most labelled persons.

    Parameters
    ----------
    folder : Path
        Folder of the curve, with the predictions of its fine-tunings in ``runs``.
    curve : Curve
        Its finished cells.

    Returns
    -------
    list of dict
        ``method``, ``size``, ``seeds``, ``nights`` and the measures, means over seeds and nights;
        nothing without YASA, without predictions, or where the classes are not stages of sleep.
    """
    rows = []
    for method in curve.methods:
        means = [agreement(*read_nights(path)) for path in _predictions(folder, curve, method)]
        if means:
            row: dict[str, Any] = {"method": method, "size": max(curve.sizes), "seeds": len(means)}
            row |= {"nights": len(means[0]) - 1}
            rows.append(row | _means([mine[-1] for mine in means]))
    return rows


def first_night(folder: Path, curve: Curve) -> Figure | None:
    """Draw the first test night by the first method of a curve that has predictions."""
    for method in curve.methods:
        for path in _predictions(folder, curve, method):
            truth, predicted = read_nights(path)
            night = next(iter(truth))
            figure = hypnograms(truth, predicted, night)
            figure.suptitle(f"{night}: {method}, {path.parent.name}", fontsize=10)
            return figure
    return None


def _predictions(folder: Path, curve: Curve, method: str) -> list[Path]:
    """Return predictions of stages with the most labelled persons, by seed; none without YASA."""
    size, found = max(curve.sizes), []
    for seed in curve.results(method, size) if is_installed() else ():
        name = f"*s{size}-seed{seed}/predictions.safetensors"
        found += sorted(folder.glob(f"runs/{method}-seed{seed}/finetune/{name}"))
    return [path for path in found if is_sleep(load_tensors(path)[1]["classes"])]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
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
