import math

import pytest
import torch
from torch.nn import functional as F

from biopart.data import Batch
from biopart.nn import ViT
from biopart.objectives import Classify
from biopart.recipe import ClassifySettings


def classify(**settings):
    torch.manual_seed(0)
    return Classify(ViT((30,), (6,), 2, 24, 2, 4), ClassifySettings(classes=3, **settings))


def batch(label):
    values = torch.randn(len(label), 2, 30, generator=torch.Generator().manual_seed(0))
    return Batch(values, torch.tensor(label), [], [])


def test_loss_is_the_mean_over_known_labels_alone():
    objective, data = classify(), batch([0, -1, 2])
    logits = objective.model(data.values)
    expected = -(logits.log_softmax(1)[0, 0] + logits.log_softmax(1)[2, 2]) / 2
    torch.testing.assert_close(objective(data).loss, expected)


def test_an_untrained_classifier_starts_near_ln_of_its_classes():
    assert classify()(batch([0, 1, 2] * 20)).loss.item() == pytest.approx(math.log(3), abs=0.05)


def test_class_weights_weigh():
    weights = (1.0, 2.0, 0.0)
    objective, data = classify(class_weights=weights), batch([0, 1, 1, 2])
    expected = F.cross_entropy(objective.model(data.values), data.label, torch.tensor(weights))
    torch.testing.assert_close(objective(data).loss, expected)


def test_accuracy_counts_known_labels():
    objective = classify()
    torch.nn.init.zeros_(objective.model.final_layer.weight)
    objective.model.final_layer.bias.data = torch.tensor([0.0, 9.0, 0.0])
    assert objective(batch([1, 1, 0, -1])).metrics["accuracy"].item() == pytest.approx(2 / 3)


def test_wrong_number_of_weights_is_refused():
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        classify(class_weights=(1.0, 2.0))


def test_the_linear_layer_starts_with_the_deviation_that_its_method_has():
    weights = [classify(head_std=std).model.final_layer for std in (2e-5, 0.01)]
    for layer, std in zip(weights, (2e-5, 0.01), strict=True):
        assert layer.weight.square().mean().sqrt().item() == pytest.approx(std, rel=0.25)
        assert layer.bias.abs().max() == 0


def test_smoothed_labels_give_every_class_a_share_in_training_alone():
    objective, data = classify(smoothing=0.3), batch([0, 1])
    logs = objective.model(data.values).log_softmax(1)
    # Of each window 0.7 for its class and 0.1 for each of the three.
    expected = -(0.7 * logs[[0, 1], [0, 1]] + 0.1 * logs.sum(1)).mean()
    torch.testing.assert_close(objective.train()(data).loss, expected)
    torch.testing.assert_close(objective.eval()(data).loss, -logs[[0, 1], [0, 1]].mean())
