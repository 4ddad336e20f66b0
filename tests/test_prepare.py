"""Preparation: units, resampling, filters, epochs, what is missing, and the integers stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import ArrayLike, NDArray
from scipy import signal as dsp

from biopart.signals.prepare import prepare_recording, quantise
from biopart.signals.recording import Channel, Mark, Recording
from biopart.store import Card, Record

OPEN: dict[str, Any] = {"band_hz": (None, None)}
UNLABELLED: dict[str, Any] = {"labels": {"kind": "none"}}


def make_card(**values: Any) -> Card:
    about = {"name": "n", "title": "t", "licence": "l", "citation": "c", "recordings": ["*"]}
    stages = {"channels": ["C3"], "labels": {"kind": "stages"}}
    return Card.model_validate({**about, **stages, **values})


def make_recording(
    signals: Mapping[str, ArrayLike],
    sfreq_hz: float = 100.0,
    marks: tuple[Mark, ...] = (),
    **channel: Any,
) -> Recording:
    """Make a recording of integers in steps of 0.1 uV, or as ``channel`` says; NaN is missing."""
    rows = [np.asarray(row, np.float64) for row in signals.values()]
    about = {"unit": "uV", "scale": 0.1, "missing": -32768, **channel}
    channels = tuple(
        Channel(name=name, sfreq_hz=sfreq_hz, n_samples=len(row), **about)
        for name, row in zip(signals, rows, strict=True)
    )
    digital = [np.where(np.isnan(r), -32768, np.rint(r / about["scale"])) for r in rows]
    integers = [row.astype(np.int16) for row in digital]
    return Recording(Path("x.edf"), channels, lambda numbers: [integers[n] for n in numbers], marks)


def noise(seconds: float, sfreq_hz: float = 100.0, seed: int = 0) -> NDArray[np.float64]:
    """Make white noise of 30 uV in steps of 0.1 uV."""
    return np.random.default_rng(seed).normal(0, 30, round(seconds * sfreq_hz)).round(1)


def physical(record: Record) -> NDArray[np.float64]:
    """Return stored values in their unit; missing samples as NaN."""
    values = record.signal * record.scale[:, None]
    return np.where(record.signal == -32768, np.nan, values)


def filtered(values: ArrayLike, low: float, high: float, order: int = 4) -> NDArray[np.float64]:
    """Filter by scipy alone."""
    sections = dsp.butter(order, [low, high], "bandpass", fs=100.0, output="sos")
    result: NDArray[np.float64] = dsp.sosfiltfilt(sections, np.asarray(values, np.float64))
    return result


def test_labels_keep_the_recordings_clock_and_8_h_give_960_epochs() -> None:
    marks = (Mark(420.0, "W"), Mark(14400.0, "N2"))
    recording = make_recording({"C3": noise(8 * 3600, 10)}, 10, marks)
    record = prepare_recording(recording, make_card(sfreq_hz=10, band_hz=(0.1, 4)))
    assert record.label.tolist() == [-1] * 14 + [0] * 466 + [2] * 480
    assert record.signal.shape == (1, 960 * 300)
    assert record.attributes["n_unscored"] == 14
    assert record.attributes["left_out"] == []


@pytest.mark.parametrize(("first_s", "unscored"), [(370.0, 12), (380.0, 13)])
def test_the_majority_of_an_epoch_labels_it(first_s: float, unscored: int) -> None:
    recording = make_recording({"C3": noise(450, 20)}, 20, (Mark(first_s, "W"),))
    record = prepare_recording(recording, make_card(sfreq_hz=10, band_hz=(0.1, 4)))
    assert record.label.tolist() == [-1] * unscored + [0] * (15 - unscored)


def test_a_tenth_of_a_hertz_gives_what_scipys_own_filter_gives() -> None:
    values = noise(600) + 500.0
    record = prepare_recording(make_recording({"C3": values}), make_card(band_hz=(0.1, 30)))
    assert np.isfinite(physical(record)).all()
    error = np.abs(physical(record)[0] - filtered(values, 0.1, 30))
    assert error.max() <= 0.51 * record.scale[0]


@pytest.mark.parametrize(
    ("band", "kind", "edges"),
    [((None, 20), "lowpass", 20), ((5, None), "highpass", 5), ((5, 20), "bandpass", [5, 20])],
)
def test_an_open_end_of_the_band_is_not_filtered(band: Any, kind: str, edges: Any) -> None:
    values = noise(60)
    card = make_card(band_hz=band, filter_order=2)
    record = prepare_recording(make_recording({"C3": values}), card)
    expected = dsp.sosfiltfilt(dsp.butter(2, edges, kind, fs=100, output="sos"), values)
    np.testing.assert_allclose(physical(record)[0], expected, atol=0.505 * record.scale[0])


def test_a_sine_of_10_hz_keeps_its_amplitude_from_200_to_100_hz() -> None:
    time = np.arange(120 * 200) / 200
    recording = make_recording({"C3": 50 * np.sin(2 * np.pi * 10 * time)}, 200)
    record = prepare_recording(recording, make_card(band_hz=(0.1, 30)))
    inner = physical(record)[0, 3000:9000]
    wave = 2 * np.mean(inner * np.exp(-2j * np.pi * 10 * np.arange(6000) / 100))
    assert abs(wave) == pytest.approx(50, rel=0.01)
    assert np.angle(wave) == pytest.approx(-np.pi / 2, abs=0.01)  # a sine, not shifted


def test_resampling_is_soxrs_hq_and_the_same_rate_is_untouched() -> None:
    values = noise(60, 128).astype(np.float32)
    card = make_card(**OPEN)
    record = prepare_recording(make_recording({"C3": values}, 128), card)
    expected = soxr.resample(values, 128, 100, quality="HQ")
    np.testing.assert_allclose(physical(record)[0], expected, atol=0.505 * record.scale[0])
    same = prepare_recording(make_recording({"C3": noise(60)}), card)
    np.testing.assert_allclose(physical(same)[0], noise(60), atol=0.505 * same.scale[0])


@pytest.mark.parametrize("sfreq_hz", [50.0, 128.0, 250.0, 256.0, 360.0, 512.0])
def test_whatever_the_rate_a_recording_keeps_its_length(sfreq_hz: float) -> None:
    recording = make_recording({"C3": noise(601, sfreq_hz)}, sfreq_hz)
    record = prepare_recording(recording, make_card(**OPEN))
    assert record.signal.shape == (1, 60100)
    assert len(record.label) == 20


def test_channels_of_different_rates_are_resampled_each_by_its_own() -> None:
    slow, fast = (make_recording({"C3": noise(60, rate)}, rate) for rate in (50.0, 200.0))
    channels = (slow.channels[0], Channel("C4", "uV", 200.0, 12000, 0.1))
    both = Recording(Path("x.edf"), channels, lambda n: [(slow, fast)[i].load([0])[0] for i in n])
    record = prepare_recording(both, make_card(channels=["C3", "C4"], **OPEN))
    alone = prepare_recording(fast, make_card(**OPEN))
    assert record.signal.shape == (2, 6000)
    np.testing.assert_allclose(physical(record)[1], physical(alone)[0], atol=record.scale[1])


@pytest.mark.parametrize(
    ("unit", "card_unit", "factor"),
    [("uV", None, 1), ("mV", None, 1e3), ("V", "uV", 1e6), ("", "mV", 1e3), ("", "µV", 1)],
)
def test_electrical_values_are_stored_in_microvolt(
    unit: str, card_unit: str | None, factor: float
) -> None:
    values = noise(60)
    recording = make_recording({"C3": values / factor}, unit=unit, scale=0.1 / factor)
    record = prepare_recording(recording, make_card(unit=card_unit, **OPEN))
    assert record.units == "uV"
    np.testing.assert_allclose(physical(record)[0], values, atol=0.51 * record.scale[0])


@pytest.mark.parametrize("unit", ["%", "mmHg", "1/min"])
def test_other_units_stay_as_they_are_and_are_not_judged(unit: str) -> None:
    recording = make_recording({"C3": noise(60) * 100}, unit=unit, scale=1.0)
    record = prepare_recording(recording, make_card(**OPEN, **UNLABELLED))
    assert record.units == unit
    assert record.attributes["warnings"] == []
    np.testing.assert_allclose(physical(record)[0], noise(60) * 100, atol=record.scale[0])


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("mikrovolt", "C3 has the unknown unit 'mikrovolt'"),
        ("", "C3 states no unit"),
    ],
)
def test_a_unit_that_is_not_known_is_said_and_judged_as_a_voltage(unit: str, said: str) -> None:
    recording = make_recording({"C3": noise(60) * 100}, unit=unit, scale=1.0)
    spelling, amplitude = prepare_recording(recording, make_card(**OPEN, **UNLABELLED)).attributes[
        "warnings"
    ]
    assert spelling.startswith(said)
    assert amplitude.startswith("C3 has a standard deviation of 2.99e+03 ")


def test_a_forced_unit_holds_whatever_the_file_states() -> None:
    recording = make_recording({"C3": noise(60) * 100}, unit="mV", scale=1.0)
    card = make_card(unit={"force": "nV"}, **OPEN, **UNLABELLED)
    record = prepare_recording(recording, card)
    assert (record.units, record.attributes["warnings"]) == ("uV", [])
    np.testing.assert_allclose(physical(record)[0], noise(60) / 10, atol=record.scale[0])


@pytest.mark.parametrize(("rate", "band"), [(20.0, (0.3, 30.0)), (59, (None, 30))])
def test_a_rate_that_cannot_carry_the_band_is_refused_or_kept_with_a_word(
    rate: float, band: Any
) -> None:
    recording = make_recording({"C3": noise(60, rate)}, rate)
    low, high = band[0] or 0, band[1]
    said = f"C3 is sampled at {rate:g} Hz, too low for the band of {low:g} to {high:g} Hz"
    with pytest.raises(ValueError, match=said):
        prepare_recording(recording, make_card(band_hz=band, **UNLABELLED))
    kept = prepare_recording(recording, make_card(band_hz=band, low_rate="keep", **UNLABELLED))
    assert kept.attributes["warnings"] == [f"{said}: it has no content above {rate / 2:g} Hz"]


@pytest.mark.parametrize("band", [(0.3, 32), (None, None)])
def test_upsampling_that_carries_the_band_is_said(band: Any) -> None:
    recording = make_recording({"C3": noise(60, 64)}, 64.0)
    record = prepare_recording(recording, make_card(band_hz=band, **UNLABELLED))
    assert record.signal.shape == (1, 6000)
    assert record.attributes["warnings"] == [
        "C3 is sampled at 64 Hz and was upsampled to 100 Hz: it has no content above 32 Hz"
    ]


def test_signals_of_several_units_are_called_mixed() -> None:
    one, two = (make_recording({"C3": noise(60)}, unit=unit) for unit in ("uV", "%"))
    channels = (one.channels[0], Channel("SaO2", "%", 100.0, 6000, 0.1))
    both = Recording(Path("x.edf"), channels, lambda n: [(one, two)[i].load([0])[0] for i in n])
    assert prepare_recording(both, make_card(channels=["C3", "SaO2"], **OPEN)).units == "mixed"


def test_an_amplitude_that_no_brain_makes_is_warned_of() -> None:
    signals = {"C3": noise(60) / 100, "C4": noise(60), "O1": noise(60) * 50}
    recording = make_recording(signals, scale=0.2)
    record = prepare_recording(
        recording, make_card(channels=["C3", "C4", "O1"], **OPEN, **UNLABELLED)
    )
    low, high = record.attributes["warnings"]
    assert low.startswith("C3 has a standard deviation of 0.3")
    assert high.startswith("O1 has a standard deviation of 1.49e+03 uV, outside 0.5-1000 uV: check")


def test_a_derivation_is_the_difference_of_two_channels() -> None:
    signals = {"M2": noise(60, seed=1), "C3": noise(60), "C4": noise(60, seed=2)}
    record = prepare_recording(make_recording(signals), make_card(channels=["C3-M2"], **OPEN))
    expected = signals["C3"] - signals["M2"]
    np.testing.assert_allclose(physical(record)[0], expected, atol=0.51 * record.scale[0])
    assert record.attributes["montage"] == ["C3-M2 = 'C3' (exact name) minus 'M2' (exact name)"]


def two_channels(**second: Any) -> Recording:
    about: dict[str, Any] = {"unit": "uV", "sfreq_hz": 100.0, "n_samples": 6000, "scale": 0.1}
    channels = (Channel("C3", **about), Channel("M2", **{**about, **second}))
    integers = noise(60).astype(np.int16)
    return Recording(Path("x.edf"), channels, lambda numbers: [integers for _ in numbers])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"sfreq_hz": 50.0}, "C3-M2: C3 and M2 have different sampling rates, 100 and 50 Hz"),
        ({"unit": "%"}, "C3-M2: C3 and M2 have different units, % and uV"),
        ({"unit": ""}, "C3-M2: C3 and M2 have different units, none and uV"),
    ],
)
def test_a_difference_of_unlike_channels_is_refused(second: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_recording(two_channels(**second), make_card(channels=["C3-M2"], **OPEN))


def test_a_difference_of_microvolt_and_millivolt_is_in_microvolt() -> None:
    recording = two_channels(unit="mV", scale=0.0001)
    record = prepare_recording(recording, make_card(channels=["C3-M2"], **OPEN))
    assert np.abs(physical(record)).max() < 1e-3


def test_a_wanted_channel_that_is_not_there_is_refused_with_those_there_are() -> None:
    recording = make_recording({"C3": noise(60), "C4": noise(60)})
    with pytest.raises(ValueError, match=r"O1-M2 cannot be derived .*the file has 'C3', 'C4'"):
        prepare_recording(recording, make_card(channels=["O1-M2"]))


def test_missing_samples_are_stored_as_such_and_the_filter_does_not_spread_them() -> None:
    values = noise(60)
    fill_missing = values.copy()
    fill_missing[2000:2300] = np.interp(np.arange(2000, 2300), [1999, 2300], values[[1999, 2300]])
    values[2000:2300] = np.nan
    record = prepare_recording(make_recording({"C3": values}), make_card(band_hz=(0.1, 30)))
    assert np.flatnonzero(np.isnan(physical(record)[0])).tolist() == list(range(2000, 2300))
    assert record.bad.tolist() == [[2000, 2300]]
    known = ~np.isnan(values)
    expected = filtered(fill_missing, 0.1, 30)
    np.testing.assert_allclose(
        physical(record)[0, known], expected[known], atol=0.505 * record.scale[0]
    )


@pytest.mark.parametrize(
    ("sfreq_hz", "gap", "stored"),
    [
        (100.0, (1000, 1001), [1000, 1001]),
        (200.0, (2000, 2400), [1000, 1200]),
        (200.0, (2001, 2400), [1000, 1200]),
        (128.0, (1280, 1536), [1000, 1200]),
        (128.0, (1281, 1535), [1000, 1200]),
        (50.0, (500, 600), [1000, 1200]),
    ],
)
def test_a_gap_lies_where_it_was_after_resampling(
    sfreq_hz: float, gap: tuple[int, int], stored: list[int]
) -> None:
    values = noise(60, sfreq_hz)
    values[slice(*gap)] = np.nan
    record = prepare_recording(make_recording({"C3": values}, sfreq_hz), make_card(**OPEN))
    assert record.bad.tolist() == [stored]
    assert np.flatnonzero(record.signal[0] == -32768).tolist() == list(range(*stored))


def test_flat_and_clipped_stretches_are_marked_but_keep_their_values() -> None:
    values = noise(60, 200)
    values[400:700] = 12.3  # 1.5 s
    values[3000:3200] = 12.3  # 1 s, not longer
    values[6000:6020] = 204.7  # 0.1 s at the limit
    values[9000] = 204.7
    limits: dict[str, Any] = {"digital_min": -2048, "digital_max": 2047}
    record = prepare_recording(make_recording({"C3": values}, 200, **limits), make_card(**OPEN))
    assert record.bad.tolist() == [[200, 350], [3000, 3010]]
    assert not np.isnan(physical(record)).any()
    assert record.attributes["n_clipped"] == 21


def test_seconds_without_a_signal_are_warned_of_by_channel_and_reason() -> None:
    values, other = noise(60), noise(60, seed=1)
    values[1000:2500] = 3.0
    values[3000:3300] = np.nan
    values[4000:4040] = 300.0
    other[7] = np.nan
    recording = make_recording({"C3": values, "C4": other}, digital_max=3000)
    record = prepare_recording(recording, make_card(channels=["C3", "C4"], **UNLABELLED))
    assert record.attributes["warnings"] == [
        "C3: 15 s flat, 3 s missing, 0.4 s clipped",
        "C4: 0.01 s missing",
    ]


def test_what_is_missing_in_one_channel_stays_in_the_others() -> None:
    gap = noise(60)
    gap[500:600] = np.nan
    signals = {"C3": gap, "C4": noise(60, seed=1), "O1": np.full(6000, np.nan)}
    record = prepare_recording(make_recording(signals), make_card(channels=["C4", "C3"], **OPEN))
    assert np.isnan(physical(record)).sum(axis=1).tolist() == [0, 100]
    assert record.bad.tolist() == [[500, 600]]
    lost = prepare_recording(
        make_recording(signals), make_card(channels=["O1", "C4"], **OPEN, **UNLABELLED)
    )
    assert np.isnan(physical(lost)).sum(axis=1).tolist() == [6000, 0]
    assert lost.bad.tolist() == [[0, 6000]]
    assert lost.attributes["warnings"][0] == "O1: 60 s missing"
    assert lost.attributes["warnings"][1].startswith("O1 has a standard deviation of 0 uV")


def test_a_gap_of_the_reference_is_a_gap_of_the_derivation() -> None:
    reference = noise(60, seed=1)
    reference[:50] = np.nan
    recording = make_recording({"C3": noise(60), "M2": reference})
    record = prepare_recording(recording, make_card(channels=["C3-M2"], **OPEN))
    assert record.bad.tolist() == [[0, 50]]
    assert np.isnan(physical(record)[0]).sum() == 50


def test_a_tail_shorter_than_an_epoch_is_told_and_kept_without_a_label() -> None:
    recording = make_recording({"C3": noise(65)}, marks=(Mark(0, "W"),))
    record = prepare_recording(recording, make_card(**OPEN))
    assert record.label.tolist() == [0, 0]
    assert record.signal.shape == (1, 6500)
    assert record.attributes["left_out"] == ["the last 5 s, less than an epoch (stored unlabelled)"]


@pytest.mark.parametrize("change", [{"trim_s": 1.0}, {"filter_scope": "epoch"}])
def test_a_tail_is_left_out_where_only_epochs_are_kept(change: dict[str, Any]) -> None:
    record = prepare_recording(make_recording({"C3": noise(65)}), make_card(**OPEN, **change))
    assert record.attributes["left_out"] == ["the last 5 s, less than an epoch"]
    assert record.signal.shape == (1, 5600 if "trim_s" in change else 6000)


def test_a_trimmed_epoch_holds_its_samples_from_second_1_to_29() -> None:
    ramp = np.arange(9000.0)
    ramp[3150] = np.nan
    card = make_card(trim_s=1.0, **OPEN)
    record = prepare_recording(make_recording({"C3": ramp}, scale=1.0), card)
    assert record.signal.shape == (1, 3 * 2800)
    kept = [np.arange(first + 100, first + 2900) for first in (0, 3000, 6000)]
    found = np.nan_to_num(physical(record)[0], nan=3150)
    np.testing.assert_allclose(found, np.concatenate(kept), atol=0.51 * record.scale[0])
    assert record.bad.tolist() == [[2800 + 50, 2800 + 51]]
    assert len(record.label) == 3


def test_filtering_by_epoch_sees_nothing_of_the_neighbours() -> None:
    values = noise(95)
    by_epoch = make_card(band_hz=(0.3, 30), filter_scope="epoch")
    record = prepare_recording(make_recording({"C3": values}), by_epoch)
    expected = [filtered(values[s : s + 3000], 0.3, 30) for s in (0, 3000, 6000)]
    assert record.signal.shape == (1, 9000)
    np.testing.assert_allclose(
        physical(record)[0], np.concatenate(expected), atol=0.505 * record.scale[0]
    )
    whole = prepare_recording(make_recording({"C3": values}), make_card(band_hz=(0.3, 30)))
    assert np.abs(physical(whole)[0, :9000] - physical(record)[0]).max() > 1


def test_an_epoch_shorter_than_the_filters_padding_can_be_filtered() -> None:
    card = make_card(band_hz=(5, 30), epoch_s=0.2, filter_scope="epoch")
    record = prepare_recording(make_recording({"C3": noise(1)}), card)
    assert record.signal.shape == (1, 100)
    assert np.isfinite(physical(record)).all()


def test_a_recording_shorter_than_an_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x\.edf is 29.99 s long, shorter than one epoch of 30 s"):
        prepare_recording(make_recording({"C3": noise(29.99)}), make_card())


def test_values_that_the_filter_makes_infinite_are_refused() -> None:
    recording = make_recording({"C3": noise(60)}, scale=0.1)
    huge = (Channel("C3", "", 100.0, 6000, 1e38, missing=-32768),)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match="not fini"):
        prepare_recording(Recording(recording.path, huge, recording.load), make_card())


def test_warnings_of_the_reader_travel_with_the_record() -> None:
    made = make_recording({"C3": noise(60)})
    recording = Recording(made.path, made.channels, made.load, warnings=("2 are called C3",))
    record = prepare_recording(recording, make_card(**UNLABELLED))
    assert record.attributes["warnings"] == ["2 are called C3"]


def float32(values: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def none_missing(values: ArrayLike) -> NDArray[np.bool_]:
    return np.zeros(np.shape(values), bool)


def test_stored_integers_are_within_half_a_step() -> None:
    values = np.random.default_rng(0).normal(0, 40, (3, 50_000)).astype(np.float32)
    signal, scale = quantise(values, none_missing(values))
    assert signal.dtype == np.int16
    assert np.abs(signal * scale[:, None] - values).max() <= 0.505 * scale[0]
    assert scale[0] == pytest.approx(np.abs(values).max() / 32760)


def test_one_scale_serves_channels_within_a_factor_of_four() -> None:
    alike = float32([[0, 32760, 16380], [0, 8190, 16]])
    signal, scale = quantise(alike, none_missing(alike))
    assert scale.tolist() == [1.0, 1.0]
    assert signal.tolist() == [[0, 32760, 16380], [0, 8190, 16]]
    unlike = float32([[0, 32760, 16380], [0, 3276, -1638]])
    signal, scale = quantise(unlike, none_missing(unlike))
    np.testing.assert_allclose(scale, [1.0, 0.1])
    assert signal.tolist() == [[0, 32760, 16380], [0, 32760, -16380]]


def test_a_spike_is_clipped_rather_than_coarsening_the_rest() -> None:
    values = np.tile(float32([[-1, 1]]), 500)  # 99 % lie within 1, which is 2.5758 deviations
    values[0, 7] = 1e9
    signal, scale = quantise(values, none_missing(values))
    assert scale[0] == pytest.approx(600 / 2.5758 / 32760)
    assert signal[0, 6:9].tolist() == [-141, 32767, -141]  # 1 / 0.0071104 = 140.6


def test_a_steady_offset_and_a_night_unplugged_but_for_a_tenth_are_not_clipped() -> None:
    noisy = np.random.default_rng(0).normal(0, 1e-6, (1, 5000)).astype(np.float32)
    noisy[0, 4500:] *= 3e7
    for values in (36.5 + np.tile(float32([[-0.01, 0.01]]), 500), noisy):
        signal, scale = quantise(values, none_missing(values))
        np.testing.assert_allclose(signal * scale, values, atol=0.51 * scale[0])


def test_a_silent_channel_stays_silent() -> None:
    values = np.zeros((1, 10), np.float32)
    signal, scale = quantise(values, none_missing(values))
    assert signal.tolist() == [[0] * 10]
    assert scale[0] > 0
