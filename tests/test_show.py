"""What a run sees, worked out by hand on relations that are known, and drawn end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch

from biopart import figures
from biopart.grid import Boxes, random_boxes, translation
from biopart.recipe import Recipe
from biopart.store import Images, create_store, write_record
from biopart.store.image_card import ImageCard
from biopart.studies.show import lines_of, run_show
from biopart.verbs.maps import open_map_run
from biopart.verbs.pretrain import pretrain
from biopart.verbs.show import Relations, measure_relations, open_part_run, views_of

CARD = ImageCard(name="dots", title="t", licence="l", citation="c", images="folders", size=(8, 8))


def relations(shape=(30, 40), patch=(4, 5), *, scale=(1, 1), off=0.0):
    """True relations of random boxes, all shifted by so many patches."""
    boxes = random_boxes(
        3, 6, shape, patch, scale=scale, generator=torch.Generator().manual_seed(0)
    )
    reference = Boxes(boxes.start[:, :, None], boxes.size[:, :, None])
    moved = translation(reference, Boxes(boxes.start[:, None], boxes.size[:, None])) + off
    hinted = torch.zeros(3, 6, dtype=torch.bool)
    return Relations(torch.zeros(3, 1, *shape), list("abc"), boxes, hinted, moved, None, patch)


@pytest.mark.parametrize("scale", [(1, 1), (0.5, 2)])
def test_true_relations_put_every_patch_where_it_was_cut(scale):
    told = relations(scale=scale)
    for reference in (None, 0, 4):
        placed = told.placed(reference)
        assert torch.allclose(placed, told.boxes.centre.double(), atol=1e-3)
        assert told.distance(placed).max() < 1e-3
    assert told.scatter.max() < 1e-3
    assert torch.allclose(told.shifts, told.true_shifts, atol=1e-6)
    both = told.shifts + told.shifts.transpose(1, 2)
    assert both.abs().max() < 1e-5


def test_a_constant_error_moves_all_patches_but_the_reference_by_it():
    told = relations(off=0.5)
    away = told.distance(told.placed(2))
    assert away[:, 2].max() < 1e-6
    others = [0, 1, 3, 4, 5]
    assert torch.allclose(away[:, others], torch.full((3, 5), 0.5 * 2**0.5, dtype=torch.float64))


@pytest.fixture(scope="module")
def signal_run(small_store, tmp_path_factory):
    values = {
        "data": {"store": str(small_store)},
        "split": {"test_persons": 2, "validation_persons": 2},
        "encoder": {"patch": [20], "dim": 16, "depth": 1, "heads": 2},
        "pretrain": {"objective": {"name": "part", "patches": 6, "pairs": 8, "position_hint": 0.5}}
        | {"steps": 2, "warmup_epochs": 0, "batch": 16},
        "compute": {"precision": "float32", "threads": 1},
    }
    folder = tmp_path_factory.mktemp("runs")
    mae = {**values, "pretrain": {**values["pretrain"], "objective": {"name": "mae"}}}
    part = pretrain(Recipe.model_validate(values), out=folder / "part", latest=False)
    return part, pretrain(Recipe.model_validate(mae), out=folder / "mae", latest=False)


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    store = folder / "dots.zarr"
    create_store(store, CARD.store_attributes(["red", "blue"]))
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        image = rng.integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
        names = tuple(f"{part}/{number}" for number in range(count))
        label = (np.arange(count) % 2).astype(np.int16)
        write_record(store, part, Images(image, label, names, {"part": part}))
    objective = {"name": "part", "patches": 6, "pairs": 8, "scale": [0.5, 2.0]}
    recipe = Recipe.model_validate(
        {
            "data": {"store": str(store)},
            "split": {"test_part": "test", "validation_persons": 0},
            "encoder": {"patch": [2, 2], "dim": 16, "depth": 1, "heads": 2},
            "pretrain": {"objective": objective, "steps": 2, "warmup_epochs": 0, "batch": 6},
            "compute": {"precision": "float32", "threads": 1},
        }
    )
    return pretrain(recipe, out=folder / "run", latest=False)


def test_held_out_items_alone_are_looked_at(signal_run, image_run):
    look = open_part_run(signal_run[0])
    assert set(look.source.persons) == set(look.experiment.split.validation)
    assert {name.split("/")[0] for name in open_part_run(image_run).source.persons} == {"test"}


def test_as_many_positions_are_told_as_in_training_and_none_when_asked(signal_run):
    look = open_part_run(signal_run[0])
    told = look.relations([0, 1])
    assert told.hinted.sum(1).tolist() == [3, 3]
    assert not look.relations([0, 1], hints=False).hinted.any()
    assert torch.equal(told.boxes.start, look.relations([0, 1], hints=False).boxes.start)


def test_a_mixture_holds_patches_of_one_item_and_then_of_the_other(image_run):
    look, seen = open_part_run(image_run), []
    look.part.encoder.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    told = look.mixed((0, 3))
    look.relations([0, 3])
    mixed, apart = seen
    assert torch.equal(mixed[0, :3], apart[0, :3])
    assert torch.equal(mixed[0, 3:], apart[1, 3:])
    assert told.names == ["test/0 and test/3"]


def test_measured_figures_of_a_known_encoder(image_run, monkeypatch):
    look = open_part_run(image_run)
    true = look.relations(look.items(200))

    def knowing(tokens):
        return true.truth, true.true_sizes

    monkeypatch.setattr(look.part, "relate", knowing)
    said = measure_relations(look)
    assert said["items"] == 6
    for name in ("error_one_reference", "error_least_squares", "spread", "asymmetry"):
        assert said[name] == pytest.approx(0, abs=1e-4), name
    assert said["size_factor"] == pytest.approx(1)
    assert said["size_factor_chance"] > 1.2
    assert said["error_chance"] > 0.5


def test_every_view_is_drawn_onto_one_page(signal_run, image_run, tmp_path: Path):
    signals = run_show(signal_run[0], tmp_path / "signals", items=2)
    # Two windows by two ways each, and two mixed; then one picture per window and view.
    names = [Path(path).name for path in signals["pictures"]]
    assert len(names) == 2 * 2 + 2 + 2 + 2
    images = run_show(image_run, tmp_path / "images", items=2)
    names = [Path(path).name for path in images["pictures"]]
    assert names[-2:] == ["scale-1.png", "scale-2.png"]
    assert len(names) == 2 + 1 + 2 + 2 + 2
    page = Path(images["page"]).read_text()
    assert page.count('class="drawing') == len(names)
    assert "6 held-out images" in page
    assert lines_of(signals)[0].endswith("50% of the positions given")


def test_attention_and_similarity_are_shown_of_any_run(signal_run, image_run, tmp_path):
    signals = run_show(signal_run[1], tmp_path / "signals", items=2)  # by MAE, so by default
    names = [Path(path).name for path in signals["pictures"]]
    kinds = ("attention-1", "attention-2", "similarity-1", "similarity-2")
    assert names == [f"{kind}.png" for kind in kinds]
    assert lines_of(signals)[1].endswith("mean cosine of different places of an item")
    images = run_show(image_run, tmp_path / "images", views=["similarity"], items=1)
    assert [Path(path).name for path in images["pictures"]] == ["similarity-1.png"]
    with pytest.raises(ValueError, match="by two commands, each with its own --out"):
        run_show(image_run, tmp_path / "both", views=["similarity", "symmetry"])


def test_attention_is_that_of_the_last_block_and_similarity_a_cosine(signal_run):
    opened = open_map_run(signal_run[1])
    maps, net = opened.maps([0, 3]), opened.model.encoder
    values = opened.source.__getitems__([0, 3]).values
    seen = []
    hook = net.blocks[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        tokens = opened.model.tokens(values)[:, 1:]
        hook.remove()
        block = net.blocks[-1]
        qkv = block.attn.qkv(block.norm1(seen[0]))
        query, key, _ = qkv.chunk(3, -1)
        width = query.shape[-1] // block.attn.heads
        for head in range(block.attn.heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.einsum("bd,bkd->bk", query[:, 0, part], key[:, 1:, part]) / width**0.5
            torch.testing.assert_close(maps.attention[:, head], scores.softmax(1))
        expected = torch.cosine_similarity(tokens[:, :1], tokens[:, 1:2], dim=-1)[:, 0]
    torch.testing.assert_close(maps.similarity[:, 0, 1], expected)
    off = maps.similarity[:, ~torch.eye(maps.similarity.shape[1], dtype=torch.bool)]
    assert maps.alike == pytest.approx(off.mean().item(), rel=1e-4)


def test_maps_say_what_is_missing():
    with pytest.raises(ValueError, match="1 maps and 2 marks were given"):
        figures.over_image(
            np.zeros((4, 4), np.uint8), {"a": np.zeros((2, 2))}, marked=[0, 1], label=""
        )
    with pytest.raises(ValueError, match="no line to draw"):
        figures.over_signal(np.zeros(4), {}, sfreq_hz=1.0, ylabel="", label="")


def test_what_cannot_be_shown_is_refused(signal_run):
    part, mae = signal_run
    with pytest.raises(ValueError, match="was pretrained by mae, which predicts no relations"):
        open_part_run(mae)
    with pytest.raises(ValueError, match=r"patches of one size; .*pretrain\.objective\.scale"):
        views_of(open_part_run(part), ["scale"])
    assert views_of(open_part_run(part)) == ("reconstruction", "uncertainty", "symmetry")
