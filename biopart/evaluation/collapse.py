"""How far features have collapsed: their effective rank and their spread, without any label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-7  # RankMe's, added to every share of the spectrum


def rankme(features: NDArray[Any]) -> float:
    """Return RankMe, the effective rank of features.

    RankMe (arXiv 2210.02885, equations 1 and 2): ``exp(-sum_k p_k log p_k)`` with ``p_k = s_k /
    sum(s) + 1e-7`` of the singular values s of the features, which are not centred. 1 = all windows
    on one line (collapsed); at most min(W, F), where all directions are equally strong.

    Parameters
    ----------
    features
        (W, F), finite. Fewer windows than features limit the rank to W.

    Raises
    ------
    ValueError
        If there is no window or all features are 0.

    Examples
    --------
    >>> round(rankme(np.eye(4)), 3), round(rankme(np.ones((9, 4))), 3)
    (4.0, 1.0)
    """
    values = np.asarray(features, np.float64)
    if not values.any():
        raise ValueError(f"All features {values.shape} are 0; their rank is not defined.")
    spectrum = np.linalg.svd(values, compute_uv=False)
    shares = spectrum / spectrum.sum() + EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def feature_std(features: NDArray[Any]) -> float:
    """Return the spread of features over windows, on the unit sphere.

    SimSiam (arXiv 2011.10566, section 4.1): the standard deviation over windows of every L2-
    normalised feature, averaged over features. It is multiplied by ``sqrt(F)`` here, so that 1 =
    spread evenly around the sphere and 0 = collapsed to one point, whatever F.

    Parameters
    ----------
    features
        (W, F), finite. A window of zeros stays at 0.

    Examples
    --------
    >>> round(feature_std(np.vstack([np.eye(4), -np.eye(4)])), 6), feature_std(np.ones((9, 4)))
    (1.0, 0.0)
    """
    values = np.asarray(features, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    directions = values / np.where(lengths > 0, lengths, 1.0)
    return float(directions.std(axis=0).mean() * np.sqrt(values.shape[1]))
