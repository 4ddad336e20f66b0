from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from biopart.nn import CrossAttention, relative_encoder
from biopart.nn.relative import Attention, PairProjection
from biopart.recipe import Head

HEADS = list(get_args(Head))


def inputs(batch=2, patches=5, dim=16, count=7):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(batch, patches, dim, generator=generator)
    return tokens, torch.randint(0, patches, (batch, count, 2), generator=generator)


def test_two_projections_equal_one_layer_on_the_joined_pair():
    tokens, pairs = inputs()
    layer = PairProjection(16, 12)
    torch.nn.init.normal_(layer.bias)
    weight = torch.cat(layer.project.weight.split(12), dim=1)  # (12, 32): [W_r, W_t]
    for b in range(2):
        joined = torch.cat([tokens[b, pairs[b, :, 0]], tokens[b, pairs[b, :, 1]]], dim=-1)
        expected = F.linear(joined, weight, layer.bias)
        torch.testing.assert_close(layer(tokens, pairs)[b], expected)


def test_cross_attention_equals_torchs_own():
    tokens, pairs = inputs()
    head = CrossAttention(16, 3, 4)
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        eye = torch.eye(16)
        for layer in (head.query, head.key, head.value, head.out):
            torch.nn.init.normal_(layer.bias)
        attention.in_proj_weight.copy_(torch.cat([eye, head.key.weight, head.value.weight]))
        attention.in_proj_bias.copy_(torch.cat([torch.zeros(16), head.key.bias, head.value.bias]))
        attention.out_proj.weight.copy_(eye)
        attention.out_proj.bias.zero_()
    normed = head.norm(tokens)
    expected = head.out(attention(head.query(normed, pairs), normed, normed)[0])
    torch.testing.assert_close(head(tokens, pairs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 4])
def test_the_released_attention_equals_torchs_own(heads):
    tokens, pairs = inputs()
    head = Attention(16, 3, heads)
    for bias in (head.query.bias, head.attend.in_proj_bias, head.attend.out_proj.bias):
        torch.nn.init.normal_(bias)
    expected = head.out(head.attend(head.query(tokens, pairs), tokens, tokens)[0])
    torch.testing.assert_close(head(tokens, pairs), expected, rtol=1e-4, atol=1e-5)


def test_released_heads_have_the_released_numbers_of_parameters():
    dim, patches, outputs = 384, 64, 2
    expected = {
        # W and b of the query, of the three projections and the last one, of the output
        "attention": (2 * dim + 1) * dim + 4 * (dim + 1) * dim + (dim + 1) * outputs,
        "pairwise": 1538,
        "joint": (patches * dim + 1) * patches * patches * outputs,
    }
    with torch.device("meta"):
        counted = {
            name: sum(
                p.numel()
                for p in relative_encoder(name, dim, outputs, patches=patches).parameters()
            )
            for name in expected
        }
    assert counted == expected


def test_the_pairwise_layer_is_one_linear_layer_on_the_joined_pair():
    tokens, pairs = inputs()
    head = relative_encoder("pairwise", 16, 2, patches=5)
    weight = torch.cat(head.out.project.weight.split(2), dim=1)
    first, second = tokens[0, pairs[0, :, 0]], tokens[0, pairs[0, :, 1]]
    expected = F.linear(torch.cat([first, second], -1), weight, head.out.bias)
    torch.testing.assert_close(head(tokens, pairs)[0], expected)


@pytest.mark.parametrize("name", HEADS)
def test_each_pair_is_answered_by_itself(name):
    tokens, pairs = inputs()
    head = relative_encoder(name, 16, 2, heads=4, patches=5).eval()
    every = head(tokens, pairs)
    assert every.shape == (2, 7, 2)
    torch.testing.assert_close(head(tokens, pairs[:, 3:5]), every[:, 3:5])


def test_only_pairwise_heads_are_blind_to_the_other_patches():
    tokens, _ = inputs()
    pairs = torch.tensor([[[0, 1]], [[0, 1]]])
    moved = tokens.clone()
    moved[:, 4, 0] += 1
    for name in HEADS:
        head = relative_encoder(name, 16, 2, heads=4, patches=5)
        assert torch.equal(head(tokens, pairs), head(moved, pairs)) is name.startswith("pairwise")


@pytest.mark.parametrize("name", HEADS)
def test_reference_and_target_are_told_apart(name):
    tokens, pairs = inputs()
    head = relative_encoder(name, 16, 1, heads=4, patches=5)
    assert not torch.allclose(head(tokens, pairs), head(tokens, pairs.flip(-1)), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: relative_encoder("rnn", 16, 1, heads=4, patches=5),
            "choose one of attention, pairwise, joint",
        ),
        (lambda: CrossAttention(16, 1, 5), "do not divide"),
        (
            lambda: relative_encoder("joint_mlp", 16, 1, heads=4, patches=6)(*inputs()),
            "built for 6 patches but got 5",
        ),
    ],
)
def test_wrong_use_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
