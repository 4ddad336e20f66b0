import math

import numpy as np
import pytest
import torch

from biopart.nn.block import Block
from biopart.nn.decoder import Decoder, decoder_positions, start_at_chance
from biopart.nn.masking import part_of, random_order


def test_a_decoder_is_a_linear_layer_blocks_norm_and_a_linear_layer():
    torch.manual_seed(0)
    decoder = Decoder(12, 16, 5, depth=2, heads=4)
    tokens = torch.randn(2, 7, 12)
    expected = tokens @ decoder.embed.weight.T + decoder.embed.bias
    for block in decoder.blocks:
        assert isinstance(block, Block)
        expected = expected + block.attn(block.norm1(expected))
        expected = expected + block.mlp(block.norm2(expected))
    centred = expected - expected.mean(-1, keepdim=True)
    normed = centred / (expected.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(decoder(tokens), normed @ decoder.head.weight.T)


def test_a_decoder_does_not_know_the_order_of_tokens():
    torch.manual_seed(0)
    decoder, tokens = Decoder(12, 16, 5, depth=2, heads=4), torch.randn(2, 7, 12)
    order = torch.randperm(7)
    torch.testing.assert_close(decoder(tokens[:, order]), decoder(tokens)[:, order])


@pytest.mark.parametrize("part", ["embed", "blocks.0.attn.qkv", "blocks.1.mlp.fc2"])
def test_matrices_are_xavier_uniform_and_biases_zero(part):
    torch.manual_seed(0)
    layer = Decoder(96, 128, 5, depth=2, heads=4).get_submodule(part)
    bound = math.sqrt(6 / (layer.in_features + layer.out_features))
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize("width", [32, 512])
def test_a_last_layer_starts_with_outputs_of_a_tenth(width):
    torch.manual_seed(0)
    layer = torch.nn.Linear(width, 200)
    start_at_chance(layer)
    outputs = layer(torch.nn.functional.layer_norm(torch.randn(500, width), (width,)))
    assert outputs.std().item() == pytest.approx(0.1, rel=0.05)
    assert not layer.bias.any()


def mae_table(counts, width):
    """The formula of facebookresearch/mae, axes in the grid's order."""
    half = width // len(counts) // 2
    omega = 1 / 10000 ** (np.arange(half) / half)
    rows = [
        np.concatenate(
            [f(place[axis] * omega) for axis in range(len(counts)) for f in (np.sin, np.cos)]
        )
        for place in np.ndindex(*counts)
    ]
    return np.array([np.zeros(width), *rows])


@pytest.mark.parametrize("counts", [(30,), (3, 4), (2, 3, 2)])
def test_positions_are_maes_on_any_number_of_axes(counts):
    table = decoder_positions(counts, 24)
    assert np.allclose(table, mae_table(counts, 24), atol=1e-6)


def test_a_width_that_axes_do_not_divide_is_filled_up_with_zeros():
    table = decoder_positions((2, 3, 2), 512)
    assert table.shape == (13, 512)
    assert np.allclose(table[:, :510], mae_table((2, 3, 2), 510), atol=1e-6)
    assert not table[:, 510:].any()


def test_an_image_of_height_1_has_the_signals_positions():
    assert torch.equal(decoder_positions((1, 30), 16), decoder_positions((30,), 16))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="decoder_heads 3 does not divide decoder_dim 16"):
        Decoder(12, 16, 5, depth=1, heads=3)


def test_every_patch_comes_first_equally_often():
    order = random_order(6000, 6, torch.Generator().manual_seed(0))
    assert torch.equal(order.sort(1).values, torch.arange(6).expand(6000, -1))
    counts = torch.bincount(order[:, 0], minlength=6).double()
    assert ((counts - 1000).square() / 1000).sum() < 20.5  # chi-squared, 5 degrees, 99.9 %


def test_an_order_depends_on_its_generator_alone():
    torch.manual_seed(0)
    first = random_order(2, 9, torch.Generator().manual_seed(4))
    torch.manual_seed(1)
    assert torch.equal(first, random_order(2, 9, torch.Generator().manual_seed(4)))
    assert not torch.equal(first, random_order(2, 9, torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(196, 1 - 0.75, 49), (49, 1 - 0.75, 12), (10, 1 - 0.9, 1), (64, 1 - 0.75, 16), (3, 0.25, 1)],
)
def test_a_share_of_patches_is_cut_down_to_whole_ones(count, share, expected):
    assert part_of(count, share) == expected
