"""PART: pairwise relative translations between patches off the grid (arXiv 2506.03682)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biopart.data import Batch, Metrics, StepOutput
from biopart.grid import (
    Boxes,
    Target,
    chance_mse,
    check_pairs,
    constant,
    cut,
    draw_near_pairs,
    draw_pairs,
    energy,
    errors_by_overlap,
    focused_boxes,
    grid_boxes,
    log_scale,
    on_axes,
    overlap,
    pick,
    pointwise,
    r2_by_hints,
    rand,
    random_boxes,
    translation,
    translation_errors,
)
from biopart.nn import Encoder, relative_encoder
from biopart.nn.masking import part_of, random_order
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
        Patches, pairs, relative encoder, hints, sizes, targets, loss.

    Raises
    ------
    ValueError
        If hints are requested for an encoder without positions, sizes on the grid, or more pairs
        without replacement than there are.
    """

    span: Tensor
    chance: Tensor
    tiles: Tensor
    tile_sizes: Tensor

    def __init__(self, encoder: Encoder, settings: PartSettings) -> None:
        super().__init__()
        if settings.position_hint > 0 and not encoder.embeds_positions:
            raise ValueError("position_hint needs position embeddings, e.g. position: sincos")
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
        self.uniform = not (self.sized or settings.self_pairs) and settings.near is None
        self.uniform &= settings.focus == "none" and settings.target != "capped"
        if settings.pairs is not None and not settings.replacement:
            check_pairs(self.count, settings.pairs, self_pairs=settings.self_pairs)
        self.head = relative_encoder(
            settings.head,
            encoder.dim,
            len(self.axes) * (2 if self.sized else 1),
            heads=settings.heads,
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
        pairs = self._draw_pairs(boxes, generator).to(batch.values.device)
        hints = round(self.settings.hint_share(progress) * self.count)
        hinted = self._draw_hints(batch.values, generator, hints)
        tokens = self.encode(batch.values, boxes, hinted, self._draw_context(batch, generator))
        predicted = self.head(tokens, pairs).float()
        reference, target = (pick(boxes, pairs[..., side]) for side in (0, 1))
        truth = on_axes(translation(reference, target), self.axes)
        sizes = None
        if self.sized:
            sizes = on_axes(self._relative_size(reference, target), self.axes)
        loss = self._loss(predicted, truth, sizes)
        drawn = Drawn(reference, target, pairs, hinted)
        if self.settings.symmetry:
            back = self.head(tokens, pairs.flip(-1)).float()
            loss = loss + self.settings.symmetry * self._asymmetry(predicted, back, drawn)
        predicted = predicted.detach()
        metrics = Metrics(lambda: self._metrics(predicted, truth, sizes, drawn=drawn, hints=hints))
        # With the symmetry term, a plain mean, there is no weight that is right for both.
        weight = None if self.settings.symmetry else self._distance_weight(truth)
        return StepOutput(loss, metrics, None if weight is None else (weight > 0).sum())

    def encode(
        self, values: Tensor, boxes: Boxes, hinted: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Cut and encode patches: values (B, C, *S), hinted bool (B, K) -> tokens (B, K, D)."""
        patches = cut(values, boxes, self.encoder.patch)
        if self.encoder.position == "none":
            positions = None
        else:
            positions = boxes.start.float().masked_fill(~hinted[..., None], torch.nan)
        tokens: Tensor = self.encoder(patches, positions, context)[:, 1:]
        return tokens

    @property
    def target(self) -> Target:
        """The form of the translations that are learnt."""
        return Target(self.settings.target, self.span, self.settings.target_cap)

    def _loss(self, predicted: Tensor, truth: Tensor, sizes: Tensor | None) -> Tensor:
        """Return the loss of predictions (B, M, axes or 2 axes), mean over pairs and axes."""
        n, kind, delta = len(self.axes), self.settings.loss, 1 / self.target.unit
        error = predicted[..., :n] - self.target.encode(truth)
        loss = self._weighted(pointwise(error, kind, delta), truth)
        if sizes is None:
            return loss
        one = torch.full_like(delta, 1 / self.size_unit)
        of_sizes = pointwise(predicted[..., n:] - sizes, kind, one)
        return (loss + self._weighted(of_sizes, truth)) / 2

    def _weighted(self, losses: Tensor, truth: Tensor) -> Tensor:
        """Return the mean of losses (B, M, axes), of far pairs less where the settings say so."""
        weight = self._distance_weight(truth)
        if weight is None:
            return losses.mean()
        return (weight * losses).sum() / (weight > 0).sum() / losses.shape[-1]

    def _distance_weight(self, truth: Tensor) -> Tensor | None:
        """Return the weights of pairs (B, M, 1) by their distance; None = all count alike."""
        if self.settings.distance_weight == "none":
            return None
        away = truth.square().sum(-1, keepdim=True).sqrt() / self.span.square().sum().sqrt()
        return (1 - away).clamp(min=0)

    def _asymmetry(self, predicted: Tensor, back: Tensor, drawn: "Drawn") -> Tensor:
        """Return the mean square of what a pair's two translations sum to, 0 where they agree.

        A translation is in sizes of its reference, so the way back is multiplied by s_t / s_r. The
        sum is in the form and the scale of the target.
        """
        n = len(self.axes)
        there, back = (self.target.decode(x[..., :n]) for x in (predicted, back))
        if self.sized:
            back = back * on_axes(drawn.target.size / drawn.reference.size, self.axes)
        return self.target.encode(there + back).square().mean()

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
        moved = self._on_every_axis(self.target.decode(predicted[..., :n]))
        if not self.sized:
            return moved, None
        sizes = predicted[..., n:] * self.size_unit
        if self.settings.size_target == "ratio":
            sizes = (1 + sizes).clamp(min=1 / self.largest_ratio).log()
        return moved, self._on_every_axis(sizes)

    def _on_every_axis(self, relations: Tensor) -> Tensor:
        """Insert 0 for axes of extent 1 without relations, (B, K, K, axes) -> (B, K, K, N)."""
        whole = relations.new_zeros(*relations.shape[:3], len(self.encoder.shape))
        whole[..., self.axes] = relations
        return whole

    @property
    def largest_ratio(self) -> float:
        """Largest relative size."""
        return self.settings.scale[1] / self.settings.scale[0]

    @property
    def size_unit(self) -> float:
        """Divisor of relative sizes in the loss: the largest logarithm, or the largest ratio."""
        if self.settings.size_target == "ratio":
            return self.largest_ratio
        return math.log(self.largest_ratio)

    def _relative_size(self, reference: Boxes, target: Boxes) -> Tensor:
        """Return scaled relative sizes (B, M, N): logarithms, or ratios minus 1."""
        logs = log_scale(reference, target)
        if self.settings.size_target == "ratio":
            logs = logs.exp() - 1
        return logs / self.size_unit

    def _draw_pairs(self, boxes: Boxes, generator: torch.Generator | None) -> Tensor:
        """Draw the pairs of a batch (B, M, 2), or of boxes near each other."""
        settings = self.settings
        if settings.near is not None:
            assert settings.pairs is not None
            size = constant(self.encoder.patch, boxes.start.device)
            return draw_near_pairs(
                boxes, size, near=settings.near, pairs=settings.pairs, generator=generator
            )
        return draw_pairs(
            len(boxes.start),
            self.count,
            settings.pairs,
            generator,
            replacement=settings.replacement,
            self_pairs=settings.self_pairs,
            shared=settings.shared_pairs,
        )

    def _draw_context(self, batch: Batch, generator: torch.Generator | None) -> Tensor | None:
        """Choose the patches that others may attend to, bool (B, K); None = all."""
        if not self.settings.masked:
            return None
        kept = part_of(self.count, 1 - self.settings.masked)
        order = random_order(len(batch.values), self.count, generator, batch.values.device)
        return order < kept

    def draw_boxes(self, values: Tensor, generator: torch.Generator | None) -> Boxes:
        """Draw the patches of a batch (B, K, N), on or off the grid."""
        shape, patch, device = self.encoder.shape, self.encoder.patch, values.device
        if self.settings.on_grid:
            tiles = Boxes(self.tiles, self.tile_sizes, tuple((p, p) for p in patch))
            start, size = (x.expand(len(values), -1, -1) for x in (tiles.start, tiles.size))
            return Boxes(start, size, tiles.sides)
        if self.settings.focus == "energy":
            return focused_boxes(energy(values), self.count, patch, generator=generator)
        return random_boxes(
            len(values),
            self.count,
            shape,
            patch,
            scale=self.settings.scale,
            sides=self.settings.sides,
            generator=generator,
            device=device,
        )

    def _draw_hints(self, values: Tensor, generator: torch.Generator | None, hints: int) -> Tensor:
        """Choose the same number of hinted patches in every grid, bool (B, K)."""
        source = generator.device if generator is not None else values.device
        noise = rand(len(values), self.count, generator=generator, device=source)
        return (noise.argsort(1).argsort(1) < hints).to(values.device)

    def _metrics(
        self,
        predicted: Tensor,
        truth: Tensor,
        sizes: Tensor | None,
        *,
        drawn: "Drawn",
        hints: int,
    ) -> dict[str, Tensor]:
        """Return the scores of a step from predicted (B, M, axes) and true translations, sizes."""
        n = len(self.axes)
        moved = self.target.decode(predicted[..., :n])
        if self.settings.target == "capped":  # what lies beyond the cap is not asked for
            truth = self.target.decode(self.target.encode(truth))
        chance, square = self._chance(truth), (moved - truth).square()
        r2 = 1 - square.mean() / chance
        # On the grid no two patches overlap.
        overlapping = overlap(drawn.reference, drawn.target)
        metrics = {
            **{"mse": square.mean(), "chance_mse": chance},
            **{"r2": r2, "r2_excess": r2 - hints / self.count},
            **translation_errors(moved, truth, self.axes),
            **errors_by_overlap(moved, truth, None if self.settings.on_grid else overlapping),
        }
        hinted = take(drawn.hinted[..., None], drawn.pairs.flatten(1))
        members = hinted.reshape(*truth.shape[:2], 2).sum(-1)
        metrics |= r2_by_hints(square, chance, members, hints=hints, count=self.count)
        if sizes is not None:
            size_loss = (predicted[..., n:] - sizes).square().mean()
            middle = 0.0 if self.settings.size_target == "log" else sizes.mean()
            metrics["scale_r2"] = 1 - size_loss / (sizes - middle).square().mean()
        return metrics | {"chance_loss": self._chance_loss(truth, sizes)}

    def _chance_loss(self, truth: Tensor, sizes: Tensor | None) -> Tensor:
        """Return the loss of predicting 0; exact where the chance of translations is."""
        settings = self.settings
        plain = (settings.target, settings.loss, settings.distance_weight)
        if self.uniform and plain == ("linear", "mse", "none"):
            exact: Tensor = (self.chance / self.span.square()).mean()
            return exact
        outputs = len(self.axes) * (1 if sizes is None else 2)
        return self._loss(truth.new_zeros(*truth.shape[:-1], outputs), truth, sizes)

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
