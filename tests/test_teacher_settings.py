"""Settings of methods with a teacher: given in part, contradicting, shared."""

import pytest

from biopart.recipe import resolve


def test_settings_that_are_given_in_part_keep_the_methods_own():
    def objective(**values):
        return resolve({"pretrain": {"objective": values}}, [], "test").pretrain.objective

    assert objective(name="dino", views={"mirror": 0.1}).views.local_views == 8
    assert objective(name="byol", views={"mirror": 0.1}).views.crop == (0.08, 1.0)
    cossl = objective(name="cossl", image={"hidden": 64})
    assert (cossl.image.name, cossl.image.views.crop) == ("byol", (0.2, 1.0))
    codino = objective(name="cossl", image={"name": "dino", "prototypes": 8})
    assert (codino.image.views.crop, codino.image.views.local_views) == ((0.2, 1.0), 8)
    assert objective(name="dino").teacher_temperature == (0.04, 0.07)
    selfpatch = objective(name="selfpatch", image={"prototypes": 8})
    assert selfpatch.image.teacher_temperature == (0.04, 0.04)
    for values, message in (
        ({"name": "selfpatch", "negatives": True}, "image is dino, so negatives has no effect"),
        (
            {"name": "selfpatch", "image": {"name": "moby"}, "prototypes": 9},
            "image is moby, so prototypes has no effect",
        ),
        (
            {"name": "selfpatch", "image": {"pool": "mean"}},
            "class attention pools, so image.pool has",
        ),
        ({"name": "dino", "teacher_temperature": [0, 0.1]}, "give more than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            objective(**values)


def test_sums_share_their_views_and_name_each_objective_once():
    for parts, message in (
        ([{"objective": {"name": "part"}}] * 2, "name each objective once"),
        (
            [{"objective": {"name": "dino"}}, {"objective": {"name": "byol"}}],
            "share their views",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            resolve({"pretrain": {"objective": {"name": "sum", "parts": parts}}}, [], "test")


def test_only_a_sum_that_sees_the_items_themselves_takes_their_augmentation():
    def sum_of(*names):
        views = {"crop": [0.2, 1.0], "local_views": 0}
        parts = [
            {"objective": {"name": name, **({} if name == "part" else {"views": views})}}
            for name in names
        ]
        objective = {"name": "sum", "parts": parts}
        return resolve({"pretrain": {"objective": objective}}, [], "test").pretrain.objective

    assert sum_of("part", "byol").sees_items
    assert not sum_of("dino", "byol").sees_items
