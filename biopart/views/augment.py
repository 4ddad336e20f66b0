"""Augmentation of images: whole batches, on their device.

A crop is a box cut out of the grid, so ``grid.cut`` resizes all of a batch at once. RandAugment,
erasing, mixup and cutmix are timm's (DeiT's recipe, arXiv 2012.12877), imported where they are
used: nothing else needs timm.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from biopart.data import Batch
from biopart.grid import cut, random_boxes
from biopart.nn.normalise import IMAGENET
from biopart.recipe import AugmentSettings, ImageChanges
from biopart.views.crops import crop_boxes, mirrored, uniform


class Augment:
    """Augment batches of images.

    Parameters
    ----------
    settings : ImageChanges
        What to do; AugmentSettings for labelled images.
    classes : int
        Number of classes; 0 if labels are not used.
    """

    def __init__(self, settings: ImageChanges, classes: int = 0) -> None:
        self.views = settings
        self.labels = settings if isinstance(settings, AugmentSettings) else AugmentSettings()
        self.classes = classes

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self.views.model_dump() != type(self.views)().model_dump()

    def pixels(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Crop, mirror and recolour images of 0 to 255, (B, C, y, x) -> (B, C, y, x)."""
        shape, count = values.shape[2:], len(values)
        if self.views.pad:
            values = F.pad(values, (self.views.pad,) * 4)
            boxes = random_boxes(count, 1, values.shape[2:], shape, generator=generator)
            values = cut(values, boxes, shape)[:, 0]
        elif self.views.crop[0] < 1:
            boxes = crop_boxes(count, shape, self.views, generator)
            values = cut(values, boxes, shape)[:, 0]
        if self.views.flip:
            values = mirrored(values, uniform(count, generator) < self.views.flip)
        if self.views.randaugment is not None:
            with seeded(generator):
                values = self._recolour(values)
        return values

    def targets(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Erase and mix normalised images; labels become shares of the classes, ``batch.soft``."""
        from timm.data.mixup import mixup_target
        from timm.data.random_erasing import RandomErasing

        settings = self.labels
        with seeded(generator):
            if settings.erase:
                erase = RandomErasing(settings.erase, mode="pixel", device=batch.values.device)
                batch = replace(batch, values=erase(batch.values))
            if not (settings.mixup or settings.cutmix or settings.smoothing):
                return batch
            # timm mixes an image with its mirror in the batch: one image is unmixed if the number
            # is odd.
            pairs = len(batch.values) // 2 * 2 if settings.mixup or settings.cutmix else 0
            soft = [mixup_target(batch.label[pairs:], self.classes, 1.0, settings.smoothing)]
            values = batch.values
            if pairs:
                values = values.clone()
                mixed, shares = self._mix(values[:pairs], batch.label[:pairs])
                values[:pairs], soft = mixed, [shares, *soft]
        return replace(batch, values=values, soft=torch.cat(soft))

    @cached_property
    def _mix(self) -> Any:
        from timm.data.mixup import Mixup

        return Mixup(
            self.labels.mixup,
            self.labels.cutmix,
            label_smoothing=self.labels.smoothing,
            num_classes=self.classes,
        )

    def _recolour(self, values: Tensor) -> Tensor:
        """Apply RandAugment to each image; timm's works on single PIL images."""
        from timm.data.auto_augment import posterize, rand_augment_transform

        if values.shape[1] != 3:
            raise ValueError(
                f"randaugment needs red, green and blue; there are {values.shape[1]} channels, so "
                "set finetune.augment.randaugment=null"
            )
        fill = tuple(round(255 * mean) for mean in IMAGENET[0])
        across = {"translate_const": int(0.45 * min(values.shape[2:])), "img_mean": fill}
        policy = rand_augment_transform(self.views.randaugment, across)
        for operation in policy.ops:
            if operation.aug_fn is posterize:
                operation.aug_fn = posterize_visibly
        pixels = values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        changed = np.stack([np.asarray(policy(Image.fromarray(image))) for image in pixels])
        return torch.from_numpy(changed).permute(0, 3, 1, 2).to(values.device)


def posterize_visibly(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep a number of bits of each colour, at least one.

    timm 1.0.31 asks for none at the highest magnitude, which Pillow 12 refuses.
    """
    from timm.data.auto_augment import posterize

    kept: Image.Image = posterize(image, max(1, bits))
    return kept


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Seed Python's and NumPy's global randomness, which timm uses, and restore it."""
    drawn = torch.rand(1, generator=generator, device=generator.device).item()
    state = int(drawn * 2**24) + getattr(generator, "first", 0)  # other processes, other changes
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(state)
    np.random.seed(state)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
