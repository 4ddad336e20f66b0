"""The leak check finds edges made by filtering per window, and nothing in clean signals."""

from pathlib import Path

import edfio
import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from biopart.evaluation.leak import patch_features, position_leak

PERSONS = [f"p{index}" for index in range(10) for _ in range(30)]
BAND = butter(4, [0.1, 30.0], "bandpass", fs=100.0, output="sos")


def _patches(windows: np.ndarray) -> np.ndarray:
    """Cut (W, T) into (W, K, 1, 100)."""
    return windows.reshape(len(windows), -1, 1, 100).astype(np.float32)


def _drifting_noise(seed: int) -> np.ndarray:
    """Draw one long random walk per person, as windows of 20 patches (300, 2000)."""
    steps = np.random.default_rng(seed).standard_normal((10, 30 * 2000))
    return steps.cumsum(axis=1).reshape(300, 2000)


def test_features_of_a_patch_worked_by_hand() -> None:
    found = patch_features(np.array([[[[3, 1, 2, 6]]]], np.int16))[0, 0]
    # Slope: sum of (t - 1.5) x = -4.5 - 0.5 + 1 + 9 = 5, over 5; variance of 3, 1, 2, 6 is 3.5.
    np.testing.assert_allclose(found, [3, 1, np.log(3.5), np.log(7), 1, 6, 3], rtol=1e-6)


def test_features_stand_channel_by_channel() -> None:
    patches = np.random.default_rng(0).standard_normal((2, 3, 4, 10))
    found = patch_features(patches)
    assert found.shape == (2, 3, 28)
    third = patch_features(patches[:, :, [2]])
    np.testing.assert_allclose(found[:, :, 14:21], third, rtol=1e-4)


def test_slope_is_that_of_a_line_fitted_by_numpy() -> None:
    patch = np.random.default_rng(1).standard_normal(50)
    slope = np.polynomial.Polynomial.fit(np.arange(50), patch, 1).convert().coef[1]
    assert patch_features(patch[None, None, None])[0, 0, 1] == pytest.approx(slope, rel=1e-4)


def test_flat_patches_have_finite_features() -> None:
    found = patch_features(np.full((1, 1, 1, 8), 5.0))[0, 0]
    np.testing.assert_allclose(found, [5, 0, np.log(1e-6), np.log(1e-6), 5, 5, 0], atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_white_noise_does_not_leak(seed: int) -> None:
    # 20 persons: with 10 the intervals hold 0.5 in 88 % of draws only (position_leak says why).
    noise = np.random.default_rng(seed).standard_normal((1200, 20, 1, 30))
    found = position_leak(noise, [f"p{index}" for index in range(20) for _ in range(60)])
    for where in ("first", "last", "edge"):
        low, high = found[where]["ci95"]
        assert low < 0.5 < high
        assert high - low < 0.07
    assert (found["leaks"], found["n_persons"], found["n_windows"]) == (False, 20, 1200)


def test_windows_faded_at_their_edges_leak() -> None:
    noise = np.random.default_rng(0).standard_normal((300, 2000))
    fade = np.clip(np.arange(2000) / 100, 0, 1)
    found = position_leak(_patches(noise * fade * fade[::-1]), PERSONS)
    assert min(found[where]["auc"] for where in ("first", "last", "edge")) > 0.9
    assert found["leaks"] is True


def test_edge_seen_at_one_end_only_is_told_by_that_end() -> None:
    noise = np.random.default_rng(0).standard_normal((300, 2000))
    noise[:, :100] *= 0.3
    found = position_leak(_patches(noise), PERSONS)
    assert found["first"]["auc"] > 0.95
    assert found["last"]["auc"] < 0.6


def test_filtering_each_window_leaks_and_filtering_the_night_does_not() -> None:
    walk = _drifting_noise(0)
    whole = sosfiltfilt(BAND, walk.reshape(10, -1), axis=-1).reshape(walk.shape)
    per_window = sosfiltfilt(BAND, walk, axis=-1)
    assert position_leak(_patches(whole), PERSONS)["leaks"] is False
    found = position_leak(_patches(per_window), PERSONS)
    assert found["edge"]["ci95"][0] > 0.6  # real EEG gives as much, below
    assert found["leaks"] is True


def test_scale_and_offset_of_a_window_do_not_matter() -> None:
    walk = _patches(sosfiltfilt(BAND, _drifting_noise(1), axis=-1))
    rng = np.random.default_rng(0)
    factor, offset = 2.0 ** rng.integers(-3, 4, (2, 300, 1, 1, 1))
    moved = position_leak(walk * factor + offset, PERSONS)
    found = position_leak(walk, PERSONS)
    assert moved["edge"]["auc"] == pytest.approx(found["edge"]["auc"], abs=0.01)


def test_at_most_so_many_windows_per_person_are_looked_at() -> None:
    patches = np.random.default_rng(0).standard_normal((50, 4, 2, 10))
    persons = ["a"] * 30 + ["b"] * 15 + ["c"] * 5
    found = position_leak(patches, persons, windows_per_person=10)
    assert (found["n_windows"], found["n_persons"]) == (25, 3)


def test_same_seed_gives_the_same_figures() -> None:
    patches = np.random.default_rng(0).standard_normal((40, 5, 1, 10))
    first, again, other = (
        position_leak(patches, list("abcd") * 10, seed=seed, windows_per_person=8)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("shape", "persons", "message"),
    [
        ((4, 5, 1, 10), "aaaa", r"from 1 person\(s\), but the leak check needs at least 2"),
        ((4, 5, 1, 10), "abc", "4 windows but 3 persons"),
        ((4, 2, 1, 10), "aabb", r"shape \(4, 2, 1, 10\); give"),
        ((4, 5, 10), "aabb", r"shape \(4, 5, 10\); give"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    shape: tuple[int, ...], persons: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        position_leak(np.zeros(shape), list(persons))


def test_windows_with_nan_are_refused() -> None:
    patches = np.zeros((4, 5, 1, 10))
    patches[2, 3, 0, 4] = np.nan
    with pytest.raises(ValueError, match="exclude windows marked bad"):
        position_leak(patches, list("aabb"))


def test_real_eeg_filtered_per_window_leaks_and_joined_does_not(real_data: Path) -> None:
    sos = butter(4, [0.1, 30.0], "bandpass", fs=128.0, output="sos")
    joined, per_window, persons = [], [], []
    for path in sorted((real_data / "sleep_ucddb").glob("*-PSG.edf"))[:10]:
        signal = edfio.read_edf(path).signals[0].data
        signal = signal[: len(signal) // 3840 * 3840]
        windows = signal.reshape(-1, 3840)
        joined.append(sosfiltfilt(sos, signal).reshape(-1, 30, 1, 128))
        per_window.append(sosfiltfilt(sos, windows, axis=-1).reshape(-1, 30, 1, 128))
        persons += [path.name] * len(windows)
    clean = position_leak(np.concatenate(joined), persons)["edge"]
    leaking = position_leak(np.concatenate(per_window), persons)["edge"]
    assert abs(clean["auc"] - 0.5) < 0.03
    assert leaking["ci95"][0] > 0.58
