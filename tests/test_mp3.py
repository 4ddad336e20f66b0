import math

import pytest
import torch

from biopart.data import Batch
from biopart.grid import patchify
from biopart.nn import ViT
from biopart.objectives import Mp3
from biopart.recipe import Mp3Settings

GRIDS = [((30,), (5,)), ((6, 8), (3, 2)), ((4, 4, 6), (2, 2, 3))]


def build(shape, patch, position="sincos", **settings):
    torch.manual_seed(0)
    return Mp3(ViT(shape, patch, 2, 24, 3, 4, position=position), Mp3Settings(**settings))


def layers_of(mp3, patches, context):
    """Outputs of every block and of the final norm, patches only."""
    found = []
    modules = [*mp3.encoder.blocks, mp3.encoder.norm]
    hooks = [m.register_forward_hook(lambda _, __, out: found.append(out[:, 1:])) for m in modules]
    mp3.tokens(patches, context, torch.zeros_like(context))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_a_patch_outside_the_context_changes_no_other_token_in_any_layer(shape, patch):
    mp3 = build(shape, patch).eval()
    patches = patchify(torch.randn(1, 2, *shape), patch)
    context = torch.zeros(1, patches.shape[1], dtype=torch.bool)
    context[0, 1:3] = True
    before = layers_of(mp3, patches, context)
    changed = patches.clone()
    changed[0, 4] += 3.0
    others = [k for k in range(patches.shape[1]) if k != 4]
    for old, new in zip(before, layers_of(mp3, changed, context), strict=True):
        assert torch.equal(old[0, others], new[0, others])
        assert not torch.equal(old[0, 4], new[0, 4])
    changed = patches.clone()
    changed[0, 1] += 3.0
    for old, new in zip(before, layers_of(mp3, changed, context), strict=True):
        assert (old[0, others] - new[0, others]).abs().amax(-1).min() > 0


@pytest.mark.parametrize(("masked", "size"), [(0.75, 49), (0.5, 98), (0.0, 196)])
def test_the_context_has_its_share_of_the_patches(masked, size):
    mp3 = build((28, 28), (2, 2), masked=masked)
    contexts = []
    mp3.encoder.register_forward_pre_hook(lambda _, inputs: contexts.append(inputs[2]))
    batch = Batch(torch.randn(3, 2, 28, 28), torch.zeros(3).long(), ["p"] * 3, ["r:0"] * 3)
    mp3(batch, torch.Generator().manual_seed(0))
    assert contexts[0].sum(1).tolist() == [size] * 3


@pytest.mark.parametrize(("hint", "known"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_hints_are_true_positions_of_their_share(hint, known):
    mp3 = build((30,), (5,), position_hint=hint)
    given = []
    mp3.encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    batch = Batch(torch.randn(2, 2, 30), torch.zeros(2).long(), ["p"] * 2, ["r:0"] * 2)
    mp3(batch, torch.Generator().manual_seed(0))
    positions = given[0][..., 0]
    assert (~positions.isnan()).sum(1).tolist() == [known] * 2
    starts = torch.arange(0.0, 30.0, 5.0).expand(2, -1)
    assert torch.equal(positions[~positions.isnan()], starts[~positions.isnan()])


def test_the_loss_is_the_cross_entropy_of_all_positions():
    mp3 = build((30,), (5,))
    logits = []
    mp3.head.register_forward_hook(lambda _, __, out: logits.append(out.detach()))
    batch = Batch(torch.randn(2, 2, 30), torch.zeros(2).long(), ["p"] * 2, ["r:0"] * 2)
    output = mp3(batch, torch.Generator().manual_seed(0))
    rows = logits[0].double()
    terms = [-(rows[b, k, k] - rows[b, k].exp().sum().log()) for b in range(2) for k in range(6)]
    assert output.loss.item() == pytest.approx(sum(t.item() for t in terms) / 12, rel=1e-6)
    assert output.metrics["chance_loss"].item() == pytest.approx(math.log(6))
    assert output.metrics["chance_accuracy"].item() == pytest.approx(1 / 6)


def test_without_hints_it_needs_no_positions_and_shuffled_patches_give_shuffled_logits():
    mp3 = build((30,), (5,), position="none").eval()
    patches = patchify(torch.randn(1, 2, 30), (5,))
    context = torch.tensor([[True, False, True, False, False, True]])
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    none = torch.zeros_like(context)
    straight = mp3.tokens(patches, context, none)
    shuffled = mp3.tokens(patches[:, order], context[:, order], none)
    assert torch.allclose(straight[:, order], shuffled, atol=1e-6)


def test_hints_without_positions_are_refused():
    with pytest.raises(ValueError, match="needs position embeddings"):
        build((30,), (5,), position="none", position_hint=0.05)


def test_one_patch_is_refused():
    with pytest.raises(ValueError, match="leaves only one position"):
        build((5,), (5,))
