"""Convert a staged night for other tools: MNE annotations, YASA hypnogram."""

from typing import Any

import mne
import numpy as np
import xarray as xr

from biopart.codes import STAGES, YASA, edf_text
from biopart.signals.clock import read_start


def to_annotations(night: xr.Dataset) -> mne.Annotations:
    """Return the stages of a night as annotations for ``raw.set_annotations(...)``.

    Parameters
    ----------
    night : xarray.Dataset
        The result of ``stage_night``.

    Returns
    -------
    mne.Annotations
        One per epoch, onset and duration in seconds after the first sample, with the texts of EDF+:
        ``Sleep stage W``, ``N1``, ``N2``, ``N3``, ``R``; other classes by their name.

    Examples
    --------
    >>> night = xr.Dataset(
    ...     {"hypnogram": ("epoch", [2, 4]), "onset_s": ("epoch", [0.0, 30.0])},
    ...     coords={"class": ["W", "N1", "N2", "N3", "R"]}, attrs={"epoch_s": 30.0})
    >>> to_annotations(night).description.tolist()
    ['Sleep stage N2', 'Sleep stage R']
    """
    texts = np.array([edf_text(str(name)) for name in night["class"].values])
    return mne.Annotations(
        onset=night["onset_s"].values.astype(float),
        duration=float(night.attrs["epoch_s"]),
        description=texts[night["hypnogram"].values],
    )


def to_yasa(night: xr.Dataset) -> Any:
    """Return a night as a YASA hypnogram with its probabilities (extra ``clinical``).

    Parameters
    ----------
    night : xarray.Dataset
        The result of ``stage_night`` with the five sleep stages.

    Returns
    -------
    yasa.Hypnogram
        With the start of the night, if it is known.

    Raises
    ------
    ImportError
        If YASA is not installed.
    ValueError
        If the night has other classes.
    """
    names = [str(name) for name in night["class"].values]
    if names != list(STAGES):
        raise ValueError(
            f"YASA needs the classes W, N1, N2, N3 and R; the night has {', '.join(names)}"
        )
    try:
        import pandas as pd
        import yasa
    except ImportError as error:
        raise ImportError("to_yasa needs YASA: pip install 'biopart[clinical]'") from error
    words = np.array([YASA[name] for name in names])
    start = night.attrs.get("start")
    return yasa.Hypnogram(
        words[night["hypnogram"].values],
        n_stages=5,
        freq=f"{night.attrs['epoch_s']:g}s",
        start=read_start(start or ""),
        scorer="biopart",
        proba=pd.DataFrame(night["probability"].values, columns=words),
    )
