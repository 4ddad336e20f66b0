import math
import re
from pathlib import Path

import pytest
import yaml

from biopart.nn import ViT, build_encoder
from biopart.recipe import Recipe, load_recipe, resolve, views_of
from biopart.views import Views

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("*.yaml"))

DESIGN = """
name: physionet_sleep
data:     {card: physionet2018, store: data/physionet2018.zarr, channels: [F3-M2, F4-M1, C3-M2, C4-M1, O1-M2, O2-M1], window_s: 30.0, normalise: window}
split:    {test_persons: 200, validation_persons: 100, pretrain_persons: 1653, finetune_persons: 657, seed: 0}
encoder:  {patch: [100], dim: 512, depth: 4, heads: 8}
pretrain: {objective: {name: part, patches: 40, pairs: 160, head: cross_attention, position_hint: 0.8}, epochs: 1000, batch: 1024, lr: 6.0e-4, warmup_epochs: 40, weight_decay: 0.05, clip: 1.0}
finetune: {subjects: 10, epochs: 100, batch: 256, lr: 1.0e-3, layer_decay: 0.75, context: 1}
compute:  {device: auto, precision: auto, resident: auto, compile: false, threads: auto}
seed: 0
"""  # noqa: E501


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_loads_and_says_what_it_is(name):
    recipe = load_recipe(ROOT / "recipes" / name)
    assert recipe.name == name.removesuffix(".yaml")
    assert load_recipe(recipe.name) == recipe
    head = (ROOT / "recipes" / name).read_text().split("\nname:")[0]
    assert "biopart " in head, "the command stands at the head"
    figure = r"(?i)kappa|simulated|not\s(#\s)?yet\s(#\s)?measured|measured:"
    assert re.search(figure, head), "the figures that it is held against stand at the head"


def test_the_design_s_recipe_is_the_shipped_one_in_its_numbers():
    design = resolve(yaml.safe_load(DESIGN), [], "design")
    shipped = load_recipe("physionet_sleep")
    for part in ("data", "split", "encoder", "finetune", "compute"):
        assert getattr(design, part) == getattr(shipped, part)
    assert design.pretrain.objective == shipped.pretrain.objective


def test_the_published_recipe_builds_12_9_million_parameters():
    recipe = load_recipe("physionet_sleep")
    encoder = recipe.encoder
    vit = ViT((3000,), encoder.patch, 6, encoder.dim, encoder.depth, encoder.heads)
    assert round(sum(p.numel() for p in vit.parameters()) / 1e6, 1) == 12.9


def test_every_key_has_a_default_and_a_description():
    schema = Recipe.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for key, value in model.get("properties", {}).items():
            assert "default" in value, key
            assert "description" in value, key
    assert Recipe() == resolve({}, [], "nothing")


def test_a_recipe_goes_round_through_yaml():
    recipe = load_recipe("ucddb_sleep", ["pretrain.lr=3e-4", "data.channels=[EEG]"])
    assert recipe.pretrain.lr == 3e-4
    assert recipe.data.channels == ["EEG"]
    assert resolve(yaml.safe_load(recipe.to_yaml()), [], "again") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("encoder.dimm=3", r"encoder: unknown key 'dimm'; allowed: .*; did you mean dim\?"),
        ("encoder.dim=wide", r"encoder\.dim is 'wide'; give a whole number$"),
        (
            "pretrain.objective.name=parts",
            r"pretrain\.objective\.name is 'parts'; give one of 'part', 'mae', ",
        ),
        ("finetune.context=0", r"finetune\.context is 0; give 1 or more$"),
        ("encoder.heads=7", r"encoder: heads 7 does not divide dim 96"),
        ("nonsense", "--set takes KEY=VALUE, got"),
        ("name.a=1", "name is a value, not a group"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("ucddb_sleep", [change])


@pytest.mark.parametrize(
    ("section", "given", "sentence"),
    [
        (
            "pretrain.objective",
            {"name": "part", "pairs": None, "replacement": False, "shared_pairs": True},
            "pairs null takes every pair, so replacement and shared_pairs have no effect; leave "
            "them out",
        ),
        (
            "pretrain.objective",
            {"name": "part", "sides": "uniform"},
            "scale [1.0, 1.0] gives patches of one size, so sides has no effect; leave it out",
        ),
        (
            "pretrain.objective",
            {"name": "part", "sides": "uniform", "size_target": "ratio"},
            "scale [1.0, 1.0] gives patches of one size, so sides and size_target have no effect; "
            "leave them out",
        ),
        (
            "pretrain.objective",
            {"name": "part", "head": "pairwise", "heads": 2},
            "head pairwise has no attention heads, so heads has no effect; leave it out",
        ),
        (
            "pretrain",
            {"lr": 1e-3, "final_lr": 1e-2},
            "final_lr 0.01 is larger than lr 0.001; lower final_lr or raise lr",
        ),
        (
            "finetune",
            {"final_lr": 1e-5, "decay_at": [0.5]},
            "decay_at replaces the cosine, so final_lr has no effect; leave one of them out",
        ),
        (
            "pretrain.objective",
            {"name": "part", "target_cap": 2.0},
            "target is linear, so target_cap has no effect; leave it out",
        ),
        (
            "pretrain.objective",
            {"name": "droppos", "attentive_temperature": 0.2},
            "attentive is false, so attentive_temperature has no effect; leave it out",
        ),
        (
            "pretrain",
            {"clip": None, "clip_each": True},
            "clip is null, so clip_each has no effect; leave it out",
        ),
    ],
)
def test_a_key_without_effect_is_refused(section, given, sentence):
    values: dict = given
    for group in reversed(section.split(".")):
        values = {group: values}
    with pytest.raises(ValueError, match=rf"^r: {section}: {re.escape(sentence)}$"):
        resolve(values, [], "r")


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("objective", {"pairs": None, "self_pairs": True}),
        ("objective", {"scale": [0.5, 2.0], "sides": "uniform", "size_target": "ratio"}),
        ("objective", {"head": "attention", "heads": 2}),
        ("objective", {"head": "joint"}),
        ("pretrain", {"lr": 1e-3, "final_lr": 1e-3}),
        ("pretrain", {"decay_at": [0.5]}),
    ],
)
def test_a_recipe_with_every_key_written_out_is_not_refused(section, changes):
    part = {"name": "part", **(changes if section == "objective" else {})}
    pretrain = {"objective": part, **(changes if section == "pretrain" else {})}
    recipe = resolve({"pretrain": pretrain}, [], "r")
    assert resolve(yaml.safe_load(recipe.to_yaml()), [], "again") == recipe


def test_a_missing_recipe_lists_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match=r"the shipped recipes are .*demo.*ucddb_sleep"):
        load_recipe("nothing_like_it")
    with pytest.raises(FileNotFoundError, match=r"exist; did you mean physionet_sleep\? All names"):
        load_recipe("physionet_slep")


def test_numbers_of_a_recipe_are_finite():
    assert all(math.isfinite(load_recipe(ROOT / "recipes" / n).pretrain.lr) for n in RECIPES)


@pytest.mark.parametrize("key", ["seed", "split.seed", "compute.threads"])
def test_a_number_that_no_library_takes_is_refused(key):
    with pytest.raises(ValueError, match=rf"{key}.* is \d+; give .*\d+ or less"):
        load_recipe("demo", [f"{key}=99999999999999999999"])


def test_keys_of_older_runs_that_mean_nothing_are_passed_over():
    old = {"curve": {"unit": "person", "repeats": 2}, "detect": {"train": {"keypoints": None}}}
    recipe = resolve(old, [], "an old run")
    assert recipe.curve.repeats == 2
    assert "keypoints" not in recipe.model_dump()["detect"]["train"]
    with pytest.raises(ValueError, match="unknown key 'units'"):
        resolve({"curve": {"units": "person"}}, [], "a new one")


def test_a_recipe_is_written_without_the_sections_that_it_does_not_use():
    plain = resolve({"name": "a"}, [], "a")
    assert not {"detect", "curve", "sweep"} & set(yaml.safe_load(plain.to_yaml()))
    curve = resolve({"name": "a"}, ["curve.repeats=2"], "a")
    written = yaml.safe_load(curve.to_yaml())
    assert written["curve"]["repeats"] == 2
    assert resolve(written, [], "again") == curve


SHAPES = {
    "cifar10": (32, 32),
    "cifar100": (32, 32),
    "imagenet": (224, 224),
    "imagenet100": (224, 224),
    "physionet2018": (3000,),
}


@pytest.mark.parametrize(
    "name", [n for n in RECIPES if views_of(load_recipe(ROOT / "recipes" / n).pretrain.objective)]
)
def test_views_and_fields_of_a_recipe_fit_its_items(name):
    recipe = load_recipe(ROOT / "recipes" / name)
    shape = SHAPES[recipe.data.card]
    sfreq_hz = 100.0 if len(shape) == 1 else None
    made = Views(views_of(recipe.pretrain.objective), shape, recipe.encoder.patch, sfreq_hz)
    assert all(side <= extent for side, extent in zip(made.small, made.shape, strict=True))
    if recipe.encoder.name == "rf_resnet":
        about = {"position": "none", "drop_path": recipe.pretrain.drop_path}
        arguments = recipe.encoder.arguments(sfreq_hz=sfreq_hz, **about)
        net = build_encoder({"shape": shape, "channels": 3, **arguments | {"width": 2}})
        assert net.asked is None or net.receptive_field[-1] == net.asked


@pytest.mark.parametrize(
    ("section", "search", "sentence"),
    [
        (
            "finetune",
            {"lr": [1e-3, -1]},
            "finetune: search tries lr -1: lr is -1; give more than 0",
        ),
        (
            "curve",
            {"finetune.lr": [1e-3, "high"]},
            "curve.search: search tries lr high: lr is 'high'; give a number",
        ),
        (
            "curve",
            {"finetune.augment.smoothing": [0.1, 1.5], "finetune.lr": [1e-3]},
            "search tries augment.smoothing 1.5, lr 0.001: augment.smoothing is 1.5; give less",
        ),
        (
            "finetune",
            {"lr": [1e-3, 1e-5], "final_lr": [1e-4]},
            "search tries lr 1e-05, final_lr 0.0001: final_lr 0.0001 is larger than lr 1e-05",
        ),
    ],
)
def test_a_search_is_refused_before_any_training_if_a_value_cannot_be(section, search, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        resolve({section: {"search": search}}, [], "r")


def test_recipes_have_what_the_authors_released():
    def settings(name):
        return load_recipe(ROOT / "recipes" / f"{name}.yaml")

    for name in ("cifar100_part", "imagenet_part"):  # qczeck/msc_thesis, PART/
        recipe = settings(name)
        part, tuning = recipe.pretrain.objective, recipe.finetune
        assert (part.head, part.replacement, part.self_pairs, part.shared_pairs) == (
            *("attention", False),
            *(True, True),
        )
        assert (recipe.pretrain.clip, recipe.pretrain.drop_path) == (None, 0.1)
        decided = tuning.of_method(part.protocol)
        assert (decided.layer_decay, decided.ema, decided.final_lr) == (1.0, None, 1e-5)
    mp3 = settings("cifar100_mp3")
    assert (mp3.pretrain.objective.masked, mp3.pretrain.drop_path) == (0.5, 0.1)
    for name in ("cifar100_droppos", "imagenet_droppos", "physionet_curve", "edf20_curve"):
        recipe = settings(name)
        objectives = (recipe.pretrain.objective, *recipe.curve.objectives)
        (droppos,) = (each for each in objectives if each.name == "droppos")
        assert droppos.attentive
    mae = settings("imagenet_mae").finetune.of_method(
        settings("imagenet_mae").pretrain.objective.protocol
    )
    assert (mae.head_std, mae.pool, mae.keep_positions, mae.ema) == (2e-5, "mean", True, None)
    assert mae.layer_decay in (0.65, 0.75)
    coco = settings("coco_maskrcnn").detect
    assert coco.lr / coco.batch == pytest.approx(1e-4 / 64)
