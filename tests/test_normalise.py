import pytest
import torch

from biopart.nn import Normalise


@pytest.mark.parametrize("shape", [(50,), (5, 10), (2, 5, 5)])
def test_each_channel_of_each_window_gets_mean_0_and_deviation_1(shape):
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-500, 900, (3, 2, *shape), generator=generator).to(torch.int16)
    flat = Normalise("window")(values).flatten(2)
    assert flat.dtype == torch.float32
    torch.testing.assert_close(flat.mean(-1), torch.zeros(3, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(flat.std(-1, correction=0), torch.ones(3, 2))


def test_values_stay_as_they_are_where_asked():
    values = torch.tensor([[[0, 200]]], dtype=torch.uint8)
    assert Normalise("none")(values).tolist() == [[[0.0, 200.0]]]


def test_missing_samples_take_no_part_and_become_the_mean():
    values = torch.tensor([[[1, 3, -32768]]], dtype=torch.int16)
    assert Normalise("window")(values).tolist() == [[[-1.0, 1.0, 0.0]]]
    floats = torch.tensor([[[1.0, 3.0, float("nan")]]])
    assert Normalise("window")(floats).tolist() == [[[-1.0, 1.0, 0.0]]]
    assert Normalise("none")(values).tolist() == [[[1.0, 3.0, 0.0]]]


def test_a_byte_is_never_missing():
    values = torch.tensor([[[0, 0, 0, 4]]], dtype=torch.uint8)  # -32768 as a byte is 0
    expected = (values.float() - 1) / 3**0.5
    torch.testing.assert_close(Normalise("window")(values), expected)


def test_flat_and_wholly_missing_channels_stay_finite():
    values = torch.tensor([[[5, 5], [-32768, -32768]]], dtype=torch.int16)
    assert Normalise("window")(values).abs().sum() == 0


def test_a_recording_s_deviations_come_as_thousandths_or_as_floats():
    values = torch.tensor([[[500, -1500, -32768]]], dtype=torch.int16)
    assert Normalise("recording")(values).tolist() == [[[0.5, -1.5, 0.0]]]
    floats = torch.tensor([[[0.5, float("nan")]]])
    assert Normalise("recording")(floats).tolist() == [[[0.5, 0.0]]]


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match=r"'window', 'recording', 'imagenet', 'half', 'none'"):
        Normalise("robust")


def test_colours_are_normalised_by_imagenets_mean_and_deviation():
    values = torch.tensor([255, 0, 102], dtype=torch.uint8).view(1, 3, 1, 1)
    red, green, blue = Normalise("imagenet")(values).flatten().tolist()
    assert red == pytest.approx((1 - 0.485) / 0.229)
    assert green == pytest.approx(-0.456 / 0.224)
    assert blue == pytest.approx((0.4 - 0.406) / 0.225, abs=1e-6)
    with pytest.raises(ValueError, match="there are 1 channels, so set data"):
        Normalise("imagenet")(values[:, :1])
