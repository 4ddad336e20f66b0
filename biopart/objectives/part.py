"""PART: pairwise relative translations between patches off the grid (arXiv 2506.03682)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biopart.data import Batch, Metrics, StepOutput
from biopart.grid import (
    Boxes,
    chance_mse,
    cut,
    energy,
    focused_boxes,
    grid_boxes,
    log_scale,
    on_axes,
    random_boxes,
    translation,
)
from biopart.nn import Encoder, relative_encoder
from biopart.nn.relative import take
from biopart.recipe import PartSettings

__all__ = ["Part"]


class Part(nn.Module):
    """Predict the relative positions of patches.

    Parameters
    ----------
    encoder : Encoder
        Sets shape, patch and number of axes; position "none" only without hints.
    settings : PartSettings
        Patches, pairs, relative encoder, hints, sizes.

    Raises
    ------
    ValueError
        If hints are requested for an encoder without positions, or sizes on the grid.
    """

    span: Tensor
    chance: Tensor
    tiles: Tensor
    tile_sizes: Tensor

    def __init__(self, encoder: Encoder, settings: PartSettings) -> None:
        super().__init__()
        if settings.position_hint > 0 and encoder.position == "none":
            raise ValueError("position_hint needs an encoder with positions, e.g. position: sincos")
        if settings.on_grid and settings.scale != (1.0, 1.0):
            raise ValueError("on_grid patches have one size; keep scale [1, 1]")
        largest = [round(settings.scale[1] * side) for side in encoder.patch]
        if any(side > s > 1 for side, s in zip(largest, encoder.shape, strict=True)):
            raise ValueError(
                f"scale {list(settings.scale)} gives patches of up to {tuple(largest)}, more than "
                f"the grid of {encoder.shape}; lower its upper end"
            )
        self.encoder, self.settings = encoder, settings
        self.axes = [axis for axis, extent in enumerate(encoder.shape) if extent > 1]
        self.count = encoder.n_patches if settings.on_grid else settings.patches
        if self.count < 2:
            raise ValueError(
                f"a patch of {encoder.patch} on a grid of {encoder.shape} leaves only one patch, "
                "without relations; choose smaller patches"
            )
        self.sized = settings.scale[0] != settings.scale[1]
        self.uniform = not self.sized and settings.focus == "none"
        self.head = relative_encoder(
            settings.head,
            encoder.dim,
            len(self.axes) * (2 if self.sized else 1),
            heads=settings.heads or max(1, encoder.dim // 64),
            patches=self.count,
        )
        shape, patch = (
            torch.tensor(x, dtype=torch.float64) for x in (encoder.shape, encoder.patch)
        )
        span = ((shape - patch) / patch)[self.axes].clamp(min=1).float()
        self.register_buffer("span", span, persistent=False)
        chance = chance_mse(encoder.shape, encoder.patch, on_grid=settings.on_grid)[self.axes]
        self.register_buffer("chance", chance, persistent=False)
        tiles = grid_boxes(encoder.shape, encoder.patch)
        self.register_buffer("tiles", tiles.start, persistent=False)
        self.register_buffer("tile_sizes", tiles.size, persistent=False)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Cut, encode, relate and compare; values of the batch are normalised (B, C, *S)."""
        boxes = self.draw_boxes(batch.values, generator)
        pairs = draw_pairs(len(batch.values), self.count, self.settings.pairs, generator)
        pairs = pairs.to(batch.values.device)
        hinted = self._draw_hints(batch.values, generator)
        predicted = self.head(self.encode(batch.values, boxes, hinted), pairs).float()
        reference, target = (pick(boxes, pairs[..., side]) for side in (0, 1))
        drawn = Drawn(reference, target, pairs, hinted)
        truth = on_axes(translation(reference, target), self.axes)
        n = len(self.axes)
        loss = (predicted[..., :n] - truth / self.span).square().mean()
        sizes = None
        if self.sized:
            sizes = on_axes(log_scale(reference, target), self.axes) / self.size_unit
            loss = (loss + (predicted[..., n:] - sizes).square().mean()) / 2
        predicted = predicted.detach()
        return StepOutput(loss, Metrics(lambda: self._metrics(predicted, truth, sizes, drawn)))

    def encode(self, values: Tensor, boxes: Boxes, hinted: Tensor) -> Tensor:
        """Cut and encode patches: values (B, C, *S), hinted bool (B, K) -> tokens (B, K, D)."""
        patches = cut(values, boxes, self.encoder.patch)
        if self.encoder.position == "none":
            positions = None
        else:
            positions = boxes.start.float().masked_fill(~hinted[..., None], torch.nan)
        tokens: Tensor = self.encoder(patches, positions)[:, 1:]
        return tokens

    @torch.no_grad()
    def relations(self, values: Tensor, boxes: Boxes, hinted: Tensor | None = None) -> Tensor:
        """Predict all translations of given boxes, in patch sizes.

        Parameters
        ----------
        values : Tensor (B, C, *S)
            Normalised grids.
        boxes : Boxes (B, K, N)
            Patches to relate.
        hinted : Tensor (B, K), bool, optional
            Patches that keep their position; default: none.

        Returns
        -------
        Tensor (B, K, K, N)
            ``[b, r, t]`` from reference r to target t; 0 on axes of extent 1.
        """
        if hinted is None:
            hinted = torch.zeros(boxes.start.shape[:2], dtype=torch.bool, device=values.device)
        return self.relate(self.encode(values, boxes, hinted))[0]

    @torch.no_grad()
    def relate(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict all relations of encoded patches, tokens (B, K, D).

        Returns
        -------
        tuple
            Translations (B, K, K, N) in patch sizes, and for an encoder trained with sizes the logs
            of relative sizes (B, K, K, N), else None; ``[b, r, t]`` from reference r to target t.
        """
        batch, count, _ = tokens.shape
        index = torch.arange(count, device=tokens.device)
        pairs = torch.cartesian_prod(index, index).expand(batch, -1, -1)
        predicted = self.head(tokens, pairs).float().reshape(batch, count, count, -1)
        n = len(self.axes)
        moved = self._on_every_axis(predicted[..., :n] * self.span)
        if not self.sized:
            return moved, None
        return moved, self._on_every_axis(predicted[..., n:] * self.size_unit)

    def _on_every_axis(self, relations: Tensor) -> Tensor:
        """Insert 0 for axes of extent 1 without relations, (B, K, K, axes) -> (B, K, K, N)."""
        whole = relations.new_zeros(*relations.shape[:3], len(self.encoder.shape))
        whole[..., self.axes] = relations
        return whole

    @property
    def size_unit(self) -> float:
        """Largest log of a relative size, the divisor in the loss."""
        return math.log(self.settings.scale[1] / self.settings.scale[0])

    def draw_boxes(self, values: Tensor, generator: torch.Generator | None) -> Boxes:
        """Draw the patches of a batch (B, K, N), on or off the grid."""
        shape, patch, device = self.encoder.shape, self.encoder.patch, values.device
        if self.settings.on_grid:
            tiles = Boxes(self.tiles, self.tile_sizes, tuple((p, p) for p in patch))
            start, size = (x.expand(len(values), -1, -1) for x in (tiles.start, tiles.size))
            return Boxes(start, size, tiles.sides)
        if self.settings.focus == "energy":
            return focused_boxes(energy(values), self.count, patch, generator=generator)
        options = {"scale": self.settings.scale, "generator": generator, "device": device}
        return random_boxes(len(values), self.count, shape, patch, **options)  # type: ignore[arg-type]

    def _draw_hints(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose the same number of hinted patches in every grid, bool (B, K)."""
        source = generator.device if generator is not None else values.device
        noise = torch.rand(len(values), self.count, generator=generator, device=source)
        hints = round(self.settings.position_hint * self.count)
        return (noise.argsort(1).argsort(1) < hints).to(values.device)

    def _metrics(
        self, predicted: Tensor, truth: Tensor, sizes: Tensor | None, drawn: "Drawn"
    ) -> dict[str, Tensor]:
        """Return the figures of a step from predicted (B, M, axes) and true translations, sizes."""
        n = len(self.axes)
        moved = predicted[..., :n] * self.span
        metrics = self._errors(moved, truth, overlap(drawn.reference, drawn.target))
        hinted = take(drawn.hinted[..., None], drawn.pairs.flatten(1))
        metrics |= self._by_hints(moved, truth, hinted)
        chance_loss = (truth / self.span).square().mean()
        if self.uniform:
            chance_loss = (self.chance / self.span.square()).mean()
        if sizes is not None:
            size_chance = sizes.square().mean()
            size_loss = (predicted[..., n:] - sizes).square().mean()
            metrics["scale_r2"] = 1 - size_loss / size_chance
            chance_loss = (chance_loss + size_chance) / 2
        return metrics | {"chance_loss": chance_loss}

    def _errors(self, moved: Tensor, truth: Tensor, overlapping: Tensor) -> dict[str, Tensor]:
        """Return errors in patch sizes, R2 against chance and shares of correct signs."""
        square = (moved - truth).square()
        chance = self._chance(truth)
        r2 = 1 - square.mean() / chance
        share = round(self.settings.position_hint * self.count) / self.count
        right = (moved.sign() == truth.sign()).float()
        distance = square.sum(-1).sqrt()
        apart, near = truth != 0, overlapping[..., None]
        metrics = {
            "error": distance.mean(),
            "error_other": masked_mean(distance, ~overlapping),
            "before_after_other": masked_mean(right, apart & ~near),
        }
        if len(self.axes) > 1:
            away = (moved - truth).abs().mean((0, 1))
            metrics |= {f"error_axis_{axis}": away[n] for n, axis in enumerate(self.axes)}
        if not self.settings.on_grid:  # on the grid no two patches overlap
            metrics["error_overlapping"] = masked_mean(distance, overlapping)
            metrics["before_after_overlapping"] = masked_mean(right, apart & near)
        return {
            "mse": square.mean(),
            "chance_mse": chance,
            "r2": r2,
            "r2_excess": r2 - share,
            **metrics,
        }

    def _by_hints(self, moved: Tensor, truth: Tensor, hinted: Tensor) -> dict[str, Tensor]:
        """Return R2 by how many members of a pair have a hint; absent if no pair has."""
        hints = round(self.settings.position_hint * self.count)
        free = self.count - hints
        possible = {0: free > 1, 1: hints > 0 and free > 0, 2: hints > 1}
        if hints in (0, self.count):
            return {}
        members = hinted.reshape(*truth.shape[:2], 2).sum(-1)
        square, chance = (moved - truth).square().mean(-1), self._chance(truth)
        return {
            f"r2_hinted_{n}": 1 - masked_mean(square, members == n) / chance
            for n in (0, 1, 2)
            if possible[n]
        }

    def _chance(self, truth: Tensor) -> Tensor:
        """Return the error of predicting 0: exact for uniform draws of one size, else measured."""
        chance: Tensor = self.chance.mean() if self.uniform else truth.square().mean()
        return chance


@dataclass(frozen=True)
class Drawn:
    """What a step of PART drew.

    Attributes
    ----------
    reference, target : Boxes (B, M, N)
        Both patches of every pair.
    pairs : Tensor (B, M, 2), int64
        Their numbers.
    hinted : Tensor (B, K), bool
        Patches whose position was given.
    """

    reference: Boxes
    target: Boxes
    pairs: Tensor
    hinted: Tensor


def draw_pairs(
    batch: int, count: int, pairs: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw index pairs of two different patches, uniform over all of them.

    Parameters
    ----------
    batch, count, pairs : int
        Grids B, patches K and pairs M of each grid.
    generator : torch.Generator, optional
        Source of randomness; the pairs are on its device.

    Returns
    -------
    Tensor (B, M, 2), int64
        Reference and target; a patch is not paired with itself (not stated in the paper).

    Examples
    --------
    >>> pairs = draw_pairs(3, 4, 50, torch.Generator().manual_seed(0))
    >>> pairs.shape, bool((pairs[..., 0] == pairs[..., 1]).any())
    (torch.Size([3, 50, 2]), False)
    """
    device = generator.device if generator is not None else None
    shape = (batch, pairs)
    reference = torch.randint(count, shape, generator=generator, device=device)
    step = torch.randint(1, count, shape, generator=generator, device=device)
    return torch.stack([reference, (reference + step) % count], dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values where mask is true, NaN if it never is; no device sync.

    Examples
    --------
    >>> masked_mean(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    return (values * mask).sum() / mask.sum()


def pick(boxes: Boxes, index: Tensor) -> Boxes:
    """Select boxes (B, K, N) by index (B, M) -> (B, M, N)."""
    return Boxes(take(boxes.start, index), take(boxes.size, index))


def overlap(reference: Boxes, target: Boxes) -> Tensor:
    """Tell which pairs of boxes share a sample, (..., N) -> bool (...)."""
    first = torch.maximum(reference.start, target.start)
    last = torch.minimum(reference.start + reference.size, target.start + target.size)
    return (first < last).all(-1)
