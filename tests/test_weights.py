"""Weights of other grids, of timm, and of what does not fit."""

import argparse

import pytest
import timm
import torch
from safetensors import SafetensorError

from biopart.experiment.weights import read_weights, start_encoder
from biopart.nn import About, Model, ViT, from_timm
from biopart.nn.weights import (
    described,
    moved_positions,
    save_tensors,
    take,
)


def encoder(shape=(8, 8), patch=(2, 2), *, channels=3, dim=16, depth=2, heads=2, seed=0, **options):
    torch.manual_seed(seed)
    return ViT(shape, patch, channels, dim, depth, heads, **options)


def started(folder, old, new, **options):
    """Start an encoder from the saved weights of another."""
    Model(old, About()).save(folder / "old.safetensors")
    start_encoder(str(folder / "old.safetensors"), new, **options)


def test_weights_say_what_they_are_of():
    found = described(encoder((12,), (3,), channels=2).state_dict())
    assert found == {"patch": [3], "channels": 2, "dim": 16, "depth": 2}
    with pytest.raises(ValueError, match="a vision transformer with timm's names"):
        described({"fc.weight": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": (4, 4)}, r"patch \[4, 4\] and \[2, 2\]"),
        ({"channels": 1}, "channels 1 and 3"),
        ({"dim": 8}, "dim 8 and 16"),
        ({"depth": 3}, "depth 3 and 2"),
        ({"heads": 4}, "heads 4 and 2"),
    ],
)
def test_what_differs_is_named_with_both_values(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        started(tmp_path, encoder(**change), encoder())


def test_positions_stay_new_unless_they_are_asked_for(tmp_path):
    old, new = encoder(seed=1), encoder()
    fresh = new.pos_embed.clone()
    started(tmp_path, old, new)
    assert torch.equal(new.pos_embed, fresh)
    assert torch.equal(new.blocks[1].mlp.fc1.weight, old.blocks[1].mlp.fc1.weight)
    started(tmp_path, old, new, positions=True)
    assert torch.equal(new.pos_embed, old.pos_embed)


def test_positions_of_another_grid_are_interpolated_by_hand():
    # Two rows with 0 and 8 become four: places -0.25, 0.25, 0.75, 1.25 of the old grid.
    target = encoder((8, 4), (2, 2), dim=4, heads=1)
    rows = [[5.0, 5.0], [0.0, 1.0], [0.0, 1.0], [8.0, 1.0], [8.0, 1.0]]
    moved = moved_positions(torch.tensor([rows]), target, (2, 2))
    assert moved[0, :, 0].tolist() == [5, 0, 0, 2, 2, 6, 6, 8, 8]
    assert moved[0, 1:, 1].tolist() == [1] * 8  # what is constant stays so


def test_positions_of_a_signal_are_those_of_its_first_patches():
    table = torch.arange(10.0).reshape(1, 5, 2)
    moved = moved_positions(table, encoder((4,), (2,), dim=2, heads=1), (4,))
    assert torch.equal(moved, table[:, :3])
    with pytest.raises(ValueError, match="4 positions, fewer than the 5 patches of a window"):
        moved_positions(table, encoder((10,), (2,), dim=2, heads=1), (4,))


def test_positions_of_a_square_are_known_to_be_of_one():
    target = encoder((12, 8))
    rows = torch.arange(3.0)[:, None].expand(3, 3).reshape(-1, 1).expand(9, 16)
    table = torch.cat([torch.zeros(1, 16), rows])[None]
    moved = moved_positions(table, target, None)[0, 1:, 0].reshape(6, 4)
    assert moved[:, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]  # rows, and the same in each
    assert torch.equal(moved, moved[:, :1].expand(6, 4))
    with pytest.raises(ValueError, match="10 positions, which fill no grid of 2 equal axes"):
        moved_positions(torch.zeros(1, 11, 16), target, None)


def test_weights_that_are_no_plain_vit_are_refused():
    state = encoder().state_dict()
    with pytest.raises(ValueError, match=r"the encoder lacks blocks\.0\.ls1\.gamma"):
        take({**state, "blocks.0.ls1.gamma": torch.ones(16)}, encoder())
    del state["cls_token"]
    with pytest.raises(ValueError, match=r"plain ViT with \[CLS\]: they lack cls_token"):
        take(state, encoder())


def test_a_timm_checkpoint_of_another_image_size_starts_an_encoder(tmp_path):
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, **arguments)
    save_tensors(tmp_path / "w.safetensors", model.state_dict(), {})
    torch.save(model.state_dict(), tmp_path / "w.pth")
    values = torch.randn(2, 16, 3, 8, 8)
    for name in ("w.safetensors", "w.pth"):
        same = encoder((32, 32), (8, 8))
        said = start_encoder(str(tmp_path / name), same, positions=True)
        assert said.endswith("with its positions; 2 tensors of its head were left")
        whole = values.reshape(2, 4, 4, 3, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 32, 32)
        expected = model.eval().forward_features(whole)
        assert torch.allclose(same.eval()(values), expected, atol=1e-5)
        larger = encoder((64, 64), (8, 8))
        start_encoder(str(tmp_path / name), larger, positions=True)
        corner = model.pos_embed[0, 1] - larger.pos_embed[0, 1]
        assert corner.abs().max() < 1e-6  # beyond the outermost places the nearest is taken


def test_weights_that_are_not_there_or_no_tensors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is neither a run nor a file of weights, and timm"):
        read_weights("vit_of_nobody")
    (tmp_path / "w.pth").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"w\.pth is not a file of tensors alone"):
        read_weights(str(tmp_path / "w.pth"))
    torch.save({"x": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no state dictionary"):
        read_weights(str(tmp_path / "w.pth"))
    with pytest.raises(FileNotFoundError, match=r"no recipe\.yaml"):
        read_weights(str(tmp_path))


def test_the_head_of_a_timm_model_is_dropped():
    assert set(from_timm({"head.bias": torch.ones(1), "cls_token": torch.ones(1)})) == {"cls_token"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
            "the prefix 'module.'",
        ),
        (lambda s: {f"backbone.{k}": v for k, v in s.items()}, "the prefix 'backbone.' was taken"),
        (lambda s: {"model": s, "args": argparse.Namespace(lr=1)}, ""),
        (lambda s: {"teacher": {f"backbone.{k}": v for k, v in s.items()}}, "'backbone.'"),
        (
            lambda s: {
                f"{n}.{k}": v * f for n, f in (("student", 0), ("teacher", 1)) for k, v in s.items()
            },
            "the prefix 'teacher.' was taken off; 30 tensors beside it were left",
        ),
    ],
)
def test_prefixes_of_wrappers_are_taken_off_and_told(tmp_path, given, said):
    own, other = encoder(), encoder()
    torch.save(given(own.state_dict()), tmp_path / "w.pth")
    assert said in start_encoder(str(tmp_path / "w.pth"), other)
    assert torch.equal(own.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)


class Evil:
    """Something that a pickle would have to import."""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda s: {"model": s, "x": Evil()},
            r"it contains an object of .*Evil; save only the state dict",
        ),
        (
            lambda s: s | {"blocks.0.mlp.fc1.weight": torch.zeros(32, 16)},
            r"differ: blocks\.0\.mlp\.fc1\.weight \(32, 16\) and \(64, 16\)",
        ),
        (lambda s: {f"{n}.{k}": v for n in "ab" for k, v in s.items()}, "holds several encoders"),
    ],
)
def test_weights_that_cannot_be_meant_get_one_sentence(tmp_path, change, reason):
    torch.save(change(dict(encoder().state_dict())), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=reason) as caught:
        start_encoder(str(tmp_path / "w.pth"), encoder())
    assert "weights_only" not in str(caught.value)


def test_heads_of_a_run_or_a_file_of_ours_must_be_the_same(tmp_path):
    one = ViT((32, 32), (8, 8), 3, 16, 1, 4)
    Model(one, About()).save(tmp_path / "encoder.safetensors")
    (tmp_path / "recipe.yaml").write_text("name: t\n")
    for where in (tmp_path, tmp_path / "encoder.safetensors"):
        with pytest.raises(
            ValueError,
            match=r"differ: heads 4 and 2; set the recipe.s encoder keys to",
        ):
            start_encoder(str(where), ViT((32, 32), (8, 8), 3, 16, 1, 2))


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("biopart.nn.weights.save_file", full)
    with pytest.raises(OSError, match=r"w\.safetensors cannot be written .*free some disk space"):
        save_tensors(tmp_path / "w.safetensors", {}, {})


@pytest.mark.parametrize("position", ["learned", "sincos"])
def test_a_kept_table_is_the_one_of_the_file(position, tmp_path):
    """MAE's code puts the last axis first in its sines and cosines; ours keep the grid's order."""
    state = encoder((8, 8)).state_dict()
    half = state["pos_embed"].shape[-1] // 2
    state["pos_embed"] = torch.randn(1, 17, 2 * half)
    save_tensors(tmp_path / "w.safetensors", state, {})
    target = ViT((8, 8), (2, 2), 3, 16, 2, 2, position=position)
    start_encoder(str(tmp_path / "w.safetensors"), target, positions=True)
    assert torch.equal(target.pos_embed, state["pos_embed"])


def test_an_encoder_without_positions_keeps_none(tmp_path):
    save_tensors(tmp_path / "w.safetensors", encoder((8, 8)).state_dict(), {})
    target = ViT((8, 8), (2, 2), 3, 16, 2, 2, position="none")
    with pytest.raises(ValueError, match="an encoder without positions keeps none"):
        start_encoder(str(tmp_path / "w.safetensors"), target, positions=True)


def test_relative_positions_start_at_0_and_are_kept_on_the_same_grid_alone(tmp_path):
    old, new = encoder(position="none"), encoder(seed=1, position="relative")
    started(tmp_path, old, new)
    assert torch.equal(new.blocks[1].mlp.fc1.weight, old.blocks[1].mlp.fc1.weight)
    assert not any(table.any() for table in new.positions())
    torch.nn.init.normal_(new.positions()[1])
    learned, again = encoder(seed=2), encoder(seed=3, position="relative")
    started(tmp_path, new, learned)  # its own embedding stays
    started(tmp_path, new, again, positions=True)
    assert torch.equal(again.positions()[1], new.positions()[1])
    wider = encoder((12, 8), position="relative")
    with pytest.raises(ValueError, match=r"relative_position_bias_table \(52, 2\) and \(80, 2\)"):
        started(tmp_path, new, wider, positions=True)
    with pytest.raises(ValueError, match="the weights have no relative positions to keep"):
        started(tmp_path, old, again, positions=True)
