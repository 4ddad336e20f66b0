"""Patches that PART finds out of place, and artefacts put into recordings."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from biopart.cli import main
from biopart.grid import Boxes, place, spread
from biopart.nn import ViT
from biopart.nn.normalise import Normalise
from biopart.objectives import Part
from biopart.recipe import PartSettings, Recipe
from biopart.run import Run
from biopart.signals.artefacts import KINDS, with_artefacts
from biopart.signals.readers.in_memory import recording_of_array
from biopart.store import Card, Record
from biopart.store.seen import Group, Seen, hashes_of
from biopart.studies.stage.artefacts import check_artefacts, unseen
from biopart.verbs.pretrain import pretrain
from biopart.verbs.quality import Quality, open_quality

RATE = 100.0


def quality(hint=0.0):
    torch.manual_seed(0)
    encoder = ViT((60,), (20,), 1, 16, 1, 2, position="sincos")
    return Quality(Part(encoder, PartSettings(position_hint=hint)).eval(), Normalise("window"))


def night(samples):
    signal = np.random.default_rng(0).integers(-500, 500, (1, samples)).astype(np.int16)
    return Record(signal, np.ones(1), np.zeros(0, np.int8), np.zeros((0, 2), np.int64))


def card(**values):
    given = dict.fromkeys(("name", "title", "licence", "citation"), "x")
    given |= {"recordings": ["*"], "person": "(p.)", "labels": {"kind": "none"}}
    return Card.model_validate(
        {**given, "channels": ["A"], "sfreq_hz": 10.0, "band_hz": [None, None], "epoch_s": 6.0}
        | values
    )


def test_every_whole_patch_is_seen_once_by_spread_and_place():
    """150 samples are two windows of 60, and a last one that ends with the night."""
    look, record = quality(), night(150)
    track = look.track(record, card())
    assert track["onset_s"].values.tolist() == [0, 2, 4, 6, 8, 10, 13]
    values = look.normalise(torch.from_numpy(record.signal[None, :, 60:120]))
    boxes = Boxes(torch.tensor([[[0], [20], [40]]]), torch.full((1, 3, 1), 20))
    with torch.no_grad():
        relations = look.part.relations(values, boxes).double()
    assert np.allclose(track["spread_s"][3:6], 2.0 * spread(relations)[0, :, 0])
    away = place(relations)[0, :, 0] - torch.tensor([-1.0, 0.0, 1.0])
    assert np.allclose(track["misplaced_s"][3:6], 2.0 * away.abs())


def test_a_run_with_hints_asks_for_each_patch_with_the_others_told():
    look, record = quality(hint=2 / 3), night(60)
    assert (quality().turns, look.turns, quality(hint=0.8).turns) == (1, 3, 5)
    values = look.normalise(torch.from_numpy(record.signal[None]))
    boxes = Boxes(torch.tensor([[[0], [20], [40]]]), torch.full((1, 3, 1), 20))
    with torch.no_grad():
        told = look.part.relations(values, boxes, torch.tensor([[True, False, True]])).double()
    found = look.track(record, card())["spread_s"].values[1]
    assert found == pytest.approx(2.0 * spread(told)[0, 1, 0].item())


def test_a_night_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="shorter than one window of 6 s"):
        quality().track(night(50), card())


def changed(kind, values):
    recording = recording_of_array(values[None], ["A"], sfreq_hz=RATE, unit="uV")
    rng = np.random.default_rng(0)
    found = with_artefacts(recording, ["A"], kind, onsets_s=[2.0], length_s=3.0, rng=rng)
    return found.physical(["A"])[0] - (0 if kind in ("flat", "clipped") else values)


@pytest.mark.parametrize("kind", KINDS)
def test_an_artefact_changes_its_own_seconds_alone(kind):
    values = np.random.default_rng(1).standard_normal(800) * 20
    whole = changed(kind, values) + (0 if kind in ("flat", "clipped") else values)
    outside = np.r_[0:200, 500:800]
    assert np.allclose(whole[outside], values[outside], atol=1e-4)
    assert not np.allclose(whole[200:500], values[200:500], atol=1)


def test_artefacts_are_what_their_names_say():
    rng = np.random.default_rng(1)
    values = rng.standard_normal(800) * 20
    deviation = 1.4826 * np.median(np.abs(values - np.median(values)))
    pop = changed("pop", values)
    assert abs(pop[200]) == pytest.approx(10 * deviation, rel=1e-4)
    assert pop[250] / pop[200] == pytest.approx(np.exp(-1), rel=1e-4)
    assert np.ptp(changed("flat", values)[200:500]) == 0
    assert np.abs(changed("clipped", values)[200:500] - np.median(values)).max() == pytest.approx(
        deviation / 2, rel=1e-4
    )
    burst = changed("muscle", values)[200:500]
    power = np.abs(np.fft.rfft(burst)) ** 2
    hz = np.fft.rfftfreq(300, 1 / RATE)
    assert power[(hz >= 19) & (hz <= 46)].sum() / power.sum() > 0.95
    assert burst.std() == pytest.approx(2 * deviation, rel=1e-3)
    with pytest.raises(ValueError, match="choose one of pop, flat"):
        changed("blink", values)


def test_a_sine_of_50_hz_has_an_amplitude_of_two_deviations():
    values = np.random.default_rng(1).standard_normal(2048) * 20
    recording = recording_of_array(values[None], ["A"], sfreq_hz=256.0, unit="uV")
    rng = np.random.default_rng(0)
    found = with_artefacts(recording, ["A"], "line", onsets_s=[1.0], length_s=2.0, rng=rng)
    added = (found.physical(["A"])[0] - values)[256:768]
    deviation = 1.4826 * np.median(np.abs(values - np.median(values)))
    spectrum = np.abs(np.fft.rfft(added)) / 256
    assert spectrum[100] == pytest.approx(2 * deviation, rel=1e-3)
    assert np.delete(spectrum, 100).max() < 1e-2


def test_persons_who_were_seen_are_left_out(tmp_path):
    paths = [tmp_path / f"{name}.edf" for name in ("p1", "p2", "other")]
    seen = Seen({card().name: Group(hashes_of(["p1"]))})
    assert unseen(paths, card(), seen) == paths[1:]


@pytest.fixture(scope="module")
def run(simulated_store, tmp_path_factory):
    recipe = Recipe.model_validate(
        {
            "data": {"store": str(simulated_store)},
            "split": {"test_persons": 2, "validation_persons": 1},
            "encoder": {"patch": [100], "dim": 16, "depth": 1, "heads": 2},
            "pretrain": {"objective": {"name": "part", "patches": 8, "pairs": 8}, "steps": 1}
            | {"batch": 8, "warmup_epochs": 0},
            "compute": {"precision": "float32", "threads": 1},
        }
    )
    return pretrain(recipe, out=tmp_path_factory.mktemp("runs") / "run", latest=False)


def test_the_amplitude_finds_muscles_and_not_what_the_filter_takes_away(run, simulated_raw):
    """50 Hz is above the band of 0.1 to 30 Hz; the deviation of a second sees a burst of 20-45."""
    found = check_artefacts(run, simulated_raw)
    assert found["n_nights"] == 3  # the one that trained is left out
    assert set(found["auc"]) == set(KINDS)
    amplitude = {kind: of["amplitude"] for kind, of in found["auc"].items()}
    assert amplitude["muscle"][1] > amplitude["line"][2]
    assert amplitude["line"][1] < 0.5 < amplitude["line"][2]
    assert amplitude["flat"][2] < 0.5 < found["auc"]["flat"]["amplitude_change"][1]
    for of_kind in found["auc"].values():
        assert all(low <= mean_ <= high for mean_, low, high in of_kind.values())


def test_what_has_no_quality_is_refused(run, tmp_path, small_recipe, simulated_store):
    small_recipe["pretrain"] |= {"objective": {"name": "mae", "decoder_dim": 16}, "steps": 1}
    other = pretrain(Recipe.model_validate(small_recipe), out=tmp_path / "mae", latest=False)
    with pytest.raises(ValueError, match=r"pretrained by mae, .*; --quality needs"):
        open_quality(other)
    for arguments, message in (
        ([simulated_store, "--artefacts", tmp_path], "--artefacts needs a run; "),
        (["demo", "--artefacts", tmp_path], "needs a run; demo is not a run"),
    ):
        answer = CliRunner().invoke(main, ["check", *map(str, arguments)])
        assert answer.exit_code == 2
        assert message in " ".join(answer.output.split())
    assert isinstance(run, Run)
