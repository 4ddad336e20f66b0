"""Missing, flat and clipped stretches, to the sample."""

from itertools import groupby

import numpy as np
import pytest

from biopart.signals.bad import bad_samples, flat_runs, segments
from biopart.signals.recording import Channel


def channel(sfreq_hz: float = 100.0, **limits: int) -> Channel:
    return Channel("C3", "uV", sfreq_hz, 0, 1.0, **limits)


def lively(samples: int) -> np.ndarray:
    """Make a signal of which no two neighbours are equal."""
    return np.arange(samples, dtype=np.int16) % 7


@pytest.mark.parametrize(("length", "found"), [(100, []), (101, [[250, 351]]), (400, [[250, 650]])])
def test_a_stretch_is_flat_if_it_is_longer_than_a_second(
    length: int, found: list[list[int]]
) -> None:
    digital = lively(1000)
    digital[250 : 250 + length] = 77
    result = bad_samples(digital, channel())
    assert segments(result.marked).tolist() == found
    assert not result.missing.any()
    assert result.clipped == 0


def test_flat_runs_are_those_of_a_slow_count() -> None:
    rng = np.random.default_rng(0)
    digital = np.repeat(rng.integers(0, 3, 600), rng.integers(1, 9, 600)).astype(np.int16)
    for longer_than in (1, 2, 5, 13):
        runs, start = [], 0
        for _, group in groupby(digital.tolist()):
            stop = start + len(list(group))
            runs += [[start, stop]] if stop - start > longer_than else []
            start = stop
        assert flat_runs(digital, longer_than).tolist() == runs


@pytest.mark.parametrize("samples", [0, 1, 49, 50])
def test_a_signal_shorter_than_a_second_has_no_flat_run(samples: int) -> None:
    assert flat_runs(np.zeros(samples, np.int16), 100).tolist() == []


@pytest.mark.parametrize("limit", [-2048, 2047])
def test_five_hundredths_of_a_second_at_a_limit_are_clipped(limit: int) -> None:
    digital = lively(200)
    digital[50:55] = limit
    digital[100:104] = limit  # counted, too short to be marked
    result = bad_samples(digital, channel(digital_min=-2048, digital_max=2047))
    assert segments(result.marked).tolist() == [[50, 55]]
    assert result.clipped == 9


def test_nothing_is_clipped_where_no_limit_is_stated() -> None:
    digital = lively(200)
    digital[50:60] = 32767
    result = bad_samples(digital, channel())
    assert result.clipped == 0
    assert not result.marked.any()


def test_missing_samples_are_marked_however_few_and_never_clipped() -> None:
    digital = lively(300)
    digital[[10, 11, 12, 13, 14, 15, 20]] = -32768
    limits = {"digital_min": -32768, "digital_max": 32767}
    result = bad_samples(digital, channel(missing=-32768, **limits))
    assert segments(result.missing).tolist() == [[10, 16], [20, 21]]
    assert segments(result.marked).tolist() == [[10, 16], [20, 21]]
    assert result.clipped == 0


@pytest.mark.parametrize(
    ("mask", "found"),
    [("", []), ("000", []), ("111", [[0, 3]]), ("1001", [[0, 1], [3, 4]]), ("0110", [[1, 3]])],
)
def test_segments_are_start_and_stop(mask: str, found: list[list[int]]) -> None:
    result = segments(np.array([bit == "1" for bit in mask], dtype=bool))
    assert result.tolist() == found
    assert result.shape == (len(found), 2)


def test_each_marked_sample_counts_under_one_reason() -> None:
    digital = lively(2000)
    digital[100:400] = 50
    digital[600:800] = -9
    digital[1000:1300] = 99
    digital[1500] = 99
    result = bad_samples(digital, channel(digital_max=99, missing=-9))
    assert result.stretches == {"flat": 300, "missing": 200, "clipped": 300}
    assert int(result.marked.sum()) == 800
    assert result.clipped == 301
