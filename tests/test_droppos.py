import math

import pytest
import torch

from biopart.data import Batch
from biopart.nn import ViT
from biopart.objectives import DropPos
from biopart.objectives.droppos import position_loss, smoothing
from biopart.recipe import DropPosSettings

SMALL = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}


def build(shape, patch, **settings):
    torch.manual_seed(0)
    encoder = ViT(shape, patch, 2, 24, 2, 4, position="sincos")
    return DropPos(encoder, DropPosSettings(**{**SMALL, **settings}))


def batch(shape, size=3):
    values = torch.randn(size, 2, *shape, generator=torch.Generator().manual_seed(0))
    return Batch(values, torch.full((size,), -1), ["p"] * size, ["r:0"] * size)


@pytest.mark.parametrize("counts", [(7,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
def test_rows_of_the_smoothing_sum_to_one(counts, sigma):
    rows = smoothing(counts, sigma)
    assert torch.allclose(rows.sum(1), torch.ones(math.prod(counts)))
    if sigma == 0:
        assert torch.equal(rows, torch.eye(math.prod(counts)))


def test_the_smoothing_of_a_3_by_3_grid_by_hand():
    # From the middle: itself 1, four neighbours e^-1, four corners e^-2 (squared distance 2).
    e = math.e
    total = 1 + 4 / e + 4 / e**2
    corner, side = e**-2 / total, e**-1 / total
    expected = [corner, side, corner, side, 1 / total, side, corner, side, corner]
    assert smoothing((3, 3), 1.0)[4].tolist() == pytest.approx(expected)
    # From the first corner, sigma 2: squared distances 0 1 4, 1 2 5, 4 5 8 over 4.
    weights = [math.exp(-d / 4) for d in (0, 1, 4, 1, 2, 5, 4, 5, 8)]
    expected = [w / sum(weights) for w in weights]
    assert smoothing((3, 3), 2.0)[0].tolist() == pytest.approx(expected)


def test_37_of_49_visible_of_196_patches_lose_their_position():
    objective, seen = build((28, 28), (2, 2)), []
    objective.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    objective(batch((28, 28)), torch.Generator().manual_seed(0))
    patches, positions = seen[0]
    assert patches.shape[1] == 49
    assert positions.isnan().any(-1).sum(1).tolist() == [37] * 3


def test_the_positions_that_are_kept_are_those_where_patches_lie():
    objective, given = build((60,), (3,), mask_ratio=0.2, drop_ratio=0.5), []
    objective.encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    values = torch.arange(20.0).repeat_interleave(3).expand(1, 2, 60)  # a patch holds its number
    data = Batch(values, torch.tensor([-1]), ["p"], ["r:0"])
    objective(data, torch.Generator().manual_seed(0))
    patches, positions = given[0]
    starts = 3 * patches[0, :, 0, 0]
    assert torch.equal(positions[0, :8, 0], starts[:8])  # 16 visible, int(16 / 2) keep theirs
    assert bool(positions[0, 8:].isnan().all())
    assert len(set(starts.tolist())) == 16


def test_lost_positions_carry_one_token():
    objective = build((30,), (3,), mask_ratio=0.0, drop_ratio=0.5)
    encoder, values = objective.encoder, torch.randn(1, 10, 2, 3)
    start = 3.0 * torch.arange(10)[None, :, None]
    lost = start.clone()
    lost[0, 4:] = torch.nan
    with_token = encoder(values, lost, unknown=objective.unknown)
    encoder.pos_embed.data[0, 1:] = objective.unknown.data
    by_hand = ViT.forward(encoder, values)  # the table now holds the token for every patch
    assert torch.allclose(encoder(values, lost * torch.nan, unknown=objective.unknown), by_hand)
    assert not torch.allclose(with_token, by_hand, atol=1e-3)


def test_the_loss_does_not_depend_on_tokens_that_kept_their_position():
    objective, data = build((60,), (3,), mask_ratio=0.0, drop_ratio=0.5), batch((60,))

    def shift(module, inputs, out):
        return torch.cat([out[:, : 1 + objective.kept] + 100.0, out[:, 1 + objective.kept :]], 1)

    before = objective(data, torch.Generator().manual_seed(1)).loss
    objective.decoder.head.register_forward_hook(shift)
    assert objective.kept == 10
    assert torch.equal(objective(data, torch.Generator().manual_seed(1)).loss, before)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_loss_is_that_of_a_loop_with_sigma_falling_to_zero(progress):
    objective, data, logits = build((60,), (3,)), batch((60,)), []
    objective.decoder.head.register_forward_hook(lambda _, __, out: logits.append(out.detach()))
    loss = objective(data, torch.Generator().manual_seed(3), progress).loss.item()
    noise = torch.rand(3, 20, generator=torch.Generator().manual_seed(3))
    dropped = noise.argsort(1)[:, 1:5].tolist()  # 5 of 20 visible, int(5 / 4) = 1 keeps its place
    terms = []
    for sample, numbers in enumerate(dropped):
        for place, number in enumerate(numbers):
            row = logits[0][sample, 2 + place].double().log_softmax(0)
            squares = [(k - number) ** 2 for k in range(20)]
            sigma = 1 - progress
            weights = [math.exp(-s / sigma**2) if sigma else float(s == 0) for s in squares]
            terms.append(-sum(w * r.item() for w, r in zip(weights, row, strict=True)))
            terms[-1] /= sum(weights)
    assert loss == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_weights_of_the_attentive_loss_are_a_weighted_mean():
    logits, target = torch.tensor([[[0.0, 0.0], [5.0, 0.0]]]), torch.eye(2)[None]
    each = [math.log(2), 5 + math.log(1 + math.exp(-5))]
    weight = torch.tensor([[3.0, 1.0]])
    expected = (3 * each[0] + each[1]) / 4
    assert position_loss(logits, target, weight).item() == pytest.approx(expected)
    assert position_loss(logits, target).item() == pytest.approx(sum(each) / 2)


def test_attentive_weights_are_the_likeness_of_patches_to_cls():
    objective, data = build((30,), (3,), attentive=True), batch((30,), size=1)
    patches = data.values.reshape(1, 2, 10, 3).transpose(1, 2)
    tokens = objective.encoder(patches)[0].double()
    cosines = [
        (tokens[0] @ t / (tokens[0].norm() * t.norm())).item() / 0.1 for t in tokens[1:].detach()
    ]
    total = sum(math.exp(c) for c in cosines)
    weight = objective._attention(patches, torch.tensor([[7, 2]]))
    assert weight[0].tolist() == pytest.approx(
        [math.exp(cosines[7]) / total, math.exp(cosines[2]) / total], rel=1e-4
    )
    output = objective(data, torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.metrics["chance_loss"].item() == pytest.approx(math.log(10))


def test_an_encoder_without_positions_is_refused():
    encoder = ViT((30,), (3,), 1, 24, 1, 4, position="none")
    with pytest.raises(
        ValueError, match="droppos drops position embeddings; give the encoder some"
    ):
        DropPos(encoder, DropPosSettings())


def test_one_patch_is_refused():
    with pytest.raises(ValueError, match="leaves only one position"):
        build((3,), (3,))
