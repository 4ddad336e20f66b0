"""Objects followed through videos by the similarity of frozen features alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from biopart.evaluation.answers import Answer, ratio
from biopart.evaluation.resampled import sums_of
from biopart.evaluation.video import video_scores
from biopart.images.davis import Video
from biopart.nn import Model


@dataclass(frozen=True)
class Propagation:
    """How labels pass from earlier frames to the next one (DINO, facebookresearch/dino).

    Attributes
    ----------
    side : int
        Shorter side of a frame in pixels; both become multiples of 64, or of the patch if larger.
    frames : int
        Frames before, beside the first one.
    reach : int
        Places up, down, left and right that a place is compared with.
    nearest : int
        Most similar places of all those frames that vote.
    temperature : float
        Of their weights.
    """

    side: int = 480
    frames: int = 7
    reach: int = 12
    nearest: int = 5
    temperature: float = 0.1


def video_segmentation(
    model: Model, videos: Sequence[Video], how: Propagation | None = None
) -> Iterator[Answer]:
    """Yield J, F and their mean over the objects of videos, whose first frame is given."""
    how = Propagation() if how is None else how
    scores, owners = [], []
    for video in videos:
        predicted = followed(model, video, how)
        truth = np.stack([video.truth(number) for number in range(len(video.frames))])
        scores.append(video_scores(truth, predicted, video.objects))
        owners += [video.name] * video.objects
    found = np.concatenate(scores)
    for measure, values in (
        ("J&F", found.mean(1)),
        ("J", found[:, 0]),
        ("F", found[:, 1]),
    ):
        sums = sums_of(owners, np.stack([values, np.ones_like(values)], 1))
        yield Answer("video segmentation", "tokens", measure, sums, ratio, len(values))


@torch.no_grad()
def followed(model: Model, video: Video, how: Propagation) -> NDArray[np.uint8]:
    """Return the object of every pixel of all frames, in the size of the first one."""
    own = video.image(0).size[::-1]
    size = resized(own, how.side, model.encoder.patch)
    counts = size[0] // model.encoder.patch[0], size[1] // model.encoder.patch[1]
    first = video.truth(0)
    small = np.asarray(Image.fromarray(first).resize(counts[::-1], Image.Resampling.NEAREST))
    labels = F.one_hot(torch.from_numpy(small.astype(np.int64)).flatten(), video.objects + 1)
    start = (features_of(model, video.image(0), size), labels.float().to(model.device))
    near = within(counts, how.reach).to(model.device)
    before: deque[tuple[Tensor, Tensor]] = deque(maxlen=how.frames)
    predicted = [first]
    for number in range(1, len(video.frames)):
        own_features = features_of(model, video.image(number), size)
        votes = propagated(own_features, [start, *before], near, how)
        before.append((own_features, votes))
        maps = votes.T.reshape(1, -1, *counts)
        whole = stretched(F.interpolate(maps, size, mode="bilinear", align_corners=False)[0])
        codes = whole.argmax(0).byte().cpu().numpy()
        predicted.append(
            np.asarray(Image.fromarray(codes).resize(own[::-1], Image.Resampling.NEAREST))
        )
    return np.stack(predicted)


def resized(own: tuple[int, int], side: int, patch: Sequence[int]) -> tuple[int, int]:
    """Return the size in which a frame is encoded: its shorter side is ``side``.

    Examples
    --------
    >>> resized((480, 854), 480, (16, 16))
    (448, 832)
    """
    factor = side / min(own)
    height, width = (
        max(int(extent * factor) // step, 1) * step
        for extent, step in zip(own, (max(64, p) for p in patch), strict=True)
    )
    return height, width


def features_of(model: Model, image: Image.Image, size: tuple[int, int]) -> Tensor:
    """Return the features (K, D) of length 1 of a frame's places."""
    pixels = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), np.uint8)
    values = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].to(model.device)
    tokens = model.tokens(values)[0, 1:].float()
    return F.normalize(tokens, dim=-1)


def within(counts: Sequence[int], reach: int) -> Tensor:
    """Return which places (K, K) of a grid are at most ``reach`` apart on every axis."""
    places = torch.stack(
        torch.meshgrid(*[torch.arange(count) for count in counts], indexing="ij"), -1
    ).flatten(0, -2)
    apart = (places[:, None] - places[None]).abs()
    return (apart <= reach).all(-1)


def propagated(
    features: Tensor, sources: Sequence[tuple[Tensor, Tensor]], near: Tensor, how: Propagation
) -> Tensor:
    """Return the labels of places (K, objects + 1) by their most similar ones in other frames.

    Parameters
    ----------
    features : Tensor (K, D)
        Of length 1.
    sources : sequence of (Tensor (K, D), Tensor (K, objects + 1))
        Features and labels of other frames.
    near : Tensor (K, K), bool
        Which places are compared.
    how : Propagation
        Number of voting places, temperature.
    """
    similar = torch.cat(
        [(features @ one.T).masked_fill(~near, -torch.inf) for one, _ in sources], 1
    )
    best = similar.topk(min(how.nearest, similar.shape[1]), dim=1)
    weights = (best.values / how.temperature).softmax(1)
    labels = torch.cat([labels for _, labels in sources])
    return torch.einsum("kn,kno->ko", weights, labels[best.indices])


def stretched(maps: Tensor) -> Tensor:
    """Return maps (objects + 1, y, x) each stretched to 0 to 1, as the released code does."""
    flat = maps.flatten(1)
    low, high = flat.min(1).values, flat.max(1).values
    span = torch.where(high > 0, high - low, 1).clamp(min=1e-12)
    return torch.where(high > 0, (flat.T - low) / span, flat.T).T.reshape(maps.shape)
