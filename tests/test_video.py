"""Videos: J and F by hand, labels that follow features, DAVIS's layout."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from biopart.evaluation.video import (
    boundary,
    boundary_accuracy,
    region_similarity,
    video_scores,
)
from biopart.images.davis import read_davis
from biopart.nn import About, Model, ViT
from biopart.probing.encoders import Candidate
from biopart.probing.video import Propagation, followed, propagated, resized, stretched, within
from biopart.verbs.suite import Data, ask


def square(top, left, side=4, size=(20, 20)):
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity_by_hand():
    assert region_similarity(square(2, 2), square(2, 4)) == 8 / 24
    assert region_similarity(square(2, 2), ~square(2, 2)) == 0
    empty = np.zeros((3, 3), bool)
    assert region_similarity(empty, empty) == 1


def test_a_boundary_lies_where_the_next_pixel_differs():
    mask = square(1, 1, side=2, size=(4, 4))
    assert np.argwhere(boundary(mask)).tolist() == [
        *([0, 0], [0, 1], [0, 2]),
        *([1, 0], [1, 2]),
        *([2, 0], [2, 1], [2, 2]),
    ]
    assert not boundary(np.ones((3, 3), bool)).any()


def test_boundary_accuracy_by_hand():
    # 20 x 20: the tolerance is one pixel, and a cross is the disk of radius one.
    assert math.ceil(0.008 * math.hypot(20, 20)) == 1
    one = square(5, 5)
    assert boundary_accuracy(one, one) == 1
    assert boundary_accuracy(one, square(5, 6)) == 1  # within the tolerance
    assert boundary_accuracy(one, square(14, 14)) == 0
    empty = np.zeros((20, 20), bool)
    assert boundary_accuracy(empty, empty) == 1
    assert boundary_accuracy(one, empty) == 0
    # Moved by two: of 15 boundary pixels each the two columns at 4 and 8 against 6 and 10.
    moved = square(5, 7)
    true, guess = boundary(one), boundary(moved)

    def near(pixels, others):
        rows = np.argwhere(others)
        return sum(np.abs(rows - p).sum(1).min() <= 1 for p in np.argwhere(pixels))

    precision, recall = near(guess, true) / guess.sum(), near(true, guess) / true.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert 0 < expected < 1
    assert boundary_accuracy(one, moved) == pytest.approx(expected)


def test_the_first_and_the_last_frame_are_not_scored():
    truth = np.zeros((4, 20, 20), int)
    truth[:, 5:9, 5:9], truth[:, 12:16, 12:16] = 1, 2
    guess = truth.copy()
    guess[0], guess[3] = 0, 0
    assert video_scores(truth, guess, 2).tolist() == [[1, 1], [1, 1]]
    guess[1][guess[1] == 2] = 0
    assert video_scores(truth, guess, 2).tolist() == [[1, 1], [0.5, 0.5]]


def test_places_within_reach_are_compared_and_the_nearest_vote():
    near = within((3, 4), 1)
    assert near[0].nonzero().flatten().tolist() == [0, 1, 4, 5]
    assert near.sum(1).tolist()[5] == 9
    features = torch.nn.functional.normalize(torch.eye(4) + 0.01, dim=-1)
    labels = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    everywhere = torch.ones(4, 4, dtype=torch.bool)
    how = Propagation(nearest=1)
    assert torch.equal(propagated(features, [(features, labels)], everywhere, how), labels)
    how = Propagation(nearest=2, temperature=0.5)
    other = torch.tensor([[0.0, 1], [0, 1], [0, 1], [0, 1]])
    votes = propagated(features, [(features, labels), (features, other)], everywhere, how)
    assert votes[0].tolist() == pytest.approx([0.5, 0.5])  # both frames are equally similar
    alone = propagated(features, [(features, labels)], within((4,), 0), Propagation(nearest=3))
    assert torch.equal(alone, labels)  # places out of reach have no vote


def test_maps_are_stretched_unless_they_are_empty():
    maps = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]])
    assert stretched(maps).tolist() == [[[0, 1]], [[0, 0]]]


def test_frames_are_encoded_in_multiples_of_64():
    assert resized((480, 854), 480, (8, 8)) == (448, 832)
    assert resized((100, 50), 64, (16, 16)) == (128, 64)


def davis(folder, frames=4):
    """Write a video of a red square that moves over grey, in DAVIS's layout."""
    name = "moving"
    for place in ("JPEGImages/480p", "Annotations/480p"):
        (folder / place / name).mkdir(parents=True)
    (folder / "ImageSets/2017").mkdir(parents=True)
    (folder / "ImageSets/2017/val.txt").write_text(f"{name}\n")
    for number in range(frames):
        pixels = np.full((128, 128, 3), 120, np.uint8)
        codes = np.zeros((128, 128), np.uint8)
        left = 16 + 16 * number
        pixels[32:64, left : left + 32] = (220, 20, 20)
        codes[32:64, left : left + 32] = 1
        codes[:4, :4] = 255
        Image.fromarray(pixels).save(
            folder / f"JPEGImages/480p/{name}/{number:05d}.jpg", quality=100, subsampling=0
        )
        mask = Image.fromarray(codes, "P")
        mask.putpalette([0, 0, 0, 200, 0, 0] + [0] * 762)
        mask.save(folder / f"Annotations/480p/{name}/{number:05d}.png")
    return folder


def model():
    torch.manual_seed(0)
    net = ViT((128, 128), (8, 8), 3, 32, 1, 2, position="none")
    return Model(net, About(normalise="imagenet", positions=True)).eval()


def test_a_square_is_followed_by_its_colour(tmp_path):
    (video,) = read_davis(davis(tmp_path))
    assert (video.name, len(video.frames), video.objects) == ("moving", 4, 1)
    assert video.truth(0)[0, 0] == 0  # void is background
    predicted = followed(model(), video, Propagation(side=128))
    truth = np.stack([video.truth(number) for number in range(4)])
    scores = video_scores(truth, predicted, 1)
    assert scores[0, 0] > 0.8
    assert scores[0, 1] > 0.8


def test_videos_are_part_of_the_suite(tmp_path):
    data = Data(Path("davis_video"), davis(tmp_path / "DAVIS"))
    found = ask(Candidate("tiny", model()), data, tmp_path / "cache")
    assert [answer.measure for answer in found.answers] == ["J&F", "J", "F"]
    both, region, edge = (answer.value for answer in found.answers)
    assert both == pytest.approx((region + edge) / 2)


def test_damaged_videos_are_named(tmp_path):
    root = davis(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the folder DAVIS as unpacked"):
        read_davis(root / "JPEGImages")
    (root / "Annotations/480p/moving/00002.png").unlink()
    with pytest.raises(ValueError, match="moving has 4 frames and 3 annotations"):
        read_davis(root)
