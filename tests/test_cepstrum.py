"""Sound as cepstral coefficients: where frames lie, what they hold, and what is refused."""

import importlib.util
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.io import wavfile

from biopart.data import open_cohort
from biopart.nn import Model
from biopart.recipe import Recipe
from biopart.signals import ingest
from biopart.signals.readers import open_recording
from biopart.store import load_card
from biopart.store.card import Cepstrum
from biopart.verbs.embed import embed
from biopart.verbs.pretrain import pretrain

RATE = 16000


def write(path: Path, sound: NDArray[np.floating], rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, np.rint(sound * 32767).astype(np.int16))
    return path


def frames(path: Path, **settings: Any) -> NDArray[np.float64]:
    """Return the coefficients of a file, (coefficient, frame)."""
    recording = open_recording(path, Cepstrum(**settings))
    assert {channel.sfreq_hz for channel in recording.channels} == {100.0}
    return np.stack(recording.physical(recording.names)).astype(np.float64)


def test_a_click_is_in_the_frames_around_it(tmp_path: Path) -> None:
    sound = np.zeros(RATE)
    sound[8000] = 0.5
    found = frames(write(tmp_path / "a.wav", sound))
    assert found.shape == (40, 100)
    loud = np.flatnonzero(found[0] > found[0].min() + 1e-3)
    # Frame f has samples 160 f - 160 to 160 f + 320; a window is 0 at its first sample.
    assert loud.tolist() == [f for f in range(100) if 160 * f - 160 < 8000 < 160 * f + 320]


@pytest.mark.parametrize("tone_hz", [300.0, 3000.0])
def test_coefficients_hold_the_mel_spectrum_of_the_sound(tmp_path: Path, tone_hz: float) -> None:
    sound = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(RATE) / RATE)
    found = frames(write(tmp_path / "a.wav", sound))
    level_db = librosa.feature.inverse.mfcc_to_mel(found, n_mels=40)[:, 50]
    window = np.hanning(481)[:480]
    power = np.abs(np.fft.rfft(window * sound[7840:8320])) ** 2
    expected = librosa.filters.mel(sr=RATE, n_fft=480, n_mels=40, fmin=20, fmax=4000) @ power
    assert level_db.argmax() == expected.argmax()
    loud = expected > expected.max() * 1e-4
    np.testing.assert_allclose(level_db[loud], expected[loud], rtol=0.02)


def test_a_short_sound_is_filled_with_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, RATE // 2))
    assert frames(path).shape == (40, 50)
    padded = frames(path, pad_s=1.0, coefficients=13)
    assert padded.shape == (13, 100)
    assert np.ptp(padded[:, 52:], axis=1).max() == 0  # frame 51 reaches back to sample 8000
    assert (padded[0, :51] > padded[0, 52] + 1).all()


def test_two_channels_of_sound_are_averaged(tmp_path: Path) -> None:
    left, right = np.random.default_rng(0).uniform(-0.5, 0.5, (2, RATE))
    both = frames(write(tmp_path / "a.wav", np.stack([left, right], 1)))
    mean = frames(write(tmp_path / "b.wav", (left + right) / 2))
    np.testing.assert_allclose(both, mean, atol=0.1)


@pytest.mark.parametrize(
    ("rate", "samples", "message"),
    [
        (11025, 11025, "a.wav has 11025 samples per second: 0.01 s is not a whole number of them"),
        (RATE, 100, "a.wav is shorter than a step of 0.01 s"),
        (4000, 4000, "a.wav has 4000 samples per second, too few for bands up to 4000 Hz"),
    ],
)
def test_sounds_that_do_not_fit_are_refused(
    tmp_path: Path, rate: int, samples: int, message: str
) -> None:
    path = write(tmp_path / "a.wav", np.full(samples, 0.1), rate)
    with pytest.raises(ValueError, match=message):
        open_recording(path, Cepstrum())


def test_without_librosa_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "biopart\[speech\]"'):
        open_recording(write(tmp_path / "a.wav", np.zeros(RATE)), Cepstrum())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_s": 0.04}, "step_s 0.04 is longer than frame_s 0.03"),
        ({"bands": 20}, "20 bands have at most 20 coefficients, not 40"),
        ({"low_hz": 5000}, "high_hz 4000 is not above low_hz 5000"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Cepstrum(**settings)


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Three recordings of two speakers, and one of noise, in the layout of Speech Commands."""
    rng = np.random.default_rng(0)
    for name in ("yes/0a7c2a8d_nohash_0", "no/0a7c2a8d_nohash_0", "bed/00f0204f_nohash_3"):
        write(tmp_path / "raw" / f"{name}.wav", rng.uniform(-0.1, 0.1, 14000))
    return tmp_path


def test_a_card_of_frames_has_their_rate() -> None:
    with pytest.raises(ValueError, match="has 100 frames per second; set sfreq_hz to that"):
        load_card("speech_commands", ["sfreq_hz=50"])


def test_speech_commands_in_its_published_layout(commands: Path) -> None:
    tmp_path, rng = commands, np.random.default_rng(1)
    write(tmp_path / "raw" / "_background_noise_/running_tap.wav", rng.uniform(-0.1, 0.1, 30000))
    report = ingest(load_card("speech_commands"), tmp_path / "raw", tmp_path / "out.zarr")
    assert not report.refused
    cohort = open_cohort(tmp_path / "out.zarr")
    names = ("bed_00f0204f_nohash_3", "no_0a7c2a8d_nohash_0", "yes_0a7c2a8d_nohash_0")
    assert cohort.records == names
    assert list(cohort.persons.values()) == ["00f0204f", "0a7c2a8d", "0a7c2a8d"]
    batch = cohort.source(labelled=True)[:]
    assert [cohort.label_names[code] for code in batch.label.tolist()] == ["unknown", "no", "yes"]
    assert batch.values.shape == (3, 40, 100)
    again = ingest(load_card("speech_commands"), tmp_path / "raw", tmp_path / "out.zarr")
    assert sorted(again.kept) == sorted(names)


def test_a_model_of_coefficients_reads_sound_as_its_store_did(commands: Path) -> None:
    ingest(load_card("speech_commands"), commands / "raw", commands / "out.zarr")
    settings = {
        **{"name": "speech", "data": {"store": str(commands / "out.zarr")}},
        **{"split": {"test_persons": 1, "validation_persons": 0}},
        "encoder": {"patch": [1], "dim": 8, "depth": 1, "heads": 2, "mlp_ratio": 2, "dropout": 0.1},
        "pretrain": {"objective": {"name": "mp3", "position_hint": 0.05}, "steps": 1, "batch": 2},
        "compute": {"precision": "float32", "threads": 1},
    }
    recipe = Recipe.model_validate(settings)
    run = pretrain(recipe, out=commands / "run", latest=False)
    encoder = Model.load(run).encoder
    assert encoder.arguments["mlp_ratio"] == 2.0
    assert encoder.state_dict()["blocks.0.mlp.fc1.weight"].shape == (16, 8)
    embed(run, commands / "out.zarr", commands / "store", device="cpu")
    file = commands / "raw/no/0a7c2a8d_nohash_0.wav"
    embed(run, file, commands / "file", device="cpu")
    of_store, of_file = (
        xr.open_zarr(commands / name, consolidated=False) for name in ("store", "file")
    )
    np.testing.assert_allclose(of_file["embedding"][0], of_store["embedding"][1], atol=1e-5)
    assert of_file["record"].attrs["names"] == ["no_0a7c2a8d_nohash_0"]
    with pytest.raises(FileNotFoundError, match=r"no\.wav does not exist"):
        embed(run, commands / "no.wav", commands / "none", device="cpu")
