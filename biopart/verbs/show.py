"""Predictions of a pretrained PART encoder for held-out windows or images (2506.03682, 5.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from scipy.stats import spearmanr
from torch import Tensor

from biopart.data import Source
from biopart.experiment.experiment import Experiment, open_experiment
from biopart.experiment.stored import load_part, stored_recipe
from biopart.grid import Boxes, asymmetry, cut, log_scale, place, spread, translation
from biopart.nn import Normalise
from biopart.objectives import Part
from biopart.run import Run

View = Literal["reconstruction", "uncertainty", "symmetry", "scale"]
VIEWS: tuple[View, ...] = get_args(View)
MEASURED = 200


@dataclass(frozen=True)
class Relations:
    """Patches of held-out items and the predicted relations of all pairs.

    Attributes
    ----------
    values : Tensor (W, C, *S)
        As stored.
    names : list of str
        Which windows or images.
    boxes : Boxes (W, K, N)
        The patches.
    hinted : Tensor (W, K), bool
        Patches whose position the encoder was given.
    moved, sizes : Tensor (W, K, K, N)
        Predicted translations in sizes of the reference, and logs of relative sizes, if any.
    patch : tuple of int
        Patch size P.
    """

    values: Tensor
    names: list[str]
    boxes: Boxes
    hinted: Tensor
    moved: Tensor
    sizes: Tensor | None
    patch: tuple[int, ...]

    @property
    def truth(self) -> Tensor:
        """True translations (W, K, K, N)."""
        return translation(*self._pairs())

    @property
    def true_sizes(self) -> Tensor:
        """Logs of true relative sizes (W, K, K, N)."""
        return log_scale(*self._pairs())

    def _pairs(self) -> tuple[Boxes, Boxes]:
        start, size = self.boxes.start, self.boxes.size
        return Boxes(start[:, :, None], size[:, :, None]), Boxes(start[:, None], size[:, None])

    @property
    def unit(self) -> Tensor:
        """Patch size P as a tensor (N,)."""
        return torch.tensor(self.patch, dtype=torch.float64)

    def placed(self, reference: int | None = None) -> Tensor:
        """Return where the centres are put (W, K, N), in samples or pixels.

        Relations leave a common translation open: places are moved so that the reference, or the
        mean of all patches, is at its true place.
        """
        centre, size = self.boxes.centre.double(), self.boxes.size.double()
        places = place(self.moved.double(), reference, size)
        kept = slice(None) if reference is None else slice(reference, reference + 1)
        anchor = (centre - places)[:, kept].mean(1, keepdim=True)
        return places + anchor

    def distance(self, placed: Tensor) -> Tensor:
        """Return how far places are from the true centres (W, K), in patch sizes."""
        return ((placed - self.boxes.centre.double()) / self.unit).square().sum(-1).sqrt()

    @property
    def shifts(self) -> Tensor:
        """Predicted translations (W, K, K, N) in patch sizes, of references of any size."""
        return self.moved * (self.boxes.size / self.unit).float()[:, :, None]

    @property
    def true_shifts(self) -> Tensor:
        """True translations (W, K, K, N) in patch sizes."""
        return self.truth * (self.boxes.size / self.unit).float()[:, :, None]

    @property
    def scatter(self) -> Tensor:
        """Spread of each patch's places over all references (W, K), in patch sizes."""
        samples = spread(self.moved.double(), self.boxes.size.double())
        return (samples / self.unit).square().sum(-1).sqrt()


@dataclass(frozen=True)
class PartRun:
    """A run to be drawn: its objective and its held-out items.

    Raises
    ------
    ValueError
        If the run was pretrained by another objective than PART.
    """

    run: Run
    experiment: Experiment
    part: Part
    source: Source

    @property
    def axes(self) -> int:
        """Number of axes N."""
        return len(self.part.encoder.patch)

    def items(self, count: int) -> list[int]:
        """Return the indices of ``count`` items, spread evenly over the held-out ones."""
        return [int(item) for item in self.source.evenly(count)]

    def relations(self, items: Sequence[int], *, hints: bool = True) -> Relations:
        """Cut patches out of items, as in training, and predict their relations."""
        batch = self.source.__getitems__(items)
        values = Normalise(self.experiment.recipe.data.normalise)(batch.values)
        generator = torch.Generator().manual_seed(0)
        boxes = self.part.draw_boxes(values, generator)
        order = torch.rand(len(values), self.part.count, generator=generator).argsort(1).argsort(1)
        share = self.part.settings.hint_share() if hints else 0.0
        hinted = order < round(share * self.part.count)
        with torch.no_grad():
            moved, sizes = self.part.relate(self.part.encode(values, boxes, hinted))
        patch = self.part.encoder.patch
        return Relations(batch.values, batch.key, boxes, hinted, moved, sizes, patch)

    def mixed(self, items: tuple[int, int]) -> Relations:
        """Predict the relations of patches of two items: half of one, then half of the other.

        No patch has its position. ``boxes`` are those of each patch in its own item.
        """
        batch = self.source.__getitems__(items)
        values = Normalise(self.experiment.recipe.data.normalise)(batch.values)
        boxes = self.part.draw_boxes(values, torch.Generator().manual_seed(0))
        first = self.part.count - self.part.count // 2
        patches = cut(values, boxes, self.part.encoder.patch)
        both = torch.cat([patches[:1, :first], patches[1:, first:]], 1)
        start, size = (torch.cat([x[:1, :first], x[1:, first:]], 1) for x in _two(boxes))
        chosen = Boxes(start, size)
        positions = None
        if self.part.encoder.position != "none":
            positions = torch.full((1, self.part.count, self.axes), torch.nan)
        with torch.no_grad():
            moved, sizes = self.part.relate(self.part.encoder(both, positions)[:, 1:])
        hinted = torch.zeros(1, self.part.count, dtype=torch.bool)
        names = [" and ".join(batch.key)]
        return Relations(batch.values, names, chosen, hinted, moved, sizes, self.part.encoder.patch)


def _two(boxes: Boxes) -> tuple[Tensor, Tensor]:
    return boxes.start, boxes.size


def open_part_run(run: Run, store: Path | None = None) -> PartRun:
    """Open a run to be drawn, on validation persons or, if there are none, test persons.

    Raises
    ------
    ValueError
        If it was pretrained by another objective than PART.
    FileNotFoundError
        If it has no weights yet.
    """
    origin = run.pretrained()
    part = load_part(origin, "show needs a run pretrained with part")
    experiment = open_experiment(stored_recipe(origin, store=store)).pretraining
    persons = experiment.split.validation or experiment.split.test
    return PartRun(origin, experiment, part, experiment.source(persons))


def views_of(part_run: PartRun, wanted: Sequence[View] = ()) -> tuple[View, ...]:
    """Return the views chosen, or all that the run allows; ValueError for one that it does not."""
    if "scale" in wanted and not part_run.part.sized:
        raise ValueError(
            f"{part_run.run.path} was trained on patches of one size; the view scale needs a run "
            "with pretrain.objective.scale, for instance [0.5, 2.0]"
        )
    return tuple(wanted) or tuple(v for v in VIEWS if v != "scale" or part_run.part.sized)


def measure_relations(part_run: PartRun, count: int = MEASURED) -> dict[str, Any]:
    """Measure relations on held-out items.

    Returns
    -------
    dict
        ``items``, ``hinted`` (share of patches whose position was given), and in patch sizes, of
        patches whose position was not given: ``error_one_reference`` and ``error_least_squares``
        (mean distance from the true place), ``error_chance`` (all in the middle of their item's
        patches), ``error_blind`` (least squares where none is given), ``spread`` over references
        and its rank correlation with the error, ``asymmetry`` (root mean square of
        ``R(i, j) + R(j, i)``) beside that of the true relations alone; with sizes
        ``size_factor``, by which a relative size is missed.
    """
    items = part_run.items(count)
    relations = part_run.relations(items)
    free = ~relations.hinted
    free_but_first = free.clone()
    free_but_first[:, 0] = False
    places = relations.placed()
    error = relations.distance(places)[free]
    middle = relations.boxes.centre.double().mean(1, keepdim=True).expand_as(places)
    scatter = relations.scatter[free]
    summary = {
        "items": len(items),
        "hinted": relations.hinted.float().mean().item(),
        "error_one_reference": relations.distance(relations.placed(0))[free_but_first]
        .mean()
        .item(),
        "error_least_squares": error.mean().item(),
        "error_chance": relations.distance(middle)[free].mean().item(),
        "spread": scatter.mean().item(),
        "spread_rank_correlation": float(spearmanr(scatter, error).statistic),
        "asymmetry": asymmetry(relations.shifts).square().mean().sqrt().item(),
        "true_relation": relations.true_shifts.square().mean().sqrt().item(),
    }
    if relations.hinted.any():
        blind = part_run.relations(items, hints=False)
        summary["error_blind"] = blind.distance(blind.placed()).mean().item()
    if relations.sizes is not None:
        missed = (relations.sizes - relations.true_sizes).abs().mean()
        summary["size_factor"] = missed.exp().item()
        summary["size_factor_chance"] = relations.true_sizes.abs().mean().exp().item()
    return summary
