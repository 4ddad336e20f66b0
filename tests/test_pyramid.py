import pytest
import torch

from biopart.grid import patchify
from biopart.nn import ViT
from biopart.nn.pyramid import Pyramid, Trunk, in_windows, into_windows, out_of_windows


def encoder(shape=(24, 40), patch=(4, 4), depth=4):
    torch.manual_seed(0)
    return ViT(shape, patch, 3, 16, depth, 2).eval()


def canvases(shape=(24, 40), batch=2):
    return torch.randn(batch, 3, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 20])
def test_windows_are_put_together_again(window):
    tokens = torch.randn(2, 6 * 10, 5)
    windows = into_windows(tokens, (6, 10), window)
    assert windows.shape[1] == window**2
    assert torch.equal(out_of_windows(windows, (6, 10), window), tokens)


def test_windows_by_hand():
    tokens = torch.arange(6.0).reshape(1, 6, 1)  # rows 0 1 2 and 3 4 5
    windows = into_windows(tokens, (2, 3), 2)[..., 0]
    assert windows.tolist() == [[0, 1, 3, 4], [2, 0, 5, 0]]


def test_a_trunk_that_looks_at_all_is_the_encoder_without_cls_token_and_norm():
    plain, values = encoder(), canvases()
    tokens = plain.patch_embed(patchify(values, plain.patch)) + plain.pos_embed[:, 1:]
    for block in plain.blocks:
        tokens = block(tokens)
    expected = tokens.transpose(1, 2).reshape(2, 16, 6, 10)
    everywhere = Trunk(plain, global_blocks=range(4))
    assert torch.equal(everywhere(values), expected)


def test_what_fills_up_a_window_is_zero_to_the_attention():
    """A patch alone in its window attends to itself and to three zeros, whose logits are 0."""
    block = encoder().blocks[0]
    torch.nn.init.normal_(block.norm1.bias)
    torch.nn.init.normal_(block.attn.qkv.bias)
    tokens = torch.randn(1, 9, 16)
    found = in_windows(block, tokens, (3, 3), window=2)[:, 8]
    normed = torch.cat([block.norm1(tokens[:, 8:]), torch.zeros(1, 3, 16)], 1)
    corner = tokens[:, 8] + block.attn(normed)[:, 0]
    torch.testing.assert_close(found, corner + block.mlp(block.norm2(corner)))


def test_a_patch_outside_a_window_changes_nothing_in_it():
    trunk = Trunk(encoder(), window=3, global_blocks=[]).eval()
    values = canvases()
    changed = values.clone()
    changed[..., 12:24, 12:24] += 1  # rows 3 to 5, columns 3 to 5: one window of 3 x 3
    moved = (trunk(values) - trunk(changed)).abs().sum((0, 1)) > 0
    expected = torch.zeros(6, 10, dtype=torch.bool)
    expected[3:, 3:6] = True
    assert torch.equal(moved, expected)


def test_global_blocks_are_evenly_spaced_and_wrong_ones_refused():
    assert Trunk(encoder(depth=4)).global_blocks == {0, 1, 2, 3}
    assert Trunk(encoder(depth=12)).global_blocks == {2, 5, 8, 11}
    with pytest.raises(ValueError, match=r"\[4\] must be among 0 to 3"):
        Trunk(encoder(), global_blocks=[4])
    with pytest.raises(ValueError, match="a detector needs an encoder of images"):
        Trunk(ViT((24,), (4,), 3, 16, 1, 2))


@pytest.mark.parametrize(("patch", "side"), [(4, 64), (8, 64), (16, 64)])
def test_a_pyramid_has_the_strides_4_to_64(patch, side):
    pyramid = Pyramid(Trunk(encoder((side, side), (patch, patch))), 8)
    maps = pyramid(canvases((side, side)))
    assert {n: m.shape[1:] for n, m in maps.items()} == {
        "0": (8, 16, 16),
        "1": (8, 8, 8),
        "2": (8, 4, 4),
        "3": (8, 2, 2),
        "pool": (8, 1, 1),
    }
    assert torch.equal(maps["pool"], maps["3"][..., ::2, ::2])


def test_a_pyramid_of_another_patch_is_refused():
    with pytest.raises(
        ValueError, match=r"square patches of \(4, 8, 16, 32\) pixels; got \(4, 8\)"
    ):
        Pyramid(Trunk(encoder((24, 40), (4, 8))))
