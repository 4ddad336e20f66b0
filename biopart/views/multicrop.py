"""Several views of every item of a batch: global ones and small local ones (DINO's multi-crop)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from biopart.data import Batch, View
from biopart.grid import Boxes, cut, random_boxes
from biopart.nn import Normalise
from biopart.recipe import ViewsSettings
from biopart.views.colours import recoloured
from biopart.views.crops import crop_boxes, mirrored, uniform
from biopart.views.waves import changed, disturbed

LOCAL = 3 / 7  # side of a local view to that of the grid: 96 of 224 pixels, DINO


class Views:
    """Draw views of batches.

    Parameters
    ----------
    settings : ViewsSettings
        Their number, sizes and changes.
    shape, patch : sequence of int
        Extents S of the grid and patch size P.
    sfreq_hz : float, optional
        Of signals; None of images.
    channels : int
        C.

    Raises
    ------
    ValueError
        If views are smaller than a patch, larger than the grid or not tiled by patches, colours of
        signals, of other channels than three or waves of images are set, or the views of an item
        would be equal.
    """

    def __init__(
        self,
        settings: ViewsSettings,
        shape: Sequence[int],
        patch: Sequence[int],
        sfreq_hz: float | None = None,
        *,
        channels: int = 3,
    ) -> None:
        self.settings, self.sfreq_hz = settings, sfreq_hz
        self.images = sfreq_hz is None
        own, other = ("waves", "colour") if sfreq_hz is not None else ("colour", "waves")
        if getattr(settings, other) != type(getattr(settings, other))():
            items = "images" if self.images else "signals"
            raise ValueError(f"views.{other} has no effect on {items}; leave it out, or set {own}")
        if self.images and channels != 3 and any(settings.colour.changes(n) for n in range(3)):
            raise ValueError(
                f"colour changes need red, green and blue, but images have {channels} channels; "
                "set views.colour={jitter: 0, grey: 0, blur: [0, 0, 0], solarise: [0, 0, 0]}"
            )
        self.changes = settings.values.decided(images=self.images)
        self.resizes = self.images if settings.resize is None else settings.resize
        self.mirror = 0.5 * self.images if settings.mirror is None else settings.mirror
        grid = {"patch": patch, "shape": shape}
        self.shape = extents_of("global_size", settings.global_size, default=shape, **grid)
        nearest = [max(1, round(LOCAL * s / p)) * p for s, p in zip(shape, patch, strict=True)]
        self.small = extents_of("local_size", settings.local_size, default=nearest, **grid)
        self._refuse_equal(shape)

    def _refuse_equal(self, shape: Sequence[int]) -> None:
        """Refuse settings under which all global views of an item are the item itself."""
        settings = self.settings
        cut_alike = settings.crop[0] == 1 if self.resizes else self.shape == tuple(shape)
        coloured = self.images and any(settings.colour.changes(number) for number in (0, 1))
        waves = not self.images and (settings.waves.drop_channels or settings.waves.band_stop)
        if cut_alike and not (self.mirror or self.changes.any or coloured or waves):
            raise ValueError(
                "the global views of an item would be equal; set views.global_size or views.crop, "
                "or changes under views.values, views.colour or views.waves"
            )

    def __call__(self, batch: Batch, normalise: Normalise, generator: torch.Generator) -> Batch:
        """Return a batch of stored values with its views; its own values are normalised too."""
        whole = normalise(batch.values)
        stored = batch.values if self.images else whole
        views = [self._view(stored, number, normalise, generator) for number in range(2)]
        for _ in range(self.settings.local_views):
            views.append(self._view(stored, 2, normalise, generator))
        return replace(batch, values=whole, views=views)

    def _view(
        self, values: Tensor, number: int, normalise: Normalise, generator: torch.Generator
    ) -> View:
        """Cut and change one view of every item: images before they are normalised."""
        local = number == 2
        size = self.small if local else self.shape
        boxes = self._boxes(values, size, generator, local=local)
        cropped = cut(values, boxes, size)[:, 0].float()
        flips = torch.zeros(len(values), dtype=torch.bool)
        if self.mirror:
            flips = uniform(len(values), generator) < self.mirror
            cropped = mirrored(cropped, flips)
        settings = self.settings
        if self.images:
            if settings.colour.changes(number):
                coloured = recoloured(cropped / 255, settings.colour, number, generator)
                cropped = 255 * coloured
            cropped = normalise(cropped)
        cropped = changed(cropped, self.changes, generator)
        if self.sfreq_hz is not None and cropped.dim() == 3:
            cropped = disturbed(cropped, settings.waves, self.sfreq_hz, generator)
        return View(cropped, boxes.start[:, 0], boxes.size[:, 0], flips, local)

    def _boxes(
        self, values: Tensor, size: Sequence[int], generator: torch.Generator, *, local: bool
    ) -> Boxes:
        """Draw where a view of every item is cut, (B, 1, N)."""
        count, shape = len(values), values.shape[2:]
        if not self.resizes:
            return random_boxes(count, 1, shape, size, generator=generator)
        settings = self.settings
        crop = settings.local_crop if local else settings.crop
        return crop_boxes(count, shape, settings.model_copy(update={"crop": crop}), generator)


def extents_of(
    key: str,
    given: Sequence[int] | None,
    *,
    default: Sequence[int],
    patch: Sequence[int],
    shape: Sequence[int],
) -> tuple[int, ...]:
    """Return the extents of views; ValueError where patches do not tile them."""
    size = tuple(default if given is None else given)
    fits = len(size) == len(shape) and all(
        p <= s <= most and s % p == 0 for s, p, most in zip(size, patch, shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"views.{key} is {list(size)}; give a multiple of the patch {list(patch)}, up to "
            f"the grid {list(shape)}, per axis"
        )
    return size
