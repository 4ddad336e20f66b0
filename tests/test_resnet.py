"""ResNets: equal to timm's ResNet-50, and with the receptive field that they state."""

import pytest
import timm
import torch
from torch import nn

from biopart.data import Batch
from biopart.nn import Model, build_encoder
from biopart.nn.resnet import Block, ResNet
from biopart.objectives import Byol
from biopart.recipe import ByolSettings, PretrainSettings, Recipe, ResnetSettings, resolve
from biopart.verbs.export import check_timm, export
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain, refuse_single
from biopart.verbs.probe import probe


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_without_a_receptive_field_it_is_timms_resnet_50() -> None:
    torch.manual_seed(0)
    theirs, ours = timm.create_model("resnet50", num_classes=0), ResNet((64, 64), (32, 32), 3)
    ours.load_state_dict(theirs.state_dict())
    values = torch.randn(2, 3, 64, 64)
    for one in (ours, theirs):
        one.eval()
    with torch.no_grad():
        assert torch.equal(ours.map(values), theirs.forward_features(values))
        tokens = ours.encode(values)
    assert tokens.shape == (2, 5, 2048)
    torch.testing.assert_close(tokens[:, 0], theirs(values).detach(), atol=1e-5, rtol=1e-5)
    assert ours.receptive_field == (427, 427)  # known of ResNet-50 with strides in 3 x 3


@pytest.mark.parametrize(
    ("field", "depths"), [(67, (3, 4, 10, 5)), (99, (3, 4, 10, 5)), (163, (3, 4, 8, 5))]
)
def test_more_blocks_keep_the_number_of_parameters(field: int, depths: tuple[int, ...]) -> None:
    net = ResNet((224, 224), (32, 32), 3, receptive_field=field)
    assert net.receptive_field == (field, field)
    assert net.depths == depths
    assert count(net) == pytest.approx(23_508_032, rel=0.02)  # ResNet-50 without its classifier


@pytest.mark.parametrize(
    ("shape", "patch", "field"),
    [
        ((224, 224), (32, 32), 67),
        ((192, 192), (16, 16), 99),
        ((96, 96), (4, 4), 27),
        ((3000,), (100,), 333),
        ((1000,), (20,), 183),
        ((1, 600), (1, 8), 83),
        ((1024, 256), (32, 4), None),
    ],
)
def test_the_field_that_a_gradient_measures_is_that_of_the_formula(
    shape: tuple[int, ...], patch: tuple[int, ...], field: int | None
) -> None:
    torch.manual_seed(0)
    net = ResNet(shape, patch, 1, width=2, receptive_field=field).eval()
    # Straight lines instead of rectifiers, so that no path is off, and means instead of maxima.
    net.maxpool = averaging(net.maxpool)
    Block.forward, before = straight, Block.forward  # type: ignore[method-assign]
    try:
        values = torch.zeros(1, 1, *shape, requires_grad=True)
        stem = net.maxpool(net.bn1(net.conv1(values)))
        for number in range(1, 5):
            stem = net.get_submodule(f"layer{number}")(stem)
        middle = tuple(extent // 2 for extent in stem.shape[2:])
        stem[(0, slice(None), *middle)].sum().backward()
    finally:
        Block.forward = before  # type: ignore[method-assign]
    assert values.grad is not None
    seen = values.grad[0, 0] != 0
    for axis, wanted in enumerate(net.receptive_field):
        others = tuple(a for a in range(seen.dim()) if a != axis)
        places = (seen.any(others) if others else seen).nonzero().flatten()
        assert int(places.max() - places.min()) + 1 == wanted
    assert field is None or net.receptive_field[-1] == field


def straight(block: Block, values: torch.Tensor) -> torch.Tensor:
    inner = block.bn3(block.conv3(block.bn2(block.conv2(block.bn1(block.conv1(values))))))
    shortcut = values if block.downsample is None else block.downsample(values)
    return inner + shortcut


def averaging(pool: nn.Module) -> nn.Module:
    kind = nn.AvgPool1d if isinstance(pool, nn.MaxPool1d) else nn.AvgPool2d
    return kind(pool.kernel_size, pool.stride, pool.padding)  # type: ignore[arg-type]


def test_fields_that_cannot_be_had_are_refused_with_the_nearest() -> None:
    for shape, patch, field, message in (
        (
            (224, 224),
            (32, 32),
            100,
            "a receptive field of 100 cannot be reached with a stride of 32; the nearest is 99",
        ),
        (
            (64, 64),
            (32, 32),
            99,
            "99 is larger than the input of 64; set encoder.receptive_field to 67, the nearest",
        ),
        ((32, 32), (4, 4), 35, "35 is larger than the input of 32; .* to 27, the nearest"),
        ((30, 32), (4, 4), None, "patches of .4, 4. do not tile a grid of .30, 32."),
    ):
        with pytest.raises(ValueError, match=message):
            ResNet(shape, patch, 3, receptive_field=field)
    net = ResNet((32, 32), (4, 4), 1, width=2)
    with pytest.raises(ValueError, match="takes whole grids"):
        net(torch.zeros(2, 16, 1, 4, 4))


def test_patches_of_the_whole_grid_are_the_grid() -> None:
    torch.manual_seed(0)
    net = build_encoder(ResNet((32, 16), (4, 4), 2, width=2).arguments).eval()
    assert isinstance(net, ResNet)
    values = torch.randn(2, 2, 32, 16)
    patches = values.reshape(2, 2, 8, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(2, 32, 2, 4, 4)
    torch.testing.assert_close(net(patches), net.encode(values))
    assert [parameter for layer in net.layers() for parameter in layer] == list(net.parameters())


def test_seconds_become_samples_and_images_have_none() -> None:
    settings = ResnetSettings(patch=[100], receptive_field_s=3.33)
    about = {"position": "none", "drop_path": None}
    assert settings.arguments(sfreq_hz=100.0, **about)["receptive_field"] == 333
    with pytest.raises(ValueError, match="receptive_field_s is for signals"):
        settings.arguments(sfreq_hz=None, **about)
    with pytest.raises(ValueError, match="not both"):
        ResnetSettings(receptive_field=67, receptive_field_s=1.0)
    with pytest.raises(ValueError, match="has no stochastic depth"):
        settings.arguments(position="none", drop_path=0.1, sfreq_hz=100.0)


def test_a_resnet_is_pretrained_tuned_probed_and_loaded_like_any_other(small_recipe, tmp_path):
    values = small_recipe | {"encoder": {"name": "rf_resnet", "patch": [20], "width": 2}}
    byol = {"name": "byol", "hidden": 16, "out": 8}
    values["pretrain"] = small_recipe["pretrain"] | {"objective": byol, "steps": 6}
    run = pretrain(resolve(values, (), "test"), out=tmp_path / "run", latest=False)
    model = Model.load(run)
    assert isinstance(model.encoder, ResNet)
    assert run.provenance()["encoder_parameters"] == count(model.encoder)
    assert set(probe(run)) == {"pretrained_mean", "pretrained_cls", "untrained_mean", "band_powers"}
    tuned = finetune(run)
    assert -1 <= tuned.result()["kappa"] <= 1
    part = values["pretrain"] | {"objective": {"name": "part", "patches": 4, "pairs": 4}}
    recipe = resolve(values | {"pretrain": part}, (), "test")
    with pytest.raises(ValueError, match="objective part hides or moves patches, which encoder"):
        pretrain(recipe, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_recipe_without_a_name_has_a_vision_transformer():
    assert resolve({"encoder": {"dim": 64}}, (), "test").encoder.name == "vit"
    assert Recipe().encoder.name == "vit"
    with pytest.raises(ValueError, match="heads 5 does not divide dim 64"):
        resolve({"encoder": {"dim": 64, "heads": 5}}, (), "test")


def test_byol_needs_two_items_per_batch():
    torch.manual_seed(0)
    net = ResNet((40,), (4,), 1, width=2)
    objective = Byol(net, ByolSettings(hidden=8, out=4))
    one = Batch(torch.randn(1, 1, 40), torch.zeros(1).long(), ["p"], ["k"])
    with pytest.raises(ValueError, match="needs two items per step or more"):
        objective(one)


def test_exports_say_what_they_hold_and_what_cannot_be(small_recipe, tmp_path):
    values = small_recipe | {"encoder": {"name": "rf_resnet", "patch": [20], "width": 2}}
    byol = {"name": "byol", "hidden": 16, "out": 8}
    values["pretrain"] = small_recipe["pretrain"] | {"objective": byol, "steps": 2}
    run = pretrain(resolve(values, (), "test"), out=tmp_path / "run", latest=False)
    export(run, "hub", tmp_path / "hub")
    assert (
        "encoder rf_resnet of width 64, patches of [20]" in (tmp_path / "hub/README.md").read_text()
    )
    with pytest.raises(ValueError, match="timm has no encoder rf_resnet"):
        check_timm(ResNet((32, 32), (4, 4), 3, width=2).arguments)


def test_strides_and_depths_are_at_least_one_and_last_batches_two():
    for changes, message in (
        ({"patch": [0]}, r"patch\.0 is 0|patch.*give 1 or more"),
        ({"depths": [1, 0, 1, 1]}, "give 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve({"encoder": {"name": "rf_resnet", **changes}}, (), "test")
    objective = Byol(ResNet((40,), (4,), 1, width=2), ByolSettings(hidden=8, out=4))
    refuse_single(objective, 34, PretrainSettings(batch=32))
    with pytest.raises(ValueError, match="the last batch of an epoch has 1 of 33"):
        refuse_single(objective, 33, PretrainSettings(batch=32))


@torch.no_grad()
def test_compiling_reaches_whole_grids_and_changes_nothing():
    torch.manual_seed(0)
    net = ResNet((16, 16), (4, 4), 3, width=2).eval()
    values, graphs = torch.randn(2, 3, 16, 16), []
    expected = net.encode(values)

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    net.compile(backend=backend)
    torch.testing.assert_close(net.encode(values), expected)
    assert len(graphs) >= 4  # the four stages of blocks at least
