import numpy as np
import pytest
import torch

from biopart.data import Batch
from biopart.grid import unpatchify
from biopart.nn import ViT
from biopart.objectives import Mae
from biopart.objectives.mae import normalised, reconstruction_loss
from biopart.recipe import MaeSettings

SMALL = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}


def build(shape, patch, channels=2, **settings):
    torch.manual_seed(0)
    encoder = ViT(shape, patch, channels, 24, 2, 4, position="sincos")
    return Mae(encoder, MaeSettings(**{**SMALL, **settings}))


def batch(shape, channels=2, size=3):
    values = torch.randn(size, channels, *shape, generator=torch.Generator().manual_seed(0))
    return Batch(values, torch.full((size,), -1), ["p"] * size, ["r:0"] * size)


def hidden_patches(mae, seed, size):
    """The numbers of hidden patches, drawn as the objective draws them."""
    noise = torch.rand(size, mae.encoder.n_patches, generator=torch.Generator().manual_seed(seed))
    return noise.argsort(1)[:, mae.visible :].tolist()


@pytest.mark.parametrize(("shape", "patch"), [((24,), (4,)), ((6, 8), (3, 2))])
def test_the_loss_is_that_of_a_loop_over_hidden_patches(shape, patch):
    mae, data = build(shape, patch), batch(shape)
    outputs = []
    mae.decoder.head.register_forward_hook(lambda _, __, out: outputs.append(out[:, 1:]))
    loss = mae(data, torch.Generator().manual_seed(5)).loss.item()
    errors = []
    for sample, numbers in enumerate(hidden_patches(mae, 5, 3)):
        grid = data.values[sample].numpy()
        for number in numbers:
            place = np.unravel_index(number, mae.encoder.counts)
            cut = tuple(slice(i * p, (i + 1) * p) for i, p in zip(place, patch, strict=True))
            target = grid[(slice(None), *cut)].ravel().astype(np.float64)
            target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            predicted = outputs[0][sample, number].detach().numpy()
            errors.append(np.mean((predicted - target) ** 2))
    assert loss == pytest.approx(np.mean(errors), rel=1e-5)


def test_targets_are_normalised_with_unbiased_variance():
    # Mean 2, unbiased variance (1 + 0 + 1) / 2 = 1, so that 1 / sqrt(1 + 1e-6) is the largest.
    assert normalised(torch.tensor([1.0, 2.0, 3.0]).double()).tolist() == pytest.approx(
        [-(1.000001**-0.5), 0.0, 1.000001**-0.5], abs=1e-12
    )
    assert normalised(torch.ones(4)).tolist() == [0.0] * 4


def test_the_loss_of_known_arrays():
    predicted, target = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 1.0], [3.0, 1.0]]])
    assert reconstruction_loss(predicted, target).item() == (1 + (9 + 1) / 2) / 2


@pytest.mark.parametrize(("shape", "patch"), [((24,), (4,)), ((6, 8), (3, 2))])
def test_the_encoder_sees_visible_patches_alone(shape, patch):
    mae, data = build(shape, patch, mask_ratio=0.5), batch(shape, size=1)
    seen = []
    mae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mae(data, torch.Generator().manual_seed(1))
    assert seen[0].shape[:2] == (1, mae.encoder.n_patches // 2)
    number = hidden_patches(mae, 1, 1)[0][0]
    place = np.unravel_index(number, mae.encoder.counts)
    cut = tuple(slice(i * p, (i + 1) * p) for i, p in zip(place, patch, strict=True))
    data.values[(0, slice(None), *cut)] += 7.0
    mae(data, torch.Generator().manual_seed(1))
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(("shape", "patch"), [((24,), (4,)), ((6, 8), (3, 2))])
def test_visible_patches_carry_the_positions_where_they_lie(shape, patch):
    mae, given = build(shape, patch, mask_ratio=0.5), []
    mae.encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    numbers = torch.arange(float(mae.encoder.n_patches)).reshape(1, -1, 1, *[1] * len(patch))
    values = unpatchify(numbers.expand(1, -1, 2, *patch), shape)  # each patch holds its number
    mae(Batch(values, torch.tensor([-1]), ["p"], ["r:0"]), torch.Generator().manual_seed(0))
    patches, positions = given[0]
    for seen, start in zip(patches[0], positions[0].tolist(), strict=True):
        place = np.unravel_index(int(seen.flatten()[0]), mae.encoder.counts)
        assert start == [index * side for index, side in zip(place, patch, strict=True)]


def test_the_decoder_gets_every_token_at_its_place_and_masks_elsewhere():
    mae, given = build((24,), (4,), mask_ratio=0.5), []
    mae.decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    tokens, order = torch.randn(1, 4, 24), torch.tensor([[4, 0, 3, 5, 1, 2]])
    mae.reconstruct(tokens, order)
    embedded = mae.decoder.embed(tokens)[0]
    at = {4: 1, 0: 2, 3: 3}  # grid place -> token; the three others are hidden
    for place in range(6):
        expected = embedded[at[place]] if place in at else mae.mask_token
        assert torch.allclose(given[0][0, 1 + place], expected + mae.places[1 + place])
    assert torch.allclose(given[0][0, 0], embedded[0])  # [CLS] has position zero


def test_the_loss_ignores_what_is_predicted_of_visible_patches():
    mae, data = build((24,), (4,)), batch((24,))

    def shift(module, inputs, out):
        moved = out.clone()
        for sample, numbers in enumerate(hidden_patches(mae, 2, 3)):
            seen = [n for n in range(6) if n not in numbers]
            moved[sample, [1 + n for n in seen]] += 100.0
        return moved

    before = mae(data, torch.Generator().manual_seed(2)).loss
    mae.decoder.head.register_forward_hook(shift)
    assert torch.equal(mae(data, torch.Generator().manual_seed(2)).loss, before)


def test_patches_of_one_value_cannot_be_normalised():
    with pytest.raises(ValueError, match="a patch of one value has no variance"):
        build((6,), (1,), 1)
    assert build((6,), (1,), 1, normalise_target=False).visible == 1


def test_a_quarter_of_196_patches_is_visible():
    mae = build((28, 28), (2, 2))
    assert (mae.encoder.n_patches, mae.visible) == (196, 49)


@pytest.mark.parametrize("normalise", [True, False])
def test_predicting_nothing_gives_the_chance_loss(normalise):
    mae, data = build((3000,), (100,), 1, normalise_target=normalise), batch((3000,), 1, 16)
    torch.nn.init.zeros_(mae.decoder.head.weight)
    output = mae(data, torch.Generator().manual_seed(0))
    # The mean square of targets normalised by the unbiased variance of n values is (n - 1) / n.
    chance = output.metrics["chance_loss"].item()
    assert chance == pytest.approx(0.99 if normalise else 1.0, rel=0.02)
    assert output.loss.item() == pytest.approx(chance, rel=1e-4)
    assert output.metrics["r2"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("position", "extent", "message"),
    [("none", 24, "needs an encoder with positions"), ("sincos", 4, "hides none of 1")],
)
def test_what_cannot_be_is_refused(position, extent, message):
    encoder = ViT((extent,), (4,), 1, 24, 1, 4, position=position)
    with pytest.raises(ValueError, match=message):
        Mae(encoder, MaeSettings())
