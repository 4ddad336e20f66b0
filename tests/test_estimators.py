"""Estimators keep scikit-learn's contract, take runs, and go through its cross-validation."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import biopart
from biopart import Embedder, SleepStager
from biopart.estimators import patch_of
from biopart.verbs.embed import embed


@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks provoke warnings
@pytest.mark.parametrize(
    "estimator",
    [
        SleepStager(dim=16, depth=1, epochs=15, lr=5e-3, normalise="none"),
        Embedder(dim=8, depth=1, epochs=2, normalise="none"),
    ],
    ids=["SleepStager", "Embedder"],
)
def test_every_check_of_scikit_learn_passes(estimator):
    results = check_estimator(estimator, on_fail=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) >= 45


@pytest.fixture(scope="module")
def windows(small_store):
    """Windows (W, C, T) of eight persons, whose two classes are two frequencies."""
    source = biopart.open_cohort(small_store).source(labelled=True)
    batch = source.__getitems__(range(len(source)))
    known = batch.label.numpy() < 2
    persons = np.array(batch.person)[known]
    return batch.values.numpy()[known].astype(float), batch.label.numpy()[known], persons


def test_persons_are_held_out_by_scikit_learns_own_splitter(windows):
    values, label, persons = windows
    names = np.array(["W", "N1"])[label]
    stager = SleepStager(patch=20, dim=32, depth=1, epochs=20, lr=3e-3)
    predicted = cross_val_predict(stager, values, names, groups=persons, cv=GroupKFold(2))
    assert (predicted == names).mean() > 0.95  # 2 Hz and 6 Hz


def test_an_embedder_stands_in_a_pipeline(windows):
    values, label, persons = windows
    pipeline = make_pipeline(
        Embedder(patch=20, dim=16, depth=1, epochs=1), LogisticRegression(max_iter=1000)
    )
    scores = cross_val_score(clone(pipeline), values, label, groups=persons, cv=GroupKFold(3))
    assert scores.mean() > 0.5 + 3 * (0.25 / len(values)) ** 0.5  # three errors above chance
    assert len(pipeline.fit(values, label)[0].get_feature_names_out()) == 16


def test_a_runs_encoder_embeds_as_the_command_does(small_run, small_store, windows, tmp_path):
    embed(small_run, small_store, tmp_path / "e", device="cpu")
    expected = xr.open_zarr(tmp_path / "e", consolidated=False)["embedding"].values
    source = biopart.open_cohort(small_store).source(keep_bad=True)
    values = source.__getitems__(range(len(source))).values.numpy().astype(float)
    found = Embedder(small_run.path).fit(values[:5]).transform(values)
    assert np.allclose(found, expected, atol=1e-5)


def test_a_stager_starts_from_a_runs_encoder(small_run, windows):
    values, label, _ = windows
    start = SleepStager(small_run.path, epochs=1, lr=1e-12).fit(values, label)
    alone = SleepStager(patch=20, dim=16, depth=1, epochs=1, lr=1e-12).fit(values, label)
    encoder = biopart.Model.load(small_run.encoder).encoder
    name = "patch_embed.proj.weight"
    weights = start.model_.encoder.state_dict()[name].float()
    assert torch.allclose(weights, encoder.state_dict()[name], atol=1e-6)
    assert not torch.allclose(weights, alone.model_.encoder.state_dict()[name].float(), atol=1e-3)


def test_torchs_own_randomness_is_left_as_it_was(windows):
    values, label, _ = windows
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    SleepStager(patch=20, dim=16, depth=1, epochs=1).fit(values[:20], label[:20])
    assert torch.rand(1) == expected


def test_windows_that_do_not_fit_are_refused(small_run, windows, tmp_path):
    values, label, _ = windows
    for estimator, given, message in (
        (
            SleepStager(small_run.path),
            values[:, :1],
            "takes windows of 2 channels and 120 samples; X",
        ),
        (SleepStager(tmp_path), values, "no run at|is not a run|not there|has no encoder"),
        (SleepStager(), values[:, :, None], "X has 4 dimensions"),
        (SleepStager(patch=50), values, "give patch= one of 1, 2, 3, 4"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            estimator.fit(given, label)
    fitted = SleepStager(patch=20, dim=16, depth=1, epochs=1).fit(values, label)
    with pytest.raises(ValueError, match=r"have the shape \(2, 60\); those of fit had \(2, 120\)"):
        fitted.predict(values[:, :, :60])
    with pytest.raises(ValueError, match="not a whole number of 2 to 512 patches"):
        patch_of(3001, None)
