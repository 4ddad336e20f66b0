import pytest
import torch

from biopart.data import Batch, Context
from biopart.nn import Classifier, ViT
from biopart.nn.sequence import SequenceClassifier
from biopart.objectives import Sequence
from biopart.recipe import SequenceSettings

GRIDS = [((30,), (6,)), ((12, 18), (4, 6)), ((8, 6, 10), (2, 3, 5))]


def model(shape=(30,), patch=(6,), context=5):
    torch.manual_seed(0)
    single = Classifier.on(ViT(shape, patch, 2, 16, 1, 2), 3)
    return SequenceClassifier(single, context, depth=2, heads=2).eval()


def stirred(given):
    """A context that has learnt something: its last layer is not zero."""
    torch.nn.init.normal_(given.leave.weight, std=0.5, generator=torch.Generator().manual_seed(3))
    return given


def windows(shape=(30,), context=5, batch=2):
    return torch.randn(batch, context, 2, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_an_untrained_context_says_what_the_windows_say_alone(shape, patch):
    given, values = model(shape, patch), windows(shape)
    alone = given.classifier(values.flatten(0, 1)).reshape(2, 5, 3)
    assert torch.allclose(given(values), alone, atol=0.03)
    torch.nn.init.zeros_(given.leave.weight)
    assert torch.equal(given(values), alone)


def test_neighbours_change_a_window_and_absent_ones_do_not():
    given, values = stirred(model()), windows()
    changed = values.clone()
    changed[:, 4] += 1
    assert not torch.allclose(given(values)[:, 2], given(changed)[:, 2], atol=1e-3)
    present = torch.tensor([[True, True, True, True, False]] * 2)
    assert torch.equal(given(values, present)[:, :4], given(changed, present)[:, :4])


def test_the_order_of_neighbours_matters():
    given, values = stirred(model()), windows()
    swapped = values[:, [1, 0, 2, 3, 4]]
    assert not torch.allclose(given(values)[:, 2], given(swapped)[:, 2], atol=1e-4)


@pytest.mark.parametrize(("context", "centre"), [(2, 0), (3, 1), (4, 1), (21, 10)])
def test_the_centre_is_the_window_whose_neighbours_a_source_gives(context, centre):
    assert model(context=context).centre == centre


def test_another_number_of_windows_is_refused():
    with pytest.raises(ValueError, match="4 windows were given, but the model needs 5"):
        model()(windows(context=4))


def test_windows_without_a_label_take_no_part_in_the_loss():
    torch.manual_seed(0)
    settings = SequenceSettings(classes=3, context=3, heads=2, dropout=0)
    objective = Sequence(ViT((30,), (6,), 2, 16, 1, 2), settings).eval()
    values, label = windows(context=3), torch.tensor([[0, 1, -1], [-1, 2, -1]])
    present = torch.ones(2, 3, dtype=torch.bool)
    batch = Batch(values, label[:, 1], ["p"] * 2, ["r:1"] * 2, context=Context(present, label))
    odds = objective.model(values).log_softmax(-1)
    expected = -(odds[0, 0, 0] + odds[0, 1, 1] + odds[1, 1, 2]) / 3
    assert objective(batch).loss.item() == pytest.approx(expected.item())


def test_a_frozen_classifier_gets_no_gradient_and_embeddings_give_the_same_loss():
    torch.manual_seed(0)
    settings = SequenceSettings(classes=3, context=3, heads=2, dropout=0, frozen=True)
    objective = Sequence(ViT((30,), (6,), 2, 16, 1, 2), settings).eval()
    values, label = windows(context=3), torch.tensor([[0, 1, 2], [2, 1, 0]])
    present = torch.ones(2, 3, dtype=torch.bool)
    batch = Batch(values, label[:, 1], ["p"] * 2, ["r:1"] * 2, context=Context(present, label))
    loss = objective(batch).loss
    loss.backward()
    assert all(p.grad is None for p in objective.model.classifier.parameters())
    assert objective.model.leave.weight.grad.any()
    embedded = objective.model.classifier.embed(values.flatten(0, 1)).reshape(2, 3, -1)
    again = Batch(embedded, label[:, 1], ["p"] * 2, ["r:1"] * 2, context=Context(present, label))
    assert objective(again).loss.item() == pytest.approx(loss.item())


def test_single_windows_are_refused():
    objective = Sequence(ViT((30,), (6,), 2, 16, 1, 2), SequenceSettings(classes=3, heads=2))
    with pytest.raises(ValueError, match="windows with their neighbours; give context=L"):
        objective(Batch(windows()[:, 0], torch.zeros(2).long(), ["p"] * 2, ["r"] * 2))
