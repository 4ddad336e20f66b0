import math
from functools import partial

import pytest
import timm
import torch
from torch import nn

from biopart.grid import patchify
from biopart.nn import Classifier, ViT, from_timm
from biopart.nn.block import Block
from biopart.nn.positions import RelativeBias, interpolate, relative_offsets, row_major, sincos

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]


def small(shape, patch, **options):
    torch.manual_seed(0)
    return ViT(shape, patch, 2, 24, 2, 4, **options).eval()


def some_patches(patch, count, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, 2, *patch, generator=generator)


def test_timms_vit_small_loads_strictly_and_gives_its_output():
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_224", num_classes=7).eval()
    ours = ViT((224, 224), (16, 16), 3, 384, 12, 6).eval()
    ours.load_state_dict(from_timm(theirs.state_dict()))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.forward_features(images)
        features = ours(patchify(images, (16, 16)))
    assert (features - expected).abs().max() < 1e-5
    back = timm.create_model("vit_small_patch16_224", num_classes=0)
    back.load_state_dict(ours.state_dict())
    for name, value in back.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("position", ["learned", "sincos", "none"])
def test_positions_of_the_grid_given_as_numbers_change_nothing(shape, patch, position):
    vit = small(shape, patch, position=position)
    patches = some_patches(patch, vit.n_patches)
    starts = row_major(vit.counts) * torch.tensor(patch)
    given = None if position == "none" else starts.expand(3, -1, -1)
    output = vit(patches)
    assert output.shape == (3, 1 + vit.n_patches, 24)
    torch.testing.assert_close(vit(patches, given), output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("position", ["sincos", "none"])
def test_without_hints_the_order_of_patches_does_not_matter(shape, patch, position):
    vit = small(shape, patch, position=position)
    patches = some_patches(patch, 9)
    hints = torch.full((3, 9, len(shape)), torch.nan)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    straight, shuffled = vit(patches, hints), vit(patches[:, order], hints)
    torch.testing.assert_close(shuffled[:, 1:], straight[:, 1:][:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shuffled[:, 0], straight[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["learned", "sincos"])
def test_a_hint_moves_its_own_token_most(position):
    vit = small((30,), (6,), position=position)
    if position == "learned":
        torch.nn.init.normal_(vit.pos_embed)
    hints = torch.full((1, 4, 1), torch.nan)
    hints[0, 2] = 13.5
    embedded = vit._embed(hints)
    assert embedded[0, [0, 1, 3]].abs().sum() == 0
    assert embedded[0, 2].abs().sum() > 0


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_a_patch_outside_the_context_reaches_no_other_token(shape, patch):
    vit = small(shape, patch, position="none")
    patches = some_patches(patch, 6)
    context = torch.tensor([True, True, False, True, False, False]).expand(3, -1)
    changed, seen = patches.clone(), patches.clone()
    changed[:, 2] += 1
    seen[:, 0] += 1
    before, after, through = (vit(x, context=context) for x in (patches, changed, seen))
    others = [0, 1, 2, 4, 5, 6]  # [CLS] first, so patch 2 is token 3
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, 3], after[:, 3])
    assert not torch.isclose(before[:, 2:], through[:, 2:]).all(-1).any()


@pytest.mark.parametrize("position", ["learned", "sincos"])
def test_patches_without_a_hint_carry_what_is_given_for_the_unknown(position):
    vit, unknown = small((30,), (6,), position=position), torch.randn(24)
    embedded = []
    vit.blocks[0].register_forward_pre_hook(lambda _, inputs: embedded.append(inputs[0]))
    hints = torch.tensor([[[6.0], [torch.nan], [0.0], [torch.nan]]])
    patches = some_patches((6,), 4, batch=1)
    vit(patches, hints)
    vit(patches, hints, unknown=unknown)
    bare, with_token = embedded
    torch.testing.assert_close(with_token[0, [2, 4]], bare[0, [2, 4]] + unknown)
    assert torch.equal(with_token[0, [0, 1, 3]], bare[0, [0, 1, 3]])  # [CLS] and known places


def test_an_image_of_height_1_has_the_signals_fixed_positions():
    signal, image = small((30,), (6,), position="sincos"), small((1, 30), (1, 6), position="sincos")
    assert torch.equal(signal.pos_embed, image.pos_embed)
    hints = torch.tensor([[[7.5], [torch.nan]]])
    lifted = torch.cat([torch.zeros(1, 2, 1), hints], dim=-1)
    assert torch.equal(signal._embed(hints), image._embed(lifted))


def test_sincos_by_hand():
    # D' = 2 per axis: omega = 1, so [sin y, cos y, sin x, cos x].
    values = sincos(torch.tensor([[1.0, 2.0]]), 4)[0].tolist()
    expected = [math.sin(1), math.cos(1), math.sin(2), math.cos(2)]
    assert values == pytest.approx(expected, abs=1e-6)


def test_sincos_table_equals_maes_formula():
    dim, places = 16, torch.arange(5).double()
    omega = 1 / 10000 ** (torch.arange(8).double() / 8)  # get_1d_sincos_pos_embed_from_grid
    expected = torch.cat([(places[:, None] * omega).sin(), (places[:, None] * omega).cos()], 1)
    vit = ViT((30,), (6,), 1, dim, 1, 2, position="sincos")
    torch.testing.assert_close(vit.pos_embed[0, 1:], expected.float())
    assert vit.pos_embed[0, 0].abs().sum() == 0
    assert not vit.pos_embed.requires_grad


def test_a_learned_table_is_read_linearly_between_four_entries():
    table = torch.tensor([[0.0], [1.0], [10.0], [11.0]])  # value = 10 y + x
    read = interpolate(table, torch.tensor([[[0.3, 0.5], [1.0, 0.0], [9.0, -1.0]]]), (2, 2))
    assert read.flatten().tolist() == pytest.approx([3.5, 10.0, 10.0])


def test_state_has_no_positions_where_there_are_none():
    assert "pos_embed" not in small((30,), (6,), position="none").state_dict()
    assert small((30,), (6,)).state_dict()["pos_embed"].shape == (1, 6, 24)


def test_the_paper_s_encoder_has_12_9_million_parameters():
    vit = ViT((3000,), (100,), 6, 512, 4, 8)
    assert round(sum(p.numel() for p in vit.parameters()) / 1e6, 1) == 12.9


def test_a_height_1_image_gives_the_output_of_the_signal():
    signal, image = small((30,), (6,), position="none"), small((1, 30), (1, 6), position="none")
    image.load_state_dict(
        {k: v.reshape(image.state_dict()[k].shape) for k, v in signal.state_dict().items()}
    )
    values = torch.randn(3, 2, 30, generator=torch.Generator().manual_seed(0))
    one, two = signal(patchify(values, (6,))), image(patchify(values[:, :, None], (1, 6)))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_classifier_sits_on_any_encoder(shape, patch, pool):
    encoder = small(shape, patch)
    model = Classifier.on(encoder, 5, pool=pool)
    values = torch.randn(3, 2, *shape)
    tokens = encoder(patchify(values, patch))
    pooled = tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(1)
    expected = pooled @ model.final_layer.weight.T + model.final_layer.bias
    torch.testing.assert_close(model(values), expected)


def test_classifier_takes_braindecodes_arguments():
    model = Classifier(n_chans=2, n_outputs=5, n_times=300, sfreq=100.0, dim=16, depth=1, heads=2)
    assert model.encoder.patch == (100,)
    assert model.final_layer.out_features == 5
    assert model(torch.zeros(2, 2, 300)).shape == (2, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ViT((30,), (7,), 1, 8, 1, 2), "do not tile"),
        (lambda: ViT((30,), (6,), 1, 8, 1, 3), "heads do not divide"),
        (lambda: ViT((30,), (6,), 1, 8, 1, 2, position="rotary"), "give one of 'learned'"),
        (lambda: ViT((30,), (6,), 1, 8, 1, 2, mlp_ratio=0.1), "leaves no features of 8"),
        (lambda: ViT((30,), (6,), 1, 7, 1, 1, position="sincos"), "multiple of 2"),
        (lambda: small((30,), (6,))(torch.zeros(1, 4, 2, 6)), "not the whole grid of 5"),
        (
            lambda: small((30,), (6,), position="none")(
                torch.zeros(1, 4, 2, 6), torch.zeros(1, 4, 1)
            ),
            "position='none'",
        ),
        (lambda: patchify(torch.zeros(1, 1, 7), (3,)), "do not tile|whole number"),
    ],
)
def test_wrong_use_is_refused_with_the_figures(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("rate", "dropout"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.1)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_block_is_timms(rate, dropout, masked):
    torch.manual_seed(0)
    ours = Block(32, 4, rate, mlp_ratio=2.0, dropout=dropout)
    torch.manual_seed(0)
    theirs = timm.models.vision_transformer.Block(
        *(32, 4, 2.0),
        qkv_bias=True,
        drop_path=rate,
        proj_drop=dropout,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert all(torch.equal(ours.state_dict()[k], v) for k, v in theirs.state_dict().items())
    tokens = torch.randn(6, 7, 32)
    mask = (torch.rand(6, 1, 1, 7) < 0.7) | (torch.arange(7) == 0) if masked else None
    for training in (True, False):
        answers = []
        for block in (ours.train(training), theirs.train(training)):
            torch.manual_seed(1)
            answers.append(block(tokens, attn_mask=mask))
        assert torch.equal(*answers)


def with_biases(encoder):
    """Return an encoder whose relative positions matter."""
    for table in encoder.positions():
        nn.init.normal_(table)
    return encoder


def test_relative_positions_are_timms():
    torch.manual_seed(0)
    theirs = timm.create_model(
        "vit_relpos_base_patch16_224",
        **{"img_size": (12, 20), "patch_size": (4, 4), "embed_dim": 32, "depth": 2, "num_heads": 4},
        **{"class_token": True, "rel_pos_type": "bias", "qkv_bias": True, "init_values": 0},
        **{"fc_norm": False, "num_classes": 0, "global_pool": "token"},
    ).eval()
    ours = with_biases(ViT((12, 20), (4, 4), 3, 32, 2, 4, position="relative").eval())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(2, 3, 12, 20)
    torch.testing.assert_close(
        ours(patchify(image, (4, 4))), theirs.forward_features(image), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_a_relative_bias_of_0_is_an_encoder_without_positions(shape, patch):
    ours, plain = small(shape, patch, position="relative"), small(shape, patch, position="none")
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if "rel_pos" not in k})
    patches = some_patches(patch, ours.n_patches)
    torch.testing.assert_close(ours(patches), plain(patches))


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_relative_positions_off_the_grid_follow_the_patches_and_not_their_common_shift(
    shape, patch
):
    ours = with_biases(small(shape, patch, position="relative"))
    patches = some_patches(patch, ours.n_patches)
    starts = (row_major(ours.counts) * torch.tensor(patch)).expand(3, -1, -1)
    whole = ours(patches)
    torch.testing.assert_close(ours(patches, starts), whole)
    torch.testing.assert_close(ours(patches, starts + 0.3 * torch.tensor(patch)), whole)
    order = torch.randperm(ours.n_patches)
    torch.testing.assert_close(
        ours(patches[:, order], starts[:, order])[:, 1:], whole[:, 1:][:, order]
    )
    assert not torch.allclose(ours(patches, starts * 0.9), whole)
    context = torch.arange(ours.n_patches) < 2
    changed = patches.clone()
    changed[:, 2:] += 1
    torch.testing.assert_close(
        ours(changed, context=context.expand(3, -1))[:, :3],
        ours(patches, context=context.expand(3, -1))[:, :3],
    )


def test_a_relative_bias_is_read_linearly_between_its_entries():
    bias = RelativeBias((3,), 1)
    with torch.no_grad():  # key after query by 2, 1, 0, -1, -2; then [CLS]
        bias.relative_position_bias_table.copy_(torch.tensor([[0, 10, 20, 40, 80, 1, 2, 3.0]]).T)
    places = torch.tensor([[[0.0], [1.5], [9.0], [math.nan]]])
    read = bias(relative_offsets(places, (3,)))[0, 0].tolist()
    assert read[0] == [3, 1, 1, 1, 1]
    assert read[1] == [2, 20, 5, 0, 0]
    assert read[2] == [2, 60, 20, 0, 0]
    assert read[3] == [2, 80, 80, 20, 0]
    assert read[4] == [2, 0, 0, 0, 0]
