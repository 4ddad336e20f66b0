import pytest
import torch
from torch import nn

from biopart.compute import open_fabric
from biopart.data import open_cohort
from biopart.nn import ViT
from biopart.objectives import Part
from biopart.recipe import ComputeSettings, Optimisation, PartSettings
from biopart.run import Run
from biopart.train import Training, fit, loop
from biopart.train.live import Live

CPU = ComputeSettings(device="cpu", precision="float32", threads=1)


def test_the_average_by_hand():
    # Decay after step n is 1 - n^(-2/3), at most 0.5: 0 after the first two, 0.37 and then 0.5.
    weight, average = nn.Linear(1, 1, bias=False), None
    average = Live(weight, 0.5)
    expected = 0.0
    for step, value in enumerate((3.0, 5.0, 7.0, 9.0, 11.0), start=1):
        nn.init.constant_(weight.weight, value)
        average.after_step(step)
        decay = min(0.5, 1 - step ** (-2 / 3)) if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * value
        assert average.state()["average.weight"].item() == pytest.approx(expected)


def test_the_average_is_shown_and_taken_back_and_settles_at_the_end():
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 1.0)
    average = Live(weight, 0.9)
    average.after_step(1)
    nn.init.constant_(weight.weight, 4.0)
    with average.shown():
        assert weight.weight.item() == 1.0
    assert weight.weight.item() == 4.0
    average.settle()
    assert weight.weight.item() == 1.0


def test_without_a_decay_nothing_is_averaged():
    weight = nn.Linear(2, 2)
    average = Live(weight, None)
    average.after_step(1)
    assert list(average.state()) == ["objective.weight", "objective.bias"]
    before = weight.weight.clone()
    average.settle()
    assert torch.equal(weight.weight, before)


def test_a_resumed_training_has_the_average_of_one_that_ran_through(
    small_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    states = []
    for folder, stops in (("whole", [12]), ("halves", [7, 12])):
        run = Run(tmp_path / folder)
        run.path.mkdir()
        for steps in stops:
            torch.manual_seed(0)
            encoder = ViT((120,), (20,), 2, 16, 1, 2, position="none")
            part = Part(encoder, PartSettings(patches=6, pairs=8))
            settings = Optimisation(batch=16, steps=12, warmup_epochs=0, ema=0.9)
            halt_after(part, steps if steps < 12 else None)
            task = Training(part, open_cohort(small_store).source(), settings, "window", 0)
            try:
                fit(task, open_fabric(CPU), run)
            except KeyboardInterrupt:
                continue
        states.append(part.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def halt_after(part, steps):
    """Interrupt a training inside the step after so many."""
    forward, calls = part.forward, []

    def halting(*args):
        calls.append(1)
        if steps is not None and len(calls) > steps:
            raise KeyboardInterrupt
        return forward(*args)

    part.forward = halting
