"""Band powers against known spectra, and the linear probe."""

import numpy as np
import pytest

from biopart.evaluation.probes import (
    BANDS,
    band_powers,
    fit_linear_probe,
    linear_probe,
    usable_bands,
)


def _sine(freq_hz: float, amplitude: float, sfreq_hz: float = 100.0) -> np.ndarray:
    time_s = np.arange(round(30 * sfreq_hz)) / sfreq_hz
    return amplitude * np.sin(2 * np.pi * freq_hz * time_s)


@pytest.mark.parametrize(
    ("freq_hz", "band"), [(2, "delta"), (6, "theta"), (10, "alpha"), (14, "sigma"), (20, "beta")]
)
def test_power_of_a_sine_is_half_its_square_in_its_own_band(freq_hz: float, band: str) -> None:
    powers = band_powers(_sine(freq_hz, 20.0)[None, None], 100.0)[0]
    expected = np.log10(20.0**2 / 2)
    assert powers[list(BANDS).index(band)] == pytest.approx(expected, abs=1e-3)
    assert (np.delete(powers[:5], list(BANDS).index(band)) < 0).all()
    assert powers[5] == pytest.approx(expected / 2, abs=1e-3)


def test_white_noise_spreads_its_power_by_the_width_of_the_bands() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 1, 3000))
    powers = (10.0 ** band_powers(noise, 100.0)[:, :5]).mean(axis=0)
    widths = np.array([3.5, 4.0, 4.0, 4.0, 14.0])
    np.testing.assert_allclose(powers, widths / 50.0, rtol=0.03)


def test_channels_keep_their_own_columns() -> None:
    windows = np.stack([_sine(2, 10.0), _sine(10, 10.0)])[None]
    both = band_powers(windows, 100.0)
    apart = [band_powers(windows[:, [channel]], 100.0) for channel in (0, 1)]
    np.testing.assert_array_equal(both, np.concatenate(apart, axis=1))


def test_many_windows_give_what_each_gives_alone() -> None:
    windows = np.random.default_rng(0).integers(-500, 500, (300, 2, 256)).astype(np.int16)
    together = band_powers(windows, 64.0)
    alone = np.concatenate([band_powers(window[None], 64.0) for window in windows])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.dtype == np.float32


def test_adding_a_constant_changes_nothing() -> None:
    windows = np.random.default_rng(0).integers(-500, 500, (3, 1, 3000)).astype(np.int16)
    np.testing.assert_allclose(
        band_powers(windows + np.int16(1000), 100.0), band_powers(windows, 100.0), atol=1e-4
    )


def test_flat_windows_give_the_floor() -> None:
    flat = np.full((2, 1, 3000), 250, np.int16)
    np.testing.assert_allclose(band_powers(flat, 100.0), [[-6.0] * 5 + [-3.0]] * 2, rtol=1e-6)


def test_no_window_gives_no_row() -> None:
    assert band_powers(np.zeros((0, 2, 3000), np.int16), 100.0).shape == (0, 12)


@pytest.mark.parametrize(
    ("sfreq_hz", "n_samples", "kept"),
    [
        (100.0, 3000, ["delta", "theta", "alpha", "sigma", "beta"]),
        (60.0, 1800, ["delta", "theta", "alpha", "sigma", "beta"]),  # beta ends at Nyquist
        (50.0, 1500, ["delta", "theta", "alpha", "sigma"]),
        (100.0, 20, ["theta", "alpha", "sigma", "beta"]),  # 5 Hz apart: 5, 10, 15, 20, 25
        (1 / 5, 1200, None),
    ],
)
def test_bands_that_a_window_cannot_show_are_left_out(
    sfreq_hz: float, n_samples: int, kept: list[str] | None
) -> None:
    if kept is None:
        with pytest.raises(ValueError, match=r"at 0.2 Hz resolve none of the bands delta, theta"):
            usable_bands(sfreq_hz, n_samples)
        return
    assert list(usable_bands(sfreq_hz, n_samples)) == kept
    shape = band_powers(np.zeros((1, 1, n_samples)), sfreq_hz).shape
    assert shape == (1, len(kept) + 1)


def test_windows_that_are_not_windows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3000,\); give \(windows"):
        band_powers(np.zeros(3000), 100.0)
    broken = np.zeros((3, 2, 3000))
    broken[1, 0, 5] = np.nan
    with pytest.raises(ValueError, match="1 of 3 windows have NaN"):
        band_powers(broken, 100.0)


def _clouds(seed: int, counts: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw unit clouds around (8 label, 0, 0, ...) in twelve features of very unlike scale."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(counts), list(counts.values()))
    features = rng.standard_normal((len(labels), 12))
    features[:, 0] += 8 * labels
    return features * np.logspace(-3, 4, 12), labels


def test_probe_tells_separate_clouds_apart_whatever_their_scale() -> None:
    features, labels = _clouds(0, {0: 80, 1: 80, 2: 80})
    unseen, truth = _clouds(1, {0: 40, 1: 40, 2: 40})
    assert (linear_probe(features, labels, unseen, seed=0) == truth).mean() > 0.97


def test_probe_leaves_unlabelled_windows_out() -> None:
    features, labels = _clouds(0, {0: 30, 1: 30, 2: 30})
    unknown = np.full((50, 12), 1e6)
    longer = np.concatenate([features, unknown])
    marked = np.append(labels, [-1] * 50)
    assert np.array_equal(
        linear_probe(longer, marked, features, seed=0),
        linear_probe(features, labels, features, seed=0),
    )


def test_probe_works_without_one_of_the_classes() -> None:
    features, labels = _clouds(0, {0: 40, 2: 40, 4: 5})
    probe = fit_linear_probe(features, labels, seed=0)
    assert probe.classes_.tolist() == [0, 2, 4]
    np.testing.assert_allclose(probe.predict_proba(features).sum(axis=1), 1.0)


def test_balanced_probe_gives_the_rare_class_more_windows() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [950, 50])
    features = rng.standard_normal((1000, 1)) + labels[:, None]
    unseen = rng.standard_normal((1000, 1)) + 0.5
    balanced = linear_probe(features, labels, unseen, seed=0).mean()
    plain = linear_probe(features, labels, unseen, seed=0, class_weight=None).mean()
    assert balanced == pytest.approx(0.5, abs=0.1)
    assert plain < 0.05


def test_probe_refuses_one_class_and_unequal_lengths() -> None:
    with pytest.raises(ValueError, match=r"have only the classes \[3\]"):
        linear_probe(np.eye(3), np.array([3, 3, -1]), np.eye(3), seed=0)
    with pytest.raises(ValueError, match="3 windows but 2 labels"):
        linear_probe(np.eye(3), np.array([0, 1]), np.eye(3), seed=0)
