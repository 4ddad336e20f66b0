"""Views: where they were cut, what changes them, and that processes draw the same."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as tv

from biopart.data import Batch, View
from biopart.grid import BatchGenerator, Boxes
from biopart.nn import Normalise
from biopart.recipe import (
    ColourChanges,
    ImageChanges,
    Optimisation,
    ValueChanges,
    ViewsSettings,
    WaveChanges,
)
from biopart.train import Training
from biopart.views import Augment, Views
from biopart.views.colours import blurred, chosen, jittered, recoloured
from biopart.views.crops import crop_boxes, masked
from biopart.views.waves import changed, disturbed, normal

STILL = ColourChanges(jitter=0, grey=0, blur=(0, 0, 0), solarise=(0, 0, 0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(values):
    count = len(values)
    return Batch(values, torch.zeros(count).long(), ["p"] * count, ["k"] * count)


def values(**given):
    return ValueChanges(**given).decided(images=True)


def images(count=6, side=16):
    return torch.randint(0, 256, (count, 3, side, side), generator=generator(9)).to(torch.uint8)


def test_a_view_without_changes_is_its_box_of_the_grid():
    signal = torch.arange(120.0).repeat(3, 1, 1)
    still = ValueChanges(scale=(1, 1), noise=0, mask=0)
    settings = ViewsSettings(global_size=[40], local_views=1, local_size=[20], values=still)
    views = Views(settings, (120,), (10,), sfreq_hz=20.0)(
        batch(signal), Normalise("none"), generator()
    ).views
    assert [(view.values.shape[2], view.local) for view in views] == [
        (40, False),
        (40, False),
        (20, True),
    ]
    for view in views:
        for row, start, size in zip(view.values, view.boxes.start, view.boxes.size, strict=True):
            assert torch.equal(row[0], signal[0, 0, int(start) : int(start) + int(size)])
    assert not torch.equal(views[0].boxes.start, views[1].boxes.start)


def test_mirrored_images_are_cut_and_turned():
    values = images()
    settings = ViewsSettings(crop=(1.0, 1.0), mirror=1.0, colour=STILL)
    one, two = Views(settings, (16, 16), (4, 4))(
        batch(values), Normalise("none"), generator()
    ).views
    assert torch.equal(one.values, values.flip(-1).float())
    assert one.mirrored.all()
    assert torch.equal(two.values, one.values)


def test_centres_of_patches_lie_where_the_view_was_cut():
    start, size = torch.tensor([[10, 20]]), torch.tensor([[8, 16]])
    view = View(torch.zeros(1, 3, 4, 8), start, size, torch.tensor([False]))
    # Patches of 2 x 4 in a view of 4 x 8 that shows 8 x 16 pixels: 4 x 8 pixels each.
    assert view.centres((2, 4))[0].tolist() == [[12, 24], [12, 32], [16, 24], [16, 32]]
    view.mirrored = torch.tensor([True])
    assert view.centres((2, 4))[0].tolist() == [[12, 32], [12, 24], [16, 32], [16, 24]]


@pytest.mark.parametrize("shape", [(300,), (1, 300), (40, 60), (24, 32, 40)])
def test_boxes_have_their_share_of_the_grid_on_any_number_of_axes(shape):
    settings = ViewsSettings(crop=(0.2, 0.6), ratio=(1.0, 1.0))
    boxes = crop_boxes(3000, shape, settings, generator())
    share = (boxes.size / torch.tensor(shape)).prod(-1).flatten()
    assert 0.17 < share.min() < 0.23
    assert 0.55 < share.max() < 0.65
    assert share.mean() == pytest.approx(0.4, abs=0.02)
    assert (boxes.start + boxes.size <= torch.tensor(shape)).all()


def test_whole_boxes_stay_whole_on_three_axes():
    settings = ViewsSettings(crop=(0.9, 0.9))
    boxes = crop_boxes(500, (40, 40, 40), settings, generator())
    share = (boxes.size / 40).prod(-1)
    assert (share - 0.9).abs().max() < 0.04
    whole = crop_boxes(50, (8, 8, 8), ViewsSettings(crop=(1.0, 1.0)), generator())
    assert (whole.size == 8).all()


def test_colours_change_as_torchvisions_do():
    values = images(2).float() / 255
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    for key, function in (
        ("brightness", tv.adjust_brightness),
        ("contrast", tv.adjust_contrast),
        ("saturation", tv.adjust_saturation),
    ):
        found = jittered(values, ColourChanges(**(still | {key: 0.4})), generator(3))
        factors = [0.6 + 0.8 * n / 200 for n in range(201)]
        for image, result in zip(values, found, strict=True):
            errors = [(function(image, factor) - result).abs().max() for factor in factors]
            assert min(errors) < 0.01, key
    grey = recoloured(values, STILL.model_copy(update={"grey": 1.0}), 0, generator())
    torch.testing.assert_close(
        grey, tv.rgb_to_grayscale(values, num_output_channels=3), atol=2e-3, rtol=0
    )
    turned = recoloured(values, STILL.model_copy(update={"solarise": (1.0, 0, 0)}), 0, generator())
    torch.testing.assert_close(turned, tv.solarize(values, 0.5))
    same = recoloured(values, STILL.model_copy(update={"solarise": (1.0, 0, 0)}), 1, generator())
    assert torch.equal(same, values)


def test_blur_keeps_the_mean_and_a_share_of_images_stays():
    values = torch.zeros(64, 3, 15, 15)
    values[:, :, 7, 7] = 1.0
    smooth = blurred(values, (0.5, 0.5), generator())
    assert smooth.sum((2, 3)) == pytest.approx(torch.ones(64, 3), abs=1e-5)
    # Beside the middle of a kernel of 3 with deviation 0.5: exp(-2) of the middle.
    assert float(smooth[0, 0, 7, 8] / smooth[0, 0, 7, 7]) == pytest.approx(math.exp(-2), rel=1e-4)
    half = chosen(smooth, values, 0.25, generator())
    assert 4 <= sum(torch.equal(a, b) for a, b in zip(half, smooth, strict=True)) <= 28


def test_values_are_scaled_turned_masked_and_disturbed_by_hand():
    ones = torch.ones(2000, 2, 40)
    factors = changed(ones, values(scale=(0.5, 2.0)), generator())[:, 0, 0].log2()
    assert (factors.min(), factors.max()) == pytest.approx((-1, 1), abs=0.01)
    assert factors.mean() == pytest.approx(0, abs=0.05)
    signs = changed(ones, values(sign=0.3), generator())[:, 0, 0]
    assert (signs == -1).float().mean() == pytest.approx(0.3, abs=0.03)
    zeros = (changed(ones, values(mask=0.5), generator()) == 0).float()
    assert torch.equal(zeros[:, 0], zeros[:, 1])
    assert zeros.mean() == pytest.approx(0.25, abs=0.02)
    noise = normal(torch.zeros(400, 1, 400), generator())
    assert (noise.mean(), noise.std()) == pytest.approx((0, 1), abs=0.01)
    assert (noise**4).mean() == pytest.approx(3, abs=0.05)


def test_a_box_is_masked_on_two_axes():
    hidden = masked(torch.ones(1, 1, 3, 4), Boxes(torch.tensor([[1, 2]]), torch.tensor([[2, 1]])))
    assert hidden[0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 0, 1]]


def test_a_band_is_stopped_and_channels_are_dropped():
    seconds = torch.arange(400) / 100
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * seconds) for hertz in range(5, 45, 10)])
    values = tones.sum(0).repeat(200, 1, 1)
    left = disturbed(values, WaveChanges(band_stop=1.0, band_hz=5.0), 100.0, generator())
    power = torch.fft.rfft(left).abs()[:, 0, [20, 60, 100, 140]] / 200
    assert (power.round() == 1).sum(1).min() >= 3  # a band of 5 Hz holds one tone at most
    assert 0.2 < (power < 0.5).any(1).float().mean() < 0.6  # 4 tones of 5 Hz of 45 Hz
    dropped = disturbed(
        torch.ones(500, 4, 8), WaveChanges(drop_channels=0.9), 100.0, generator()
    ).any(2)
    assert dropped.any(1).all()
    assert dropped.float().mean() == pytest.approx(0.1 + 0.9**4 / 4, abs=0.02)


def test_processes_draw_the_views_of_the_whole_batch():
    values = images(6)
    settings = ViewsSettings(
        local_views=1, local_size=[8, 8], values=ValueChanges(noise=0.1, mask=0.2)
    )
    make = Views(settings, (16, 16), (4, 4))
    whole = make(batch(values), Normalise("imagenet"), generator(5)).views
    second = BatchGenerator().manual_seed(5)
    second.first, second.total = 4, 6
    part = make(batch(values[4:]), Normalise("imagenet"), second).views
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one.values[4:], other.values)
        assert torch.equal(one.boxes.start[4:], other.boxes.start)


def test_signals_have_changes_of_their_own_and_equal_views_are_refused():
    signal = torch.randn(4, 2, 300, generator=generator())
    one, two = Views(ViewsSettings(), (300,), (10,), sfreq_hz=100.0)(
        batch(signal), Normalise("none"), generator()
    ).views
    assert not torch.equal(one.values, two.values)
    assert ValueChanges().decided(images=False) == ((0.5, 2.0), 0.0, 0.2, 0.2)
    assert not ValueChanges().decided(images=True).any
    still = ValueChanges(scale=(1, 1), noise=0, mask=0)
    for settings, shape, sfreq_hz in (
        (ViewsSettings(values=still), (300,), 100.0),
        (ViewsSettings(crop=(1, 1), mirror=0, colour=STILL), (16, 16), None),
    ):
        with pytest.raises(ValueError, match="the global views of an item would be equal"):
            Views(settings, shape, (4,) * len(shape), sfreq_hz)


def test_views_that_do_not_fit_are_refused():
    for settings, message in (
        ({"local_views": 1, "local_size": [2, 8]}, r"local_size is \[2, 8\]; give a multiple"),
        ({"global_size": [20, 16]}, r"global_size is \[20, 16\]"),
        ({"waves": {"band_stop": 0.5}}, "views.waves has no effect on images"),
    ):
        with pytest.raises(ValueError, match=message):
            Views(ViewsSettings.model_validate(settings), (16, 16), (4, 4))
    with pytest.raises(ValueError, match=r"views\.colour has no effect on signals"):
        Views(ViewsSettings(colour=STILL), (300,), (10,), sfreq_hz=100.0)
    for wrong, message in (
        ({"crop": [0.5, 0.2]}, "give 0 < smallest"),
        ({"local_size": [8]}, "local_views is 0, so local_size has no effect"),
        ({"colour": {"blur": [2, 0, 0]}}, "less than or equal to 1"),
        ({"colour": {"sigma": [2, 1]}}, "give 0 < smallest <= largest"),
        ({"colour": {"jitter": 0, "hue": 0.2}}, "jitter is 0, so hue has no effect"),
        ({"waves": {"band_hz": 3}}, "band_stop is 0, so band_hz has no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            ViewsSettings.model_validate(wrong)
    with pytest.raises(ValueError, match="red, green and blue, but images have 1 channels"):
        Views(ViewsSettings(), (8, 8), (4, 4), channels=1)


def test_the_items_of_a_sum_are_augmented_beside_their_views():
    values = images(4)
    settings = ViewsSettings(crop=(0.2, 0.5), colour=STILL)
    source = type("Source", (), {"__len__": lambda self: 4})()
    task = Training(
        torch.nn.Linear(1, 1),
        source,
        Optimisation(),
        "none",
        0,
        augment=Augment(ImageChanges(flip=1.0)),
        views=Views(settings, (16, 16), (4, 4)),
    )
    seen = task.prepare(batch(values), generator())
    assert torch.equal(seen.values, values.flip(-1).float())
    assert len(seen.views) == 2
    assert not torch.equal(seen.views[0].values, seen.values)
