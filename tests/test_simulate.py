"""Simulated cohorts: real formats to the byte, and physiology that differs by stage."""

import struct
import warnings
from collections import Counter
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edfio import read_edf
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.signal import welch

from biopart.signals.simulate import SimulatedNight, simulate_cohort, simulate_night
from biopart.signals.simulate_course import Course, Event, draw_course, draw_person, draw_stages
from biopart.signals.simulate_tracks import SFREQ_HZ, event_gain, shaped_noise, upsample

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame")
    import wfdb

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")

SETTINGS: dict[str, Any] = {"persons": 2, "hours": 0.25, "seed": 3}
NAMES = "F3-M2 F4-M1 C3-M2 C4-M1 O1-M2 O2-M1 E1-M2 Chin1-Chin2 ABD CHEST AIRFLOW SaO2 ECG"


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "wfdb"
    simulate_cohort(folder, **SETTINGS)
    return folder


@pytest.fixture(scope="session")
def edf_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "edf"
    simulate_cohort(folder, **SETTINGS, kind="edf", channels=["ECG", "C4-M1", "SaO2"])
    return folder


@pytest.fixture(scope="session")
def short() -> SimulatedNight:
    return simulate_night(3, 0, 0.25)


@pytest.fixture(scope="session")
def hour() -> SimulatedNight:
    """Return one hour in which all five stages last for some minutes."""
    return simulate_night(0, 2, 1.5)


@pytest.fixture(scope="session")
def record(cohort: Path) -> str:
    return str(cohort / "training" / "tr03-0005" / "tr03-0005")


def test_the_layout_is_that_of_physionet_2018(cohort: Path) -> None:
    found = sorted(str(path.relative_to(cohort)) for path in cohort.rglob("*") if path.is_file())
    records = ("tr03-0005", "tr03-0006")
    files = [f"training/{r}/{r}.{end}" for r in records for end in ("arousal", "hea", "mat")]
    assert found == sorted(["SIMULATED.txt", "age-sex.csv", "training/RECORDS", *files])
    assert (cohort / "training" / "RECORDS").read_text() == "tr03-0005/\ntr03-0006/\n"
    lines = (cohort / "age-sex.csv").read_text().splitlines()
    night = simulate_night(3, 0, 0.25)
    assert lines[:2] == ["Record,Age,Sex", f"tr03-0005,{night.age},{night.sex}"]
    assert "seed=3 persons=2 hours=0.25" in (cohort / "SIMULATED.txt").read_text()


def test_the_matlab_header_is_24_bytes_of_level_4(record: str, short: SimulatedNight) -> None:
    raw = Path(record + ".mat").read_bytes()
    assert struct.unpack("<5i4s", raw[:24]) == (30, 13, 180_000, 0, 4, b"val\0")
    assert len(raw) == 24 + 2 * 13 * 180_000
    first = struct.unpack("<13h", raw[24:50])
    assert first[1] == round(float(short.signals[1, 0]) * 30) - 40
    assert first[12] == round(float(short.signals[12, 0]) * 8000) + 350


def test_the_header_names_format_offset_gain_and_baseline(record: str) -> None:
    lines = Path(record + ".hea").read_text().splitlines()
    assert lines[0] == "tr03-0005 13 200 180000"
    assert lines[2].startswith("tr03-0005.mat 16+24 30(-40)/uV 16 0 ")
    assert lines[12].startswith("tr03-0005.mat 16+24 300(0)/% 16 0 ")
    assert [line.split()[-1] for line in lines[1:14]] == NAMES.split()
    assert "simulated" in lines[14]


def test_the_checksum_is_the_signed_16_bit_sum(record: str) -> None:
    header = wfdb.rdheader(record)
    digital = wfdb.rdrecord(record, physical=False).d_signal
    sums = (digital.astype(np.int64).sum(0) + 2**15) % 2**16 - 2**15
    assert sums.tolist() == header.checksum
    assert digital[0].tolist() == header.init_value


def test_wfdb_reads_the_simulated_values(record: str, short: SimulatedNight) -> None:
    read = wfdb.rdrecord(record)
    steps = 1 / np.array([30] * 8 + [20] * 3 + [300, 8000])
    assert np.all(np.abs(read.p_signal.T - short.signals).max(1) <= 0.51 * steps)
    assert read.units == ["uV"] * 11 + ["%", "mV"]


def test_scipy_reads_the_same_integers(record: str) -> None:
    values = loadmat(record + ".mat")["val"]
    assert values.shape == (13, 180_000)
    assert np.array_equal(values, wfdb.rdrecord(record, physical=False).d_signal.T)


def test_stage_marks_follow_an_unscored_lead_in(record: str, short: SimulatedNight) -> None:
    marks = wfdb.rdann(record, "arousal")
    stages = [(s, n) for s, n in zip(marks.sample, marks.aux_note, strict=True) if len(n) < 3]
    assert 6 * 60 * 200 <= stages[0][0] == short.lead_in_s * 200 <= 9 * 60 * 200
    edges = [*(sample for sample, _ in stages), 180_000]
    counts = [ceil(samples / 6000) for samples in np.diff(edges)]
    names = np.array(["W", "N1", "N2", "N3", "R"])[short.stages]
    assert np.repeat([note for _, note in stages], counts).tolist() == names.tolist()


def test_event_marks_are_balanced_pairs(record: str) -> None:
    marks = wfdb.rdann(record, "arousal")
    assert np.all(np.diff(marks.sample) >= 0)
    opened: Counter[str] = Counter()
    for note in marks.aux_note:
        if note.startswith("("):
            opened[note[1:]] += 1
        elif note.endswith(")"):
            opened[note[:-1]] -= 1
        assert min(opened.values(), default=0) >= 0
    assert not any(opened.values())
    assert {kind.split("_")[0] for kind in opened} == {"arousal", "resp"}


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_persons(
    cohort: Path, record: str, tmp_path: Path
) -> None:
    simulate_cohort(tmp_path, **{**SETTINGS, "persons": 1})
    for end in (".hea", ".mat", ".arousal"):
        again = tmp_path / "training" / "tr03-0005" / f"tr03-0005{end}"
        assert again.read_bytes() == Path(record + end).read_bytes()
    other = cohort / "training" / "tr03-0006" / "tr03-0006.mat"
    assert other.read_bytes() != Path(record + ".mat").read_bytes()


def test_another_seed_is_another_person() -> None:
    assert not np.array_equal(simulate_night(4, 0, 0.2).signals, simulate_night(5, 0, 0.2).signals)


def test_a_finished_night_is_not_made_again(tmp_path: Path) -> None:
    settings = {**SETTINGS, "hours": 0.2}
    files = simulate_cohort(tmp_path, **settings)
    before = files[0].stat().st_mtime_ns
    files[1].unlink()
    files[1].with_suffix(".mat").unlink()
    files[1].with_suffix(".arousal").unlink()
    lines: list[str] = []
    assert simulate_cohort(tmp_path, **settings, report=lines.append) == files
    assert files[0].stat().st_mtime_ns == before
    assert files[1].with_suffix(".mat").is_file()
    assert lines == ["tr03-0005: night 1 of 2", "tr03-0006: night 2 of 2"]


def test_foreign_files_are_never_written_among(tmp_path: Path, cohort: Path) -> None:
    (tmp_path / "recording.edf").touch()
    with pytest.raises(ValueError, match="not simulated; choose an empty folder"):
        simulate_cohort(tmp_path, **SETTINGS)
    with pytest.raises(ValueError, match="other simulated nights"):
        simulate_cohort(cohort, **{**SETTINGS, "seed": 4})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": ["C3-M2", "Cz"]}, "channels has Cz; choose some of F3-M2, .* ECG"),
        ({"channels": ["ECG", "ECG"]}, "each at most once"),
        ({"channels": []}, "channels has nothing"),
        ({"persons": 0}, "simulate at least 1"),
        ({"kind": "bdf"}, "kind is 'bdf'; write 'wfdb' or 'edf'"),
        ({"hours": 0.1}, "hours is 0.1; a night lasts 0.2 to 24 hours"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_written(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_cohort(tmp_path / "new", **{**SETTINGS, **changed})
    assert not (tmp_path / "new").exists()


def test_channels_choose_and_order_the_signals_of_wfdb(tmp_path: Path) -> None:
    (file,) = simulate_cohort(
        tmp_path, persons=1, hours=0.2, seed=0, channels=["O2-M1", "Chin1-Chin2", "F3-M2"]
    )
    read = wfdb.rdrecord(str(file.with_suffix("")))
    assert read.sig_name == ["O2-M1", "Chin1-Chin2", "F3-M2"]
    expected = simulate_night(0, 0, 0.2).signals[[5, 7, 0]]
    assert np.abs(read.p_signal.T - expected).max() < 1 / 30


def test_edf_reads_back_within_one_step(edf_cohort: Path, short: SimulatedNight) -> None:
    edf = read_edf(edf_cohort / "tr03-0005-PSG.edf")
    assert [s.label for s in edf.signals] == ["ECG", "C4-M1", "SaO2"]
    assert [s.physical_dimension for s in edf.signals] == ["mV", "uV", "%"]
    for signal, row, step in zip(
        edf.signals, (12, 3, 11), (1 / 8000, 1 / 30, 1 / 300), strict=True
    ):
        assert np.abs(signal.data - short.signals[row]).max() <= 0.51 * step
    assert edf.patient.name == "X"
    assert edf.recording.equipment_code == "simulated"


def test_edf_hypnogram_durations_fill_the_night(edf_cohort: Path, short: SimulatedNight) -> None:
    runs = read_edf(edf_cohort / "tr03-0005-Hypnogram.edf").annotations
    assert (runs[0].onset, runs[0].duration, runs[0].text) == (0, short.lead_in_s, "Sleep stage ?")
    assert sum(run.duration or 0 for run in runs) == 900
    ends = [run.onset + (run.duration or 0) for run in runs]
    assert ends[:-1] == [run.onset for run in runs[1:]]
    covered = dict.fromkeys(["W", "N1", "N2", "N3", "R"], 0.0)
    for run in runs[1:]:
        covered[run.text.removeprefix("Sleep stage ")] += run.duration or 0
    seconds = Counter(np.array(["W", "N1", "N2", "N3", "R"])[short.stages].tolist())
    assert all(abs(covered[name] - 30 * n) < 30 for name, n in seconds.items())


def band_power(night: SimulatedNight, stage: int, channel: str, band: tuple[float, float]) -> float:
    """Return the median over epochs of the power of one stage in a band, in uV^2."""
    row = night.signals[night.names.index(channel)]
    scored = row[night.lead_in_s * 200 :]
    epochs = scored[: len(scored) // 6000 * 6000].reshape(-1, 6000)
    chosen = epochs[night.stages[: len(epochs)] == stage]
    hz, power = welch(chosen, 200, nperseg=800)
    inside = (hz >= band[0]) & (hz <= band[1])
    return float(np.median(power[:, inside].sum(-1) * 0.25))


def test_the_hour_has_enough_of_every_stage(hour: SimulatedNight) -> None:
    assert np.bincount(hour.stages, minlength=5).min() >= 8


def test_bands_differ_by_stage_as_in_sleep(hour: SimulatedNight) -> None:
    assert band_power(hour, 3, "F3-M2", (0.5, 2)) > 5 * band_power(hour, 0, "F3-M2", (0.5, 2))
    assert band_power(hour, 2, "C3-M2", (12, 15)) > 2 * band_power(hour, 0, "C3-M2", (12, 15))
    assert band_power(hour, 1, "C3-M2", (4, 7)) > band_power(hour, 0, "C3-M2", (4, 7))
    assert band_power(hour, 0, "O1-M2", (8, 12)) > 5 * band_power(hour, 4, "O1-M2", (8, 12))
    assert band_power(hour, 0, "O1-M2", (8, 12)) > 3 * band_power(hour, 0, "F3-M2", (8, 12))
    chin = [band_power(hour, stage, "Chin1-Chin2", (20, 90)) for stage in (0, 2, 4)]
    assert chin[0] > chin[1] > chin[2]
    eyes = [band_power(hour, stage, "E1-M2", (0.2, 2)) for stage in (4, 2)]
    assert eyes[0] > eyes[1]


@pytest.mark.parametrize("person", [0, 1, 2, 3])
def test_alpha_of_wake_peaks_at_the_frequency_of_the_person(person: int) -> None:
    night = simulate_night(0, person, 0.2)
    assert 8.5 <= night.alpha_hz <= 11.5
    hz, power = welch(night.signals[4, : night.lead_in_s * 200], 200, nperseg=1600)
    inside = (hz >= 8) & (hz <= 12.2)
    above = np.clip(power[inside] - np.median(power[inside]), 0, None)
    assert np.sum(hz[inside] * above) / above.sum() == pytest.approx(night.alpha_hz, abs=0.35)


def test_eeg_has_the_scale_of_sleep_eeg(hour: SimulatedNight, short: SimulatedNight) -> None:
    for night in (hour, short):
        deviation = night.signals[:6].std(1)
        assert deviation.min() > 5
        assert deviation.max() < 100
        assert np.isfinite(night.signals).all()
        assert 70 <= night.signals[11].min() <= night.signals[11].max() <= 100


def test_slow_waves_of_deep_sleep_exceed_75_uv(hour: SimulatedNight) -> None:
    scored = hour.signals[0, hour.lead_in_s * 200 :]
    epochs = scored[: len(scored) // 6000 * 6000].reshape(-1, 15, 400)
    deep = epochs[hour.stages[: len(epochs)] == 3]
    assert np.mean(np.ptp(deep, axis=-1) > 75) > 0.8


def test_a_stage_boundary_has_no_edge(hour: SimulatedNight) -> None:
    jumps = np.abs(np.diff(hour.signals[:6], axis=1)).max(0)
    change = np.flatnonzero(np.diff(hour.stages)) + 1
    at_edges = jumps[(hour.lead_in_s + 30 * change) * 200 - 1]
    assert at_edges.max() < np.quantile(jumps, 0.999)


def test_the_heart_beats_at_a_human_rate(hour: SimulatedNight) -> None:
    ecg = hour.signals[12]
    beats = np.flatnonzero((ecg[1:] > 0.6) & (ecg[:-1] <= 0.6))
    rate = 60 * len(beats) / (len(ecg) / 200)
    assert 45 < rate < 95


def test_an_apnoea_stops_the_airflow_and_lowers_the_saturation() -> None:
    night = simulate_night(0, 7, 1.5)
    event = next(e for e in night.events if e.kind == "resp_obstructiveapnea")
    flow, saturation = night.signals[10], night.signals[11]
    inside = slice(int(event.start_s + 2) * 200, int(event.stop_s - 2) * 200)
    before = slice(int(event.start_s - 20) * 200, int(event.start_s - 1) * 200)
    assert flow[inside].std() < 0.3 * flow[before].std()
    assert saturation[int(event.stop_s + 12) * 200] < saturation[int(event.start_s) * 200] - 2


def test_most_short_nights_have_all_five_stages() -> None:
    nights = [draw_stages(np.random.default_rng(seed), 80) for seed in range(60)]
    complete = sum(len(np.unique(stages)) == 5 for stages in nights)
    assert complete >= 45
    assert all(stages[0] == 0 for stages in nights)


def test_a_night_without_sleep_has_no_events() -> None:
    nights = [draw_course(np.random.default_rng(seed), 600) for seed in range(30)]
    awake = [night for night in nights if not night.stages.any()]
    assert awake
    assert not any(night.events for night in awake)


def test_deep_sleep_is_early_and_rem_late() -> None:
    stages = np.stack([draw_stages(np.random.default_rng(seed), 960) for seed in range(20)])
    first, last = stages[:, :480], stages[:, 480:]
    assert (first == 3).mean() > 1.5 * (last == 3).mean()
    assert (last == 4).mean() > 1.3 * (first == 4).mean()
    follows = set(zip(stages[:, :-1].ravel().tolist(), stages[:, 1:].ravel().tolist(), strict=True))
    assert not follows & {(0, 3), (1, 3), (4, 3)}


def test_shaped_noise_has_unit_variance_in_its_band_only() -> None:
    track = shaped_noise(np.random.default_rng(0), 100_000, (8.0, 12.0), 0.0)
    assert track.std() == pytest.approx(1, abs=0.03)
    hz, power = welch(track, SFREQ_HZ, nperseg=2000)
    assert power[(hz > 7) & (hz < 13)].sum() > 0.99 * power.sum()


def test_upsampling_is_linear_with_ten_samples_per_step() -> None:
    values: NDArray[np.float64] = np.array([0.0, 1.0, 0.0])
    expected = [i / 10 for i in range(10)] + [1 - i / 10 for i in range(10)]
    assert upsample(values) == pytest.approx(expected, abs=1e-6)


def test_an_event_gain_rises_within_a_second() -> None:
    person = draw_person(np.random.default_rng(0))
    event = Event("arousal_rera", 10.0, 15.0)
    gain = event_gain(Course(person, 30, 0, np.zeros(1, np.int8), (event,)), "arousal")
    assert gain[20 * 9] == pytest.approx(0, abs=1e-6)
    assert gain[20 * 12] == pytest.approx(1, abs=1e-6)
    assert 0.4 < gain[20 * 10] < 0.6
    assert np.abs(np.diff(gain)).max() <= 0.101
