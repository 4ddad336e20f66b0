"""A recording: scaling without loss, names, units."""

from pathlib import Path

import numpy as np
import pytest

from biopart.signals.recording import Channel, Recording, to_physical, unique_names
from biopart.signals.units import is_electrode, is_known_unit, unit_name


def a_recording(values: list[np.ndarray], **fields: object) -> Recording:
    channels = tuple(
        Channel(f"C{index}", "uV", 100.0, len(value), 0.5, **fields)  # type: ignore[arg-type]
        for index, value in enumerate(values)
    )
    return Recording(Path("night.edf"), channels, lambda indices: [values[i] for i in indices])


def test_physical_values_are_digital_times_scale_plus_offset() -> None:
    recording = a_recording([np.array([-2, 0, 7], np.int16)], offset=10.0)
    (values,) = recording.physical(["C0"])
    assert values.dtype == np.float32
    assert values.tolist() == [9.0, 10.0, 13.5]


def test_missing_samples_are_nan() -> None:
    recording = a_recording([np.array([1, -32768, 3], np.int16)], missing=-32768)
    np.testing.assert_array_equal(recording.physical(["C0"])[0], [0.5, np.nan, 1.5])


def test_channels_come_in_the_order_that_is_asked_for() -> None:
    recording = a_recording([np.array([1], np.int16), np.array([2], np.int16)])
    assert [int(value[0]) for value in recording.digital(["C1", "C0", "C1"])] == [2, 1, 2]


@pytest.mark.parametrize("step", [1, 2**7, 2**23 - 1, 2**31 - 1])
def test_no_step_of_a_wide_source_is_lost(step: int) -> None:
    channel = Channel("C3", "uV", 100.0, 2, 0.022351744)
    first, second = to_physical(np.array([step - 1, step], np.int32), channel)
    assert (second - first) == pytest.approx(0.022351744, rel=1e-6)


def test_an_offset_far_from_the_values_is_scaled_in_double_precision() -> None:
    channel = Channel("Pressure", "Pa", 1.0, 2, 0.001, 101325.0)
    values = to_physical(np.array([0, 1], np.int16), channel)
    assert values[1] - values[0] == pytest.approx(0.001, rel=1e-6)


def test_an_absent_channel_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ValueError, match=r"night.edf has no channel 'F3'; it has C0\."):
        a_recording([np.zeros(1, np.int16)]).physical(["F3"])


def test_duration_is_that_of_the_longest_signal() -> None:
    assert a_recording([np.zeros(150, np.int16), np.zeros(250, np.int16)]).duration_s == 2.5
    assert a_recording([]).duration_s == 0.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *(("µV", "uV"), ("μV", "uV"), (" UV", "uV"), ("MV", "mV"), ("v", "V"), ("mmHg ", "mmHg")),
        *(("microV", "uV"), ("uVolt", "uV"), ("mVolt", "mV"), ("Volt", "V"), ("nV", "nV")),
        *((".V", "uV"), ("ÂµV", "uV"), ("?V", "uV"), ("[uV]", "uV"), ("MicroVolts", "uV")),
        *(("kV", "kV"), ("uV/cm", "uV/cm"), ("", "")),
    ],
)
def test_volts_are_spelt_in_one_way(given: str, expected: str) -> None:
    assert unit_name(given) == expected


def test_spellings_that_are_no_known_unit_are_told_from_known_ones() -> None:
    assert [is_known_unit(unit) for unit in ("uV", "%", "", "mmHg", "kV", "uV/cm")] == [
        *(True, True, True, True, False, False)
    ]


def test_electrodes_are_known_by_their_names() -> None:
    names = ["C3", "EEG C3-A2", "Fpz-Cz", "E1-M2", "SaO2", "AIRFLOW", "audio", "heart_rate", "Flow"]
    assert [is_electrode(name) for name in names] == [True] * 4 + [False] * 5


def test_a_new_name_never_meets_one_that_is_there() -> None:
    names, warnings = unique_names(["A", "A", "A-1", "A"])
    assert names == ("A", "A-2", "A-1", "A-3")
    assert warnings == ("3 channels are called A: read as A, A-2, A-3.",)


def test_channels_without_a_name_get_one() -> None:
    names, warnings = unique_names(["", "C3", ""])
    assert names == ("unnamed", "C3", "unnamed-1")
    assert warnings == ("Channels without a name: read as unnamed, unnamed-1.",)
