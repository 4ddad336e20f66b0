"""What a task at every place starts from: which positions it keeps."""

import pytest
import torch

from biopart.experiment import open_experiment, stored_recipe
from biopart.nn import ViT
from biopart.recipe import TrunkSettings, resolve
from biopart.tasks.trunk import start_trunk
from biopart.verbs.pretrain import pretrain


@pytest.fixture
def pretrained(small_recipe, tmp_path):
    """Return a run of one step by a method."""

    def of(name):
        small_recipe["pretrain"] = {"objective": {"name": name}, "steps": 1, "batch": 4}
        return pretrain(resolve(small_recipe, [], "small"), out=tmp_path / name, latest=False)

    return of


def started(run_or_file, run, **settings):
    """Whether an encoder has the pretrained positions, and whether its positions are new."""
    torch.manual_seed(3)
    encoder = open_experiment(stored_recipe(run)).encoder("learned", 3)
    before = encoder.pos_embed.detach().clone()
    where = str(getattr(run_or_file, "path", run_or_file))
    said, new = start_trunk(encoder, TrunkSettings(weights=where, **settings))
    kept = not torch.equal(before, encoder.pos_embed)
    assert kept == ("with its positions" in said)
    return kept, bool(new)


def test_positions_are_kept_of_methods_that_trained_with_them(pretrained, tmp_path):
    part, mae = pretrained("part"), pretrained("mae")
    assert started(part, part) == (False, True)
    assert started(mae, mae) == (True, False)
    assert started(mae, mae, keep_positions=False) == (False, True)


def test_positions_of_a_file_are_kept_where_it_has_any(pretrained, tmp_path):
    part = pretrained("part")
    experiment = open_experiment(stored_recipe(part))
    for name in ("learned", "none"):
        encoder = experiment.encoder(name, 7)
        assert isinstance(encoder, ViT)
        torch.save(encoder.state_dict(), tmp_path / f"{name}.pth")
    assert started(tmp_path / "learned.pth", part) == (True, False)
    assert started(tmp_path / "none.pth", part) == (False, True)
