"""Exports: what other tools load gives what ours gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from biopart.cli import main
from biopart.grid import patchify
from biopart.nn import Model, Normalise, ViT
from biopart.nn.hub import HubModel
from biopart.nn.model import load
from biopart.nn.normalise import IMAGENET
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.store import Images, create_store, write_record
from biopart.verbs.export import export
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain

ABOUT = {
    "card": {"name": "noise", "size": [8, 6], "fit": None},
    "label_names": ["a", "b", "c"],
    "channels": ["red", "green", "blue"],
    "axes": ["channel", "y", "x"],
    "shape": [8, 6],
}


@pytest.fixture
def signal_run(small_recipe: dict[str, Any], tmp_path: Path) -> Run:
    small_recipe["pretrain"]["steps"] = 2
    run = pretrain(Recipe.model_validate(small_recipe), out=tmp_path / "run")
    return finetune(run, changes=["finetune.steps=2"])


def image_run(tmp_path: Path, pool: str, normalise: str = "imagenet") -> Run:
    """Fine-tune for two steps on noise of 8 x 6 pixels, patches of 4 x 3."""
    rng = np.random.default_rng(0)
    create_store(tmp_path / "s.zarr", ABOUT)
    for part, count in (("train", 30), ("test", 6)):
        image = rng.integers(0, 256, (count, 3, 8, 6)).astype(np.uint8)
        label = (np.arange(count) % 3).astype(np.int16)
        names = tuple(f"{part}{n}" for n in range(count))
        write_record(tmp_path / "s.zarr", part, Images(image, label, names, {"part": part}))
    recipe = {
        "data": {"store": str(tmp_path / "s.zarr"), "normalise": normalise},
        "split": {"test_part": "test", "validation_persons": 6},
        "encoder": {"patch": [4, 3], "dim": 16, "depth": 2, "heads": 2},
        "pretrain": {"objective": {"name": "part", "patches": 3, "pairs": 4}, "steps": 2}
        | {"batch": 8, "warmup_epochs": 0, "validation_windows": 6},
        "finetune": {"subjects": 2, "steps": 2, "batch": 6, "warmup_epochs": 0, "pool": pool},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    return finetune(pretrain(Recipe.model_validate(recipe), out=tmp_path / "run"))


def pixels(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 8, 6), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_timm_loads_a_classifier_and_gives_its_logits(tmp_path: Path, pool: str) -> None:
    run = image_run(tmp_path, pool)
    assert export(run, "timm", tmp_path / "out")["notes"] == []
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    mean, deviation = (torch.tensor(figures).view(3, 1, 1) for figures in IMAGENET)
    assert model.pretrained_cfg["mean"] == list(IMAGENET[0])
    with torch.no_grad():
        found = model((pixels() / 255 - mean) / deviation)
        torch.testing.assert_close(found, load(run)(pixels()), rtol=1e-4, atol=1e-5)


def test_timm_loads_relative_positions_too(tmp_path: Path) -> None:
    run = finetune(image_run(tmp_path, "cls"), changes=["finetune.position=relative"])
    model = load(run)
    tables = model.encoder.positions()
    assert len(tables) == len(model.encoder.layers()) - 2
    assert all(table.any() for table in tables)  # trained from 0
    export(run, "timm", tmp_path / "out")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    mean, deviation = (torch.tensor(figures).view(3, 1, 1) for figures in IMAGENET)
    with torch.no_grad():
        found = theirs((pixels() / 255 - mean) / deviation)
        torch.testing.assert_close(found, model(pixels()), rtol=1e-4, atol=1e-5)


def test_timm_s_own_transforms_give_what_a_model_without_normalisation_saw(tmp_path: Path) -> None:
    run = image_run(tmp_path, "cls", "none")
    export(run, "timm", tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    mean, deviation = (torch.tensor(model.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        found = model((pixels() / 255 - mean) / deviation)
        torch.testing.assert_close(found, load(run)(pixels()), rtol=1e-4, atol=1e-4)


def test_timm_loads_an_encoder_and_gives_its_tokens(tmp_path: Path) -> None:
    run = image_run(tmp_path, "cls", "window").pretrained()
    (note,) = export(run, "timm", tmp_path / "out")["notes"]
    assert "normalised by its own mean and deviation, which timm does not do" in note
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    values = Normalise("window")(pixels())
    with torch.no_grad():
        expected = Model.load(run).encoder(patchify(values, (4, 3)))
        torch.testing.assert_close(model.forward_features(values), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_224"])
def test_a_timm_checkpoint_comes_back_without_a_changed_bit(tmp_path: Path, name: str) -> None:
    theirs = timm.create_model(name, num_classes=0, pretrained=False)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    state = torch.load(tmp_path / "timm.pth", weights_only=True)
    vit = ViT((224, 224), (16, 16), 3, theirs.embed_dim, 12, theirs.blocks[0].attn.num_heads)
    vit.load_state_dict(state)
    again = timm.create_model(name, num_classes=0, pretrained=False)
    again.load_state_dict(vit.state_dict())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items())


def test_a_hub_folder_is_the_model_and_says_what_it_is(signal_run: Run, tmp_path: Path) -> None:
    export(signal_run, "hub", tmp_path / "out")
    model = HubModel.from_pretrained(tmp_path / "out").eval()
    values = torch.randint(-500, 500, (3, 2, 120)).to(torch.int16)
    values[0, 1, :40] = -32768
    expected = load(signal_run)
    with torch.no_grad():
        torch.testing.assert_close(model(values), expected(values))
    assert len(model.classes) == expected(values).shape[1]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "For research; not a medical device." in text
    assert f"logits of {', '.join(model.classes)}" in text


def test_a_hub_folder_of_an_encoder_gives_tokens(signal_run: Run, tmp_path: Path) -> None:
    run = signal_run.pretrained()
    export(run, "hub", tmp_path / "out")
    model = HubModel.from_pretrained(tmp_path / "out").eval()
    values = torch.randn(2, 2, 120)
    with torch.no_grad():
        expected = Model.load(run).encoder(patchify(Normalise("window")(values), (20,)))
        torch.testing.assert_close(model(values), expected)


# The exporter's own use of deprecated torch and Python interfaces.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("tuned", [False, True])
def test_onnx_runtime_gives_the_same_for_any_batch_and_missing_samples(
    signal_run: Run, tmp_path: Path, tuned: bool
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    run = signal_run if tuned else signal_run.pretrained()
    said = export(run, "onnx", tmp_path / "model.onnx")
    assert said["difference"] <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    values = 100 * torch.randn(5, 2, 120)
    values[1, 0, 30:50] = torch.nan
    (found,) = session.run(None, {"values": values.numpy()})
    export(run, "hub", tmp_path / "hub")
    with torch.no_grad():
        expected = HubModel.from_pretrained(tmp_path / "hub").eval()(values)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


def test_plain_safetensors_carry_what_builds_them(signal_run: Run, tmp_path: Path) -> None:
    run = signal_run.pretrained()
    export(run, "safetensors", tmp_path / "out")
    ours, theirs = load_file(run.encoder), load_file(tmp_path / "out" / "model.safetensors")
    assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in theirs.items()}
    assert Model.load(tmp_path / "out" / "model.safetensors").encoder.shape == (120,)


def test_a_signal_is_refused_for_timm_and_a_name_that_is_taken_too(
    signal_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ValueError, match=r"takes items of \(120,\), so use --to safetensors, hub or"
    ):
        export(signal_run, "timm", tmp_path / "out")
    with pytest.raises(SystemExit) as ended:
        main([*("export", str(signal_run.path)), *("--to", "hub"), *("--out", str(tmp_path))])
    assert ended.value.code == 1
    assert "exists already; give another --out or delete it" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))  # nothing half done is left


def test_without_its_extra_onnx_is_refused_with_the_command_that_installs_it(
    signal_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'install the extra: pip install "biopart\[onnx\]"'):
        export(signal_run, "onnx", tmp_path / "model.onnx")
