"""Embeddings are the encoder's own tokens, with what is known of each item beside them."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import biopart
from biopart.grid import patchify
from biopart.nn import Model, Normalise
from biopart.verbs.embed import embed
from biopart.verbs.finetune import finetune


def opened(path):
    return xr.open_zarr(path, consolidated=False).load()


def test_embeddings_of_a_pretraining_are_its_tokens_without_positions(
    small_run, small_store, tmp_path
):
    said = embed(small_run, small_store, tmp_path / "e", patches=True, device="cpu")
    data, source = opened(tmp_path / "e"), biopart.open_cohort(small_store).source(keep_bad=True)
    assert said == {"file": str(tmp_path / "e"), "items": len(source), "features": 16}
    encoder = Model.load(small_run.encoder).encoder.eval()
    values = Normalise("window")(source.__getitems__([5, 60]).values)
    with torch.no_grad():
        tokens = encoder(patchify(values, (20,)), torch.full((2, 6, 1), torch.nan))
    assert np.allclose(data["embedding"][[5, 60]], tokens[:, 1:].mean(1), atol=1e-6)
    assert np.allclose(data["cls"][[5, 60]], tokens[:, 0], atol=1e-6)
    assert np.allclose(data["patch"][[5, 60]], tokens[:, 1:], atol=1e-6)


def test_what_is_known_of_each_window_stands_beside_it(small_run, small_store, tmp_path):
    embed(small_run, small_store, tmp_path / "e.parquet", device="cpu")
    table = pd.read_parquet(tmp_path / "e.parquet")
    source = biopart.open_cohort(small_store).source(keep_bad=True)
    assert table["person"].tolist() == source.persons
    assert table["label"].tolist() == source.labels.tolist()
    keys = [f"{r}:{round(s / 6)}" for r, s in zip(table["record"], table["onset_s"], strict=True)]
    assert keys == source.keys(range(len(source)))
    assert list(table.columns[-16:]) == [f"f{n}" for n in range(16)]


def test_a_fine_tuning_embeds_with_its_own_positions(small_run, small_store, tmp_path):
    tuned = finetune(small_run)
    embed(tuned, small_store, tmp_path / "e", device="cpu")
    model, source = biopart.load(tuned.path), biopart.open_cohort(small_store).source()
    values = source.__getitems__([3]).values
    with torch.no_grad():
        expected = model.net.embed(model.normalise(values))
    (place,) = [
        n
        for n, key in enumerate(biopart.open_cohort(small_store).source(keep_bad=True).keys([3]))
        if key == source.keys([3])[0]
    ]
    assert np.allclose(opened(tmp_path / "e")["cls"][3 + place], expected[0], atol=1e-6)


def test_what_cannot_be_embedded_is_refused(small_run, small_store, simulated_store, tmp_path):
    (tmp_path / "there").mkdir()
    for what, out, patches, message in (
        (small_store, tmp_path / "there", False, "exists already"),
        (small_store, tmp_path / "e.txt", False, r"e\.txt ends in \.txt; give a name that ends in"),
        (small_store, tmp_path / "e.parquet", True, "a Parquet table cannot store patches"),
        (simulated_store, tmp_path / "e", False, "were prepared differently"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            embed(small_run, what, out, patches=patches, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_processes_embed_a_store_in_shares(small_run, small_store, tmp_path, monkeypatch):
    monkeypatch.setattr("biopart.verbs.embed.BATCH", 8)
    monkeypatch.setattr("biopart.verbs.embed.SHARE", 16)  # 88 windows: five shares and a half
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        embed(small_run, small_store, out, patches=True, device="cpu", jobs=jobs)
    one, two = opened(tmp_path / "1"), opened(tmp_path / "2")
    assert one.sizes["item"] > 5 * 16
    for key in ("person", "record", "label", "onset_s"):
        assert one[key].identical(two[key])
    for key in ("embedding", "cls", "patch"):
        assert np.allclose(one[key], two[key], atol=1e-6)
