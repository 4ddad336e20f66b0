"""Simple baselines and probes: band powers, and a linear classifier on fixed features."""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Sleep EEG, as in YASA (Vallat & Walker, eLife 2021), with beta up to the 30 Hz of our filter.
BANDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "delta": (0.5, 4.0),
        "theta": (4.0, 8.0),
        "alpha": (8.0, 12.0),
        "sigma": (12.0, 16.0),
        "beta": (16.0, 30.0),
    }
)
_PERIODS = 2.0  # of the slowest band in a segment: 4 s for delta from 0.5 Hz
CLOSENESS = 0.07  # temperature of the weights of neighbours, DINO's
_FLOOR = 1e-6  # (0.001 uV)^2: below the noise of any amplifier; keeps silence finite
_CHUNK = 256  # windows at once: 256 x 6 x 3000 float32 are 18 MB


def usable_bands(
    sfreq_hz: float, n_samples: int, bands: Mapping[str, tuple[float, float]] = BANDS
) -> dict[str, tuple[float, float]]:
    """Return the bands that a window resolves: below Nyquist, with a Welch frequency.

    Parameters
    ----------
    sfreq_hz
        Sampling rate.
    n_samples
        Length of a window.
    bands
        Name to (low, high) in Hz.

    Raises
    ------
    ValueError
        If no band is left.

    Examples
    --------
    >>> list(usable_bands(25.0, 750))
    ['delta', 'theta', 'alpha']
    """
    segment = _segment(sfreq_hz, n_samples, bands)
    frequencies = np.fft.rfftfreq(segment, 1.0 / sfreq_hz)
    kept = {
        name: (low, high)
        for name, (low, high) in bands.items()
        if high <= sfreq_hz / 2 and ((frequencies >= low) & (frequencies < high)).any()
    }
    if not kept:
        raise ValueError(
            f"Windows of {n_samples} samples at {sfreq_hz:g} Hz resolve none of the bands "
            f"{', '.join(bands)}; give bands below {sfreq_hz / 2:g} Hz or longer windows."
        )
    return kept


def card_features(
    windows: NDArray[Any], sfreq_hz: float, card: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Compute the baseline features of a store's card, without a network.

    Parameters
    ----------
    windows, sfreq_hz
        As for `band_powers`, in the unit of the store.
    card
        A card as in its store; its section ``baseline`` sets bands, level and floor. Without one,
        the bands of sleep EEG.

    Examples
    --------
    >>> card = {"baseline": {"bands_hz": {"low": [0.1, 0.4]}, "level": True, "floor": 1e-4}}
    >>> card_features(np.full((1, 1, 60), 62.0), 1.0, card).tolist()
    [[-4.0, -2.0, 62.0]]
    """
    baseline = card.get("baseline") or {}
    return band_powers(
        windows,
        sfreq_hz,
        baseline.get("bands_hz") or BANDS,
        level=baseline.get("level", False),
        floor=baseline.get("floor", _FLOOR),
    )


def band_powers(
    windows: NDArray[Any],
    sfreq_hz: float,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    *,
    level: bool = False,
    floor: float = _FLOOR,
) -> NDArray[np.float32]:
    """Return the log power of each band and the log standard deviation, per channel.

    Welch's method (segments of two periods of the slowest band, 4 s for sleep EEG, or the window
    if shorter, Hann, half overlapping, mean removed); the density is summed over low <= f < high.
    A band that reaches above Nyquist or falls between two frequencies is omitted; `usable_bands`
    names the others.

    Parameters
    ----------
    windows
        (W, C, T), integers or floats, in microvolts, counts or normalised.
    sfreq_hz
        Sampling rate.
    bands
        Name to (low, high) in Hz.
    level
        Whether the mean of a window is a feature too, in the unit of the windows.
    floor
        Lower limit of powers (and, as its root, of standard deviations), so that a flat window
        gives finite numbers.

    Returns
    -------
    NDArray
        float32 (W, C * (bands + 1)): for each channel its bands in order (log10 of power), then
        log10 of the standard deviation, then the mean if ``level``.

    Raises
    ------
    ValueError
        If the windows are not three-dimensional or not finite, or no band fits.

    Examples
    --------
    >>> flat = np.zeros((1, 1, 3000), np.int16)
    >>> band_powers(flat, 100.0).round().tolist()
    [[-6.0, -6.0, -6.0, -6.0, -6.0, -3.0]]
    """
    if windows.ndim != 3:
        raise ValueError(
            f"Windows have the shape {windows.shape}; give (windows, channels, samples)."
        )
    kept = usable_bands(sfreq_hz, windows.shape[-1], bands)
    segment = _segment(sfreq_hz, windows.shape[-1], bands)
    parts = [
        _chunk_powers(
            np.asarray(windows[at : at + _CHUNK], np.float32),
            sfreq_hz,
            kept,
            segment,
            level=level,
            floor=floor,
        )
        for at in range(0, len(windows), _CHUNK)
    ]
    n_features = windows.shape[1] * (len(kept) + 1 + level)
    return np.concatenate(parts) if parts else np.empty((0, n_features), np.float32)


def _chunk_powers(
    windows: NDArray[np.float32],
    sfreq_hz: float,
    bands: Mapping[str, tuple[float, float]],
    segment: int,
    *,
    level: bool,
    floor: float,
) -> NDArray[np.float32]:
    """Compute `band_powers` for a few windows (W, C, T)."""
    if not np.isfinite(windows).all():
        raise ValueError(
            f"{(~np.isfinite(windows).all(axis=(1, 2))).sum()} of {len(windows)} windows have NaN "
            "or infinity; exclude windows marked bad."
        )
    frequencies, density = welch(windows, sfreq_hz, nperseg=segment, axis=-1)
    width = sfreq_hz / segment
    powers = [
        density[..., (frequencies >= low) & (frequencies < high)].sum(axis=-1) * width
        for low, high in bands.values()
    ]
    spread = windows.std(axis=-1, dtype=np.float64)
    features = [np.log10(np.maximum(power, floor)) for power in powers]
    features.append(np.log10(np.maximum(spread, np.sqrt(floor))))
    if level:
        features.append(windows.mean(axis=-1, dtype=np.float64))
    return np.stack(features, axis=-1).reshape(len(windows), -1).astype(np.float32)


def _segment(sfreq_hz: float, n_samples: int, bands: Mapping[str, tuple[float, float]]) -> int:
    """Return the samples of a Welch segment: two periods of the slowest band, at most a window."""
    slowest = min((low for low, _ in bands.values()), default=0.0)
    return min(round(_PERIODS * sfreq_hz / slowest), n_samples) if slowest > 0 else n_samples


def fit_linear_probe(
    features: NDArray[Any],
    labels: NDArray[Any],
    *,
    seed: int,
    class_weight: Literal["balanced"] | None = "balanced",
    regularisation: float = 1.0,
) -> "Pipeline":
    """Fit standardised multinomial logistic regression on fixed features.

    Parameters
    ----------
    features
        (W, F), finite.
    labels
        Class indices (W,); windows with -1 are ignored; classes may be missing.
    seed
        Passed to scikit-learn; its default solver (L-BFGS) is deterministic.
    class_weight
        "balanced": every class that occurs counts the same. None: every window does.
    regularisation
        C of scikit-learn, the inverse strength of the L2 penalty. Not tuned: fixed at its default
        1, so that no probe is tuned better than another.

    Returns
    -------
    Pipeline
        With `predict`, `predict_proba` and `classes_` (the class indices of its columns).

    Raises
    ------
    ValueError
        If the lengths differ or fewer than two classes are labelled.

    Examples
    --------
    >>> probe = fit_linear_probe(np.eye(3), np.array([0, 4, -1]), seed=0)
    >>> probe.classes_.tolist(), probe.predict_proba(np.eye(3)).shape
    ([0, 4], (3, 2))
    """
    labels = np.asarray(labels)
    if len(features) != len(labels):
        raise ValueError(
            f"There are {len(features)} windows but {len(labels)} labels; give one per window."
        )
    known = labels >= 0
    classes = np.unique(labels[known])
    if len(classes) < 2:
        raise ValueError(
            f"The training windows have only the classes {classes.tolist()}; a probe needs at "
            "least two, so add persons with more."
        )
    # float64: L-BFGS stalls before its tolerance in float32, with a warning.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=regularisation, class_weight=class_weight, max_iter=5000, random_state=seed
        ),
    )
    return model.fit(np.asarray(features, np.float64)[known], labels[known])


def linear_probe(
    train: NDArray[Any],
    train_labels: NDArray[Any],
    test: NDArray[Any],
    *,
    seed: int,
    class_weight: Literal["balanced"] | None = "balanced",
    regularisation: float = 1.0,
) -> NDArray[np.int64]:
    """Predict the classes of test windows with a linear probe on training windows.

    `fit_linear_probe` with the same arguments gives the model and its probabilities.

    Parameters
    ----------
    train, test
        Features (W, F) and (V, F).
    train_labels
        Class indices (W,), -1 = ignored.

    Returns
    -------
    NDArray
        int64 class indices (V,), among the classes that occur in training.

    Raises
    ------
    ValueError
        As `fit_linear_probe`.

    Examples
    --------
    >>> left, right = np.array([[0.0], [1.0], [9.0], [8.0]]), np.array([[2.0], [7.0]])
    >>> linear_probe(left, np.array([0, 0, 3, 3]), right, seed=0).tolist()
    [0, 3]
    """
    model = fit_linear_probe(
        train,
        train_labels,
        seed=seed,
        class_weight=class_weight,
        regularisation=regularisation,
    )
    predicted: NDArray[np.int64] = model.predict(np.asarray(test, np.float64)).astype(np.int64)
    return predicted


def nearest_neighbours(
    train: NDArray[Any], train_labels: NDArray[Any], test: NDArray[Any], *, k: int = 20
) -> NDArray[np.int64]:
    """Predict classes by the k nearest training windows in cosine, each weighted by its closeness.

    Weights ``exp(cosine / 0.07)`` as in Wu et al. (arXiv 1805.01978) and DINO (arXiv 2104.14294).

    Parameters
    ----------
    train, test
        Features (W, F) and (V, F).
    train_labels
        Class indices (W,), -1 = ignored.
    k
        Neighbours, at most as many as there are.

    Returns
    -------
    NDArray
        int64 class indices (V,).

    Examples
    --------
    >>> left, right = np.array([[1.0, 0], [1, 0.1], [0, 1]]), np.array([[2.0, 0], [0.1, 3]])
    >>> nearest_neighbours(left, np.array([4, 4, 2]), right, k=2).tolist()
    [4, 2]
    """
    from sklearn.neighbors import KNeighborsClassifier

    known = train_labels >= 0
    model = KNeighborsClassifier(
        n_neighbors=min(k, int(known.sum())),
        metric="cosine",
        weights=lambda distances: np.exp(-distances / CLOSENESS),
    )
    with warnings.catch_warnings():  # of many classes with few items each
        warnings.filterwarnings("ignore", message="The number of unique classes")
        model.fit(np.asarray(train, np.float64)[known], train_labels[known])
    predicted: NDArray[np.int64] = model.predict(np.asarray(test, np.float64)).astype(np.int64)
    return predicted
