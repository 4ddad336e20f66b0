"""Agreement of a curve's predictions with the expert, night by night, if YASA is installed."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart.codes import STAGES
from biopart.evaluation.clinical import agreement, hypnograms, is_installed, means_of
from biopart.nn.weights import load_tensors
from biopart.studies.compare.table import Comparison


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
        of_night = record == number
        for night, key in zip(nights, ("truth", "predicted"), strict=True):
            values = tensors[key].numpy()[of_night]
            stages = np.full(epoch[of_night].max() + 1, -1)
            stages[epoch[of_night]] = np.where(values >= 0, order[values], -1)
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


def of_study(folder: Path, study: Comparison) -> list[dict[str, Any]]:
    """Return the mean agreement by method of the trainings with the most labelled persons.

    Parameters
    ----------
    folder : Path
        Folder of the curve, with the predictions of its fine-tunings in ``runs``.
    study : Comparison
        Its finished trainings.

    Returns
    -------
    list of dict
        ``method``, ``size``, ``seeds``, ``nights`` and the measures, means over seeds and nights;
        nothing without YASA, without predictions, or where the classes are not stages of sleep.
    """
    rows = []
    for method in study.methods:
        means = [agreement(*read_nights(path)) for path in _predictions(folder, study, method)]
        if means:
            row: dict[str, Any] = {"method": method, "size": max(study.sizes), "seeds": len(means)}
            row |= {"nights": len(means[0]) - 1}
            rows.append(row | means_of([nights[-1] for nights in means]))
    return rows


def first_night(folder: Path, study: Comparison) -> Figure | None:
    """Draw the first test night by the first method of a curve that has predictions."""
    for method in study.methods:
        for path in _predictions(folder, study, method):
            truth, predicted = read_nights(path)
            night = next(iter(truth))
            figure = hypnograms(truth, predicted, night)
            figure.suptitle(f"{night}: {method}, {path.parent.name}", fontsize=10)
            return figure
    return None


def _predictions(folder: Path, study: Comparison, method: str) -> list[Path]:
    """Return predictions of stages with the most labelled persons, by seed; none without YASA."""
    size, paths = max(study.sizes), []
    for run, seed in study.runs(method, size) if is_installed() else ():
        name = f"*s{size}-seed{seed}/predictions.safetensors"
        paths += sorted(folder.glob(f"runs/{run}/finetune/{name}"))
    return [path for path in paths if is_sleep(load_tensors(path)[1]["classes"])]
