"""Average precision of a ranking, with ties as one rank."""

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> float:
    """Average the precision at every relevant item of a ranking.

    The area under the steps of precision over recall, as scikit-learn's
    ``average_precision_score``: items of equal score share the last rank among them.

    Parameters
    ----------
    scores : float (items,)
        Similarity to the query.
    relevant : bool (items,)
        Which items should come first.

    Returns
    -------
    float
        0 to 1; NaN where nothing is relevant.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    0.8333333333333333
    """
    found = np.sort(scores[relevant])
    if not len(found):
        return float("nan")
    everyone = np.sort(scores)
    above = len(everyone) - np.searchsorted(everyone, found, side="left")
    own = len(found) - np.searchsorted(found, found, side="left")
    return float(np.mean(own / above))
