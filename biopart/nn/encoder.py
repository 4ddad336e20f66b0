"""The protocol of encoders: what training, saving, probing and exporting ask of one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

from torch import Tensor, nn

from biopart.grid import constant, patchify
from biopart.nn.positions import row_major
from biopart.recipe import Position


def check_tiles(shape: Sequence[int], patch: Sequence[int]) -> None:
    """Raise ValueError unless patches tile a grid, on all of its axes."""
    if len(shape) != len(patch) or any(p < 1 or s % p for s, p in zip(shape, patch, strict=True)):
        raise ValueError(
            f"patches of {tuple(patch)} do not tile a grid of {tuple(shape)}; choose patch sides "
            "that divide the extents, one per axis"
        )


class Encoder(nn.Module, ABC):
    """Encode patches of a grid with any number of axes to one token each, [CLS] first.

    Attributes
    ----------
    name : str
        Under which ``nn.building`` builds it again.
    shape, patch : tuple of int
        Extents S of the grid and patch size P, N values each.
    channels, dim : int
        C and the number of features D of a token.
    position : "learned", "sincos", "relative" or "none"
        Positions.
    """

    name: ClassVar[str]
    shape: tuple[int, ...]
    patch: tuple[int, ...]
    channels: int
    dim: int
    position: Position

    @property
    def counts(self) -> tuple[int, ...]:
        """Patches per axis of the grid."""
        return tuple(s // p for s, p in zip(self.shape, self.patch, strict=True))

    @property
    def embeds_positions(self) -> bool:
        """Whether a token is given its own position, which can be hinted, dropped or kept."""
        return self.position in ("learned", "sincos")

    @property
    def n_patches(self) -> int:
        """Number of patches K that tile the grid."""
        return prod(self.counts)

    @property
    def takes_patches(self) -> bool:
        """Whether patches can be hidden, moved or cut off the grid: each is one token."""
        return True

    @property
    def has_cls(self) -> bool:
        """Whether the first token is a [CLS]; else it is the mean of the others."""
        return False

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Arguments that build this encoder again, ready for JSON."""

    @abstractmethod
    def layers(self) -> list[list[nn.Parameter]]:
        """Return all parameters by layer, from the input to the output, for layer decay."""

    def positions(self) -> list[nn.Parameter]:
        """Return the trained positions: where they are new they are trained at the full rate."""
        return []

    def not_decayed(self) -> list[nn.Parameter]:
        """Return the parameters besides biases and norms that weight decay leaves alone."""
        return []

    def encode(self, values: Tensor) -> Tensor:
        """Encode whole grids of any extents that patches tile.

        Positions of a grid that is not ``shape`` are spread over those of ``shape``, as DINO (arXiv
        2104.14294) does with small crops.

        Parameters
        ----------
        values : Tensor (B, C, *S')
            Normalised values.

        Returns
        -------
        Tensor (B, 1 + K, D)
            [CLS] first.
        """
        patches, extents = patchify(values, self.patch), tuple(values.shape[2:])
        positions = None
        if extents != self.shape and self.position != "none":
            counts = [s // p for s, p in zip(extents, self.patch, strict=True)]
            stretch = constant(self.counts, values.device) / constant(counts, values.device)
            places = (row_major(counts).to(values.device) + 0.5) * stretch - 0.5
            positions = places * constant(self.patch, values.device)
            positions = positions.expand(len(values), -1, -1)
        tokens: Tensor = self(patches, positions)
        return tokens

    def maps(self, values: Tensor, count: int) -> list[Tensor]:
        """Return maps of local representations for tasks at every place.

        Parameters
        ----------
        values : Tensor (B, C, *S')
            Normalised values.
        count : int
            Number of maps, from the input to the output; the last one is of the tokens after the
            final norm. An encoder without layers of one size gives that one several times.

        Returns
        -------
        list of Tensor (B, D, *counts)
        """
        return [self.as_map(self.encode(values), values)] * count

    def as_map(self, tokens: Tensor, values: Tensor) -> Tensor:
        """Return the patch tokens (B, 1 + K, D) of values (B, C, *S') as a map (B, D, *counts)."""
        counts = [s // p for s, p in zip(values.shape[2:], self.patch, strict=True)]
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, *counts)

    @abstractmethod
    def forward(
        self,
        patches: Tensor,
        positions: Tensor | None = None,
        context: Tensor | None = None,
        *,
        unknown: Tensor | None = None,
    ) -> Tensor:
        """Encode patches.

        Parameters
        ----------
        patches : Tensor (B, K, C, *P)
            Normalised values.
        positions : Tensor (B, K, N), float, optional
            Start of each patch in samples, off the grid too; NaN = no hint for this patch. None =
            the row-major grid.
        context : Tensor (B, K), bool, optional
            Keys and values of every layer come from these patches and [CLS] alone (MP3, arXiv
            2207.07611).
        unknown : Tensor (D,), optional
            What patches without a hint get instead of a position (DropPos, arXiv 2309.03576).

        Returns
        -------
        Tensor (B, 1 + K, D)
            [CLS] first.
        """
