import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from biopart.data import Batch, Sampler
from biopart.recipe import AugmentSettings, ImageChanges
from biopart.views import Augment
from biopart.views.augment import posterize_visibly, seeded
from biopart.views.crops import crop_boxes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=6, shape=(3, 8, 10), seed=0):
    return torch.randint(0, 256, (count, *shape), generator=generator(seed), dtype=torch.uint8)


def batch(values, label=None):
    label = torch.arange(len(values)) % 3 if label is None else label
    return Batch(values, label, list("x" * len(values)), list("x" * len(values)))


def test_nothing_is_changed_by_default():
    assert not Augment(ImageChanges()).changes
    assert not Augment(AugmentSettings(), 3).changes
    values = images()
    assert torch.equal(Augment(AugmentSettings(), 3).pixels(values, generator()), values)
    assert Augment(AugmentSettings(), 3).targets(batch(values), generator()).soft is None


def test_a_sure_flip_is_the_mirror_image_and_half_a_flip_that_of_half_the_images():
    values = images(400)
    mirror = values.flip(-1)
    assert torch.equal(Augment(ImageChanges(flip=1.0)).pixels(values, generator()), mirror)
    some = Augment(ImageChanges(flip=0.5)).pixels(values, generator())
    turned = (some == mirror).flatten(1).all(1)
    assert torch.equal(some[~turned], values[~turned])
    assert 160 < turned.sum() < 240


def test_a_padded_crop_moves_an_image_by_at_most_its_padding():
    one = torch.zeros(1, 3, 8, 10, dtype=torch.uint8)
    one[0, :, 4, 5] = 200
    values = one.expand(300, -1, -1, -1)
    moved = Augment(ImageChanges(pad=2)).pixels(values, generator())
    assert moved.shape == values.shape
    assert moved.dtype == torch.uint8
    _, _, y, x = torch.nonzero(moved[:, :1], as_tuple=True)
    assert set(y.tolist()) == {2, 3, 4, 5, 6}
    assert set(x.tolist()) == {3, 4, 5, 6, 7}


@pytest.mark.parametrize("shape", [(32, 32), (20, 60)])
def test_crops_have_the_areas_and_proportions_asked_for(shape):
    settings = ImageChanges(crop=(0.2, 1.0))
    boxes = crop_boxes(4000, shape, settings, generator())
    height, width = boxes.size[:, 0].float().T
    share = height * width / math.prod(shape)
    assert share.min() > 0.15
    assert share.max() <= 1
    assert share.mean().item() == pytest.approx(0.6, abs=0.02)  # uniform from 0.2 to 1
    fits = share < 0.3  # there every ratio from 3/4 to 4/3 fits in both shapes
    assert (width / height)[fits].min() > 0.65
    assert (width / height)[fits].max() < 1.5
    assert (width / height)[fits].log().mean().item() == pytest.approx(0, abs=0.03)


def test_crops_lie_inside_and_reach_every_edge():
    boxes = crop_boxes(4000, (12, 12), ImageChanges(crop=(0.2, 1.0)), generator())
    stop = boxes.start + boxes.size
    assert boxes.start.min() == 0
    assert stop.max() == 12
    assert (stop.min(0).values < 12).all()


def test_a_crop_of_a_constant_image_is_the_image():
    values = torch.full((50, 3, 16, 16), 77, dtype=torch.uint8)
    cropped = Augment(ImageChanges(crop=(0.1, 1.0))).pixels(values, generator())
    assert torch.allclose(cropped, torch.full_like(cropped, 77.0))


def test_the_generator_decides_everything_and_global_randomness_stays():
    settings = AugmentSettings(
        crop=(0.5, 1.0), flip=0.5, randaugment="rand-m9-mstd0.5-inc1", erase=0.5, mixup=0.8
    )
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
    results = []
    for seed in (0, 0, 1):
        augment, source = Augment(settings, 3), generator(seed)
        torch.manual_seed(seed)  # as of the loop's seed_step: timm's noise is torch's own
        values = augment.pixels(images(), source)
        results.append(augment.targets(batch(values.float()), source))
    assert (random.getstate(), str(np.random.get_state())) == before  # noqa: NPY002
    assert torch.equal(results[0].values, results[1].values)
    assert torch.equal(results[0].soft, results[1].soft)
    assert not torch.equal(results[0].values, results[2].values)


def test_seeded_gives_different_steps_different_randomness():
    source = generator()
    drawn = []
    for _ in range(3):
        with seeded(source):
            drawn.append(random.random())
    assert len(set(drawn)) == 3


def test_mixup_blends_each_image_with_its_mirror_in_the_batch():
    values, label = torch.randn(4, 3, 5, 5, generator=generator()), torch.tensor([0, 1, 2, 0])
    mixed = Augment(AugmentSettings(mixup=0.8), 3).targets(batch(values, label), generator(3))
    share = mixed.soft[0, 0].item()  # of the first image; its partner is of class 0 too
    assert share == pytest.approx(1.0)
    share = mixed.soft[1, 1].item()
    assert 0 < share < 1
    assert mixed.soft[1].tolist() == pytest.approx([0, share, 1 - share])
    blend = share * values + (1 - share) * values.flip(0)
    assert torch.allclose(mixed.values, blend, atol=1e-6)


def test_cutmix_gives_labels_the_share_of_pixels():
    values = torch.arange(4.0)[:, None, None, None].expand(4, 3, 20, 20).clone()
    label = torch.tensor([0, 1, 2, 3])
    for seed in range(5):
        mixed = Augment(AugmentSettings(cutmix=1.0), 4).targets(
            batch(values, label), generator(seed)
        )
        kept = (mixed.values[0, 0] == 0).float().mean().item()
        assert mixed.soft[0].tolist() == pytest.approx([kept, 0, 0, 1 - kept])


def test_the_odd_image_of_a_batch_is_not_mixed_but_its_label_smoothed():
    values, label = torch.randn(3, 3, 4, 4), torch.tensor([0, 1, 2])
    settings = AugmentSettings(mixup=0.8, smoothing=0.3)
    mixed = Augment(settings, 3).targets(batch(values, label), generator())
    assert torch.equal(mixed.values[2], values[2])
    assert mixed.soft[2].tolist() == pytest.approx([0.1, 0.1, 0.8])
    assert mixed.soft.sum(1).tolist() == pytest.approx([1, 1, 1])


def test_smoothing_equals_the_loss_of_torch():
    logits, label = torch.randn(6, 3, generator=generator()), torch.arange(6) % 3
    soft = Augment(AugmentSettings(smoothing=0.1), 3).targets(batch(images(), label), generator())
    expected = F.cross_entropy(logits, label, label_smoothing=0.1)
    assert F.cross_entropy(logits, soft.soft).item() == pytest.approx(expected.item())


def test_a_sure_erasing_changes_a_rectangle_of_every_image():
    values = torch.zeros(20, 3, 16, 16)
    torch.manual_seed(0)
    erased = Augment(AugmentSettings(erase=1.0), 3).targets(batch(values), generator()).values
    changed = (erased != 0).any(1)
    for one in changed:
        rows, columns = one.any(1), one.any(0)
        assert one.sum() == rows.sum() * columns.sum() > 0


@pytest.mark.parametrize(("bits", "expected"), [(0, 128), (1, 128), (3, 192), (8, 201)])
def test_posterizing_keeps_at_least_one_bit(bits, expected):
    image = Image.fromarray(np.full((2, 2, 3), 201, np.uint8))
    assert np.asarray(posterize_visibly(image, bits, fillcolor=0)).tolist()[0][0] == [expected] * 3


def test_randaugment_of_the_highest_magnitude_goes_through():
    values = images(300)
    strong = Augment(AugmentSettings(randaugment="rand-m10-n4-p1-inc1"), 3)
    changed = strong.pixels(values, generator())
    assert changed.shape == values.shape
    assert 0.9 < (changed != values).flatten(1).any(1).float().mean() <= 1


def test_randaugment_keeps_grey_images_out():
    augment = Augment(AugmentSettings(randaugment="rand-m9"), 3)
    with pytest.raises(ValueError, match="red, green and blue; there are 1 channels"):
        augment.pixels(images(shape=(1, 8, 8)), generator())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": (0.0, 1.0)}, "0 < smallest <= largest <= 1"),
        ({"ratio": (2.0, 1.0)}, "0 < smallest <= largest"),
        ({"pad": 4, "crop": (0.5, 1.0)}, "give one of them"),
        ({"randaugment": "rand-magnitude9"}, "pattern"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentSettings(**values)


def test_repeated_augmentation_shows_a_third_of_the_items_three_times():
    sampler = Sampler(9, 6, 0, repeats=3)
    first, second = sampler.batches(0)
    assert (len(sampler), len(first), len(second)) == (2, 6, 3)
    counts = Counter(np.concatenate([first, second]).tolist())
    assert sorted(counts.values()) == [3, 3, 3]
    assert len(set(first.tolist())) == 2  # repeats lie side by side, so mixing sees both
    whole = Sampler(9, 6, 0)
    assert sorted(np.concatenate(list(whole.batches(0))).tolist()) == list(range(9))
