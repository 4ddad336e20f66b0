"""Methods with a teacher: losses by a second formula, what the teacher learns, who sees whom."""

import math

import pytest
import torch
from torch.nn import functional as F

from biopart.data import Batch, View
from biopart.experiment.stored import build_objective
from biopart.nn import Normalise, ViT
from biopart.nn.batch_norm import BatchNorm
from biopart.nn.heads import DinoHead
from biopart.nn.processes import counting
from biopart.nn.siamese import encoded
from biopart.nn.teacher import Centre, Queue, Teacher, momentum_at
from biopart.objectives import Byol, Cossl, Dino, Moby, Part, Selfpatch, Sum
from biopart.recipe import (
    ByolSettings,
    ColourChanges,
    CosslSettings,
    DinoSettings,
    MobySettings,
    PartSettings,
    SelfpatchSettings,
    SumSettings,
    ViewsSettings,
    resolve,
)
from biopart.recipe.objectives import SumPart
from biopart.verbs.pretrain import pretrain
from biopart.views import Views

DINO = DinoSettings(prototypes=16, hidden=24, bottleneck=8, teacher_temperature=(0.04, 0.04))
BYOL = ByolSettings(hidden=32, out=16)
MOBY = MobySettings(hidden=32, out=16, queue=12)


def encoder(shape=(30,), patch=(6,), **options):
    torch.manual_seed(0)
    return ViT(shape, patch, 2, 24, 2, 4, position="sincos", **options)


def batch(count=6, shape=(30,), local=()):
    """Return items with two global views and local ones, all different."""
    draws = torch.Generator().manual_seed(1)
    sizes = [shape, shape, *local]
    views = [
        View(
            torch.randn(count, 2, *size, generator=draws),
            torch.zeros(count, len(size)).long(),
            torch.ones(count, len(size)).long(),
            torch.zeros(count, dtype=torch.bool),
            local=number > 1,
        )
        for number, size in enumerate(sizes)
    ]
    values = torch.randn(count, 2, *shape, generator=draws)
    return Batch(values, torch.zeros(count).long(), ["p"] * count, ["k"] * count, views=views)


def moved(objective):
    """Let a teacher differ from its student."""
    torch.manual_seed(3)
    for parameter in objective.teacher.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return objective


def test_dinos_loss_by_a_second_formula():
    objective = moved(Dino(encoder(), DINO))
    objective.centre.value += torch.linspace(-0.1, 0.1, 16)
    data = batch(local=[(12,), (12,)])
    loss = objective(data, None, 0.5).loss
    total, terms = 0.0, 0
    views = [view.values for view in data.views]
    for t, shown in enumerate(views[:2]):
        tokens = objective.teacher["encoder"].encode(shown)
        sharp = ((objective.teacher["head"](tokens[:, 0]) - objective.centre.value) / 0.04).exp()
        target = sharp / sharp.sum(1, keepdim=True)
        for s, seen in enumerate(views):
            if s != t:
                logits = objective.head(objective.encoder.encode(seen)[:, 0]) / 0.1
                total += F.cross_entropy(logits, target)
                terms += 1
    assert terms == 6
    assert loss.item() == pytest.approx(float((total / terms).detach()), rel=1e-5)


def test_byols_loss_by_a_second_formula():
    objective = moved(Byol(encoder(), BYOL))
    data = batch()
    loss = objective(data, None, 0.5).loss
    one, two = (view.values for view in data.views)
    total = 0.0
    for seen, other in ((one, two), (two, one)):
        predicted = objective.predictor(objective.projector(objective.encoder.encode(seen)[:, 0]))
        tokens = objective.teacher["encoder"].encode(other)
        target = objective.teacher["projector"](tokens[:, 0])
        unit = [v / v.norm(dim=1, keepdim=True) for v in (predicted, target)]
        total += (unit[0] - unit[1]).square().sum(1).mean()
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)


def test_mobys_loss_by_a_second_formula():
    objective = moved(Moby(encoder(), MOBY))
    data = batch()
    loss = objective(data, None, 0.5).loss
    total = 0.0
    for own, other in ((0, 1), (1, 0)):
        tokens = objective.encoder.encode(data.views[own].values)[:, 0]
        query = F.normalize(objective.predictor(objective.projector(tokens)), dim=1)
        shown = objective.teacher["encoder"].encode(data.views[other].values)[:, 0]
        key = F.normalize(objective.teacher["projector"](shown), dim=1)
        logits = torch.cat(
            [(query * key).sum(1, keepdim=True), query @ objective.queues[other].keys.T], 1
        )
        total += F.cross_entropy(logits / 0.2, torch.zeros(6).long())
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "chance"),
    [
        (Dino, DinoSettings(), math.log(65536)),
        (Byol, ByolSettings(), 4.0),
        (Moby, MobySettings(), 2 * math.log(4097)),
    ],
)
def test_an_untrained_student_is_near_chance_on_unrelated_views(kind, settings, chance):
    output = kind(encoder(), settings)(batch(64), None, 0.5)
    assert float(output.metrics["chance_loss"]) == pytest.approx(chance, rel=1e-6)
    assert output.loss.item() == pytest.approx(chance, rel=0.12)
    assert 1 <= float(output.metrics["rank"]) <= 24


def test_the_teacher_has_no_gradient_and_follows_the_student_by_hand():
    objective = moved(Byol(encoder(drop_path=0.5), BYOL))
    objective(batch(), None, 0.5).loss.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert objective.teacher["encoder"].drop_path == 0
    own = objective.projector[0].weight.detach()
    before = objective.teacher["projector"][0].weight.clone()
    objective.after_step(0.5)
    assert momentum_at(0.5, 0.996) == pytest.approx(0.998)
    expected = 0.998 * before + 0.002 * own
    torch.testing.assert_close(objective.teacher["projector"][0].weight, expected)
    objective.after_step(1.0)  # at the end the teacher stands still
    torch.testing.assert_close(objective.teacher["projector"][0].weight, expected)


def test_the_centre_is_the_moving_mean_by_hand():
    centre = Centre(2, momentum=0.9)
    centre.keep(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    centre.keep(torch.tensor([[[5.0, 0.0]]]))
    centre.update()
    assert centre.value.tolist() == pytest.approx([0.3, 0.2])
    centre.update()  # nothing new
    assert centre.value.tolist() == pytest.approx([0.3, 0.2])
    objective = Dino(encoder(), DINO)
    objective.eval()
    objective(batch(), None, 0.5)
    objective.after_step(0.5)
    assert not objective.centre.value.any()  # a validation leaves no trace
    objective.train()
    objective(batch(), None, 0.5)
    objective.after_step(0.5)
    assert objective.centre.value.any()


def test_the_queue_replaces_its_oldest_keys():
    queue = Queue(5, 1)
    for keys in ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]):
        queue.keep(torch.tensor(keys)[:, None])
        queue.update()
    assert queue.keys[:, 0].tolist() == [6, 2, 3, 4, 5]
    assert int(queue.place) == 1
    queue.keep(torch.arange(10.0, 17.0)[:, None])  # more than it holds: the last ones
    queue.update()
    assert sorted(queue.keys[:, 0].tolist()) == [12, 13, 14, 15, 16]


def test_the_last_layer_stands_still_at_first():
    objective = Dino(encoder(), DINO.model_copy(update={"frozen_last": 0.1}))
    for progress, still in ((0.05, True), (0.2, False)):
        objective.zero_grad()
        objective(batch(), None, progress).loss.backward()
        assert (not objective.head.last.grad.any()) == still
        assert objective.head.mlp[0].weight.grad.any()
    head = DinoHead(4, 8, 4, 3)
    assert head(torch.randn(5, 4)).abs().max() <= 1 + 1e-6  # cosines


def test_the_teachers_temperature_rises():
    settings = DINO.model_copy(update={"teacher_temperature": (0.04, 0.07)})
    objective = Dino(encoder(), settings)
    found = [objective.teacher_temperature(at) for at in (0.0, 0.15, 0.3, 0.9)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_views_of_one_size_are_encoded_at_once_and_small_ones_keep_their_place():
    net = encoder()
    one, two, small = torch.randn(3, 4, 2, 30)[:, :, :, :].unbind(0)
    small = small[..., :18]
    tokens = encoded(net, [one, two, small])
    torch.testing.assert_close(tokens[1], net.encode(two))
    # Three patches spread over the places of five: centres at 1/6, 3/6 and 5/6 of 30 samples.
    places = torch.tensor([[[2.0], [12.0], [22.0]]]).expand(4, -1, -1)
    patches = small.reshape(4, 2, 3, 6).transpose(1, 2)
    torch.testing.assert_close(tokens[2], net(patches, places))


@pytest.mark.parametrize("image", [DINO, MOBY])
def test_a_patchs_target_does_not_contain_the_patch_itself(image):
    settings = SelfpatchSettings(image=image)
    objective = Selfpatch(encoder(cls=False, final_norm=False), settings)
    tokens = torch.randn(2, 5, 24, requires_grad=True)
    for patch in range(5):
        tokens.grad = None
        objective.summaries(tokens)[:, patch].square().sum().backward()
        assert not tokens.grad[:, patch].any()
        around = [n for n in (patch - 1, patch + 1) if 0 <= n < 5]
        used = [n for n in range(5) if tokens.grad[0, n].any()]
        assert set(used) <= set(around)
        assert len(used) == 1  # the more similar of two


def test_all_neighbours_are_summarised_where_all_are_chosen():
    settings = SelfpatchSettings(image=DINO, prototypes=16, neighbours=8)
    objective = Selfpatch(encoder((12, 12), (4, 4)), settings)
    tokens = torch.randn(2, 9, 24)
    pooling = objective.image.teacher["pooling"]
    middle = objective.summaries(tokens)[:, 4]
    others = tokens[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    torch.testing.assert_close(middle, pooling.summary(others)[:, 0])
    corner = objective.summaries(tokens)[:, 0]  # has three neighbours only
    torch.testing.assert_close(corner, pooling.summary(tokens[:, [1, 3, 4]])[:, 0])


def test_selfpatchs_loss_is_that_of_views_and_a_tenth_of_that_of_patches():
    objective = Selfpatch(
        encoder(cls=False, final_norm=False), SelfpatchSettings(image=DINO, prototypes=16)
    )
    data = batch()
    output = objective(data, None, 0.5)
    views = objective.image(data, None, 0.5).loss.item()
    assert float(output.metrics["views"]) == pytest.approx(views, rel=1e-5)
    total = views + 0.1 * float(output.metrics["patches"])
    assert output.loss.item() == pytest.approx(total, rel=1e-5)
    # The patches' loss once more, patch by patch.
    pooling, losses = objective.image.teacher["pooling"], []
    for view in data.views:
        teacher = objective.image.teacher["encoder"].encode(view.values)[:, 1:]
        student = objective.encoder.encode(view.values)[:, 1:]
        for item in range(6):
            for patch in range(5):
                near = [n for n in (patch - 1, patch + 1) if 0 <= n < 5]
                unit = F.normalize(pooling.norm(teacher[item]), dim=1)
                best = max(near, key=lambda n: float(unit[n] @ unit[patch]))
                summary = pooling.summary(teacher[item, best][None, None])[0, 0]
                target = (objective.teacher["head"](summary) / 0.04).softmax(0)
                token = objective.image.pooling.norm(student[item, patch])
                logs = (objective.head(token) / 0.1).log_softmax(0)
                losses.append(-(target * logs).sum())
    assert float(output.metrics["patches"]) == pytest.approx(
        torch.stack(losses).mean().item(), rel=1e-4
    )


def test_without_a_local_loss_co_ssl_is_byol():
    data = batch()
    byol = Byol(encoder(), BYOL)
    cossl = Cossl(encoder(), CosslSettings(image=BYOL, weight=0.0))
    cossl.image.load_state_dict(byol.state_dict())
    assert torch.equal(cossl(data, None, 0.5).loss, byol(data, None, 0.5).loss)


def test_co_byols_local_loss_by_a_second_formula():
    objective = Cossl(encoder(), CosslSettings(image=BYOL, weight=0.4))
    data = batch()
    output = objective(data, None, 0.5)
    teacher, total = objective.image.teacher, 0.0
    for own, other in ((0, 1), (1, 0)):
        tokens = objective.encoder.encode(data.views[own].values)[:, 1:]
        predicted = objective.local(tokens.reshape(30, 24)).reshape(6, 5, 16)
        shown = teacher["encoder"].encode(data.views[other].values)[:, 0]
        target = teacher["projector"](shown)[:, None].expand(-1, 5, -1)
        total += (2 - 2 * F.cosine_similarity(predicted, target, dim=-1)).mean()
    assert float(output.metrics["local"]) == pytest.approx(total.item(), rel=1e-5)
    both = float(output.metrics["views"]) + 0.4 * total.item()
    assert output.loss.item() == pytest.approx(both, rel=1e-5)


def test_a_map_is_averaged_to_fewer_places():
    settings = CosslSettings(image=BYOL, places=2)
    objective = Cossl(encoder((16, 16), (4, 4)), settings)
    tokens = torch.randn(3, 17, 24)
    local = objective.map(tokens)
    assert local.shape == (3, 4, 24)
    grid = tokens[:, 1:].reshape(3, 4, 4, 24)
    torch.testing.assert_close(local[:, 1], grid[:, :2, 2:].mean((1, 2)))


def test_local_representations_grow_alike_with_the_weight():
    """The mean cosine of places of an image, about the mean of all, after 200 steps."""
    coarse = torch.randn(128, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, (16, 16), mode="bicubic")
    still = ColourChanges(jitter=0, grey=0, blur=(0, 0, 0), solarise=(0, 0, 0))
    make = Views(ViewsSettings(crop=(0.2, 1.0), colour=still), (16, 16), (4, 4))

    def similarity(weight):
        objective = Cossl(encoder((16, 16), (4, 4)), CosslSettings(image=BYOL, weight=weight))
        optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
        for step in range(200):
            draws = torch.Generator().manual_seed(step)
            values = smooth[torch.randperm(128, generator=draws)[:16]]
            items = Batch(values, torch.zeros(16).long(), ["p"] * 16, ["k"] * 16)
            optimiser.zero_grad()
            objective(make(items, Normalise("none"), draws), None, step / 200).loss.backward()
            optimiser.step()
            objective.after_step((step + 1) / 200)
        with torch.no_grad():
            tokens = objective.encoder.encode(smooth)[:, 1:]
        unit = F.normalize(tokens - tokens.mean((0, 1)), dim=-1)
        return float((unit @ unit.mT).mean())

    assert similarity(0.5) > similarity(0.0) + 0.02


def test_a_sum_adds_up_its_parts_on_one_encoder():
    parts = [
        SumPart(objective=PartSettings(patches=8, pairs=16), weight=2.0),
        SumPart(objective=BYOL, weight=0.5),
    ]
    net = encoder()
    objective = Sum(net, SumSettings(parts=parts))
    assert objective.encoder is net is objective.exported
    data = batch()
    output = objective(data, torch.Generator().manual_seed(0), 0.5)
    loss = output.loss
    part, byol = objective.parts
    assert isinstance(part, Part)
    alone = part(data, torch.Generator().manual_seed(0), 0.5).loss
    expected = 2 * alone + 0.5 * byol(data, None, 0.5).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert output.metrics["byol/loss"] == byol(data, None, 0.5).loss
    chance = 2 * output.metrics["part/chance_loss"] + 0.5 * output.metrics["byol/chance_loss"]
    assert output.metrics["chance_loss"] == chance
    before = byol.teacher["projector"][0].weight.clone()
    byol.projector[0].weight.data += 1
    objective.after_step(0.5)
    assert not torch.equal(byol.teacher["projector"][0].weight, before)


def test_methods_on_views_share_the_students_tokens_in_a_sum():
    data, calls = batch(local=[(12,)]), []
    net = encoder()
    parts = [
        SumPart(objective=one) for one in (BYOL, DINO.model_copy(update={"views": BYOL.views}))
    ]
    sharing = Sum(net, SumSettings(parts=parts))
    expected = [part(data, None, 0.5).loss for part in sharing.parts]
    net.register_forward_hook(lambda *_: calls.append(None))
    loss = sharing(data, None, 0.5).loss
    assert len(calls) == 2  # global views together, then the local one; not once per objective
    assert loss.item() == pytest.approx(sum(one.item() for one in expected), rel=1e-5)


def test_batch_norm_is_torchs_and_needs_two_values():
    torch.manual_seed(0)
    own, torchs = BatchNorm(4), torch.nn.BatchNorm1d(4)
    values = torch.randn(6, 4)
    torch.testing.assert_close(own(values), torchs(values))
    assert list(own.state_dict()) == list(torchs.state_dict())
    with pytest.raises(ValueError, match="needs two items per step or more"):
        own(values[:1])


def test_a_teacher_is_a_copy_that_does_not_move_by_itself():
    net = encoder(drop_path=0.2)
    teacher = Teacher({"encoder": net})
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    for parameter in net.parameters():
        parameter.data += 1
    after = teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize(
    ("settings", "net", "message"),
    [
        (
            SelfpatchSettings(image=DINO, neighbours=5),
            {},
            "a patch of a grid of .5,. has at most 2",
        ),
        (
            SelfpatchSettings(image=DINO, heads=5),
            {},
            "heads 5 does not divide the encoder's dim 24",
        ),
        (CosslSettings(image=BYOL, places=9), {}, "places is 9, but the encoder's map has"),
        (CosslSettings(image=BYOL), {"patch": (30,)}, "map has one place"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(settings, net, message):
    with pytest.raises(ValueError, match=message):
        build_objective(encoder(**net), settings)


def test_a_process_without_items_leaves_no_trace():
    centre, queue = Centre(2), Queue(3, 1)
    with counting(False):
        centre.keep(torch.ones(4, 2))
        queue.keep(torch.ones(1, 1))
    centre.update()
    queue.update()
    assert not centre.value.any()
    assert int(queue.place) == 0


@pytest.mark.parametrize("name", ["dino", "moby", "selfpatch", "cossl"])
def test_views_are_trained_on_in_bfloat16(small_recipe, tmp_path, name):
    settings = {"name": name, "image": {"hidden": 16}} if name in ("selfpatch", "cossl") else {}
    own = {"name": name, "hidden": 16, **settings}
    own = settings if settings else own
    values = small_recipe | {"compute": {"precision": "bfloat16", "threads": 1, "device": "cpu"}}
    values["pretrain"] = small_recipe["pretrain"] | {"objective": own, "steps": 2}
    run = pretrain(resolve(values, [], "test"), out=tmp_path / "run", latest=False)
    rows = [row for row in run.metrics() if "train/rank" in row]
    assert len(rows) == 2
    assert all(row["train/rank"] >= 1 for row in rows)
