"""Tokens of items by a frozen encoder, computed once and kept in files."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biopart.data.items import Items
from biopart.files import whole
from biopart.grid import Boxes, grid_boxes
from biopart.nn import Model
from biopart.nn.weights import load_tensors, save_tensors
from biopart.probing.linear import Train

BATCH = 256


class Tokens:
    """A frozen encoder's tokens of items.

    Parameters
    ----------
    model : Model
        On the device that computes.
    folder : Path
        Where tokens are kept, a file for each encoder and kind of items.
    """

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder = model.eval(), folder
        digest = hashlib.sha256(repr(sorted(model.encoder.arguments.items())).encode())
        digest.update(model.about.normalise.encode() + str(model.about.positions).encode())
        for name, value in model.encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        self.weights = digest.hexdigest()[:16]

    def of(self, items: Items) -> NDArray[np.float32]:
        """Return tokens (items, 1 + K, D), [CLS] first, as a memory map; computed once."""
        key = hashlib.sha256(items.key.encode()).hexdigest()[:16]
        path = self.folder / f"{self.weights}-{key}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as beside:
                self._write(items, beside)
        kept: NDArray[np.float32] = np.load(path, mmap_mode="r")
        return kept

    def covered(self, items: Items) -> "Covered":
        """Return the tokens of parts of larger grids, with which of them a part covers."""
        return Covered(self.of(items), items, grid_boxes(*self._grid))

    @property
    def _grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        encoder = self.model.encoder
        return encoder.shape, encoder.patch

    def probe(self, about: Sequence[object], probe: nn.Module, train: Train) -> nn.Module:
        """Return a trained probe of this encoder, kept in a file from the first time on.

        Parameters
        ----------
        about : sequence
            All that its training depends on besides the encoder; arrays count by their values.
        probe : nn.Module
            Before the training; gets the weights of the file, if there is one.
        train : callable
            Trains it.
        """
        digest = hashlib.sha256()
        for one in (type(probe).__name__, *about):
            digest.update(one.tobytes() if isinstance(one, np.ndarray) else repr(one).encode())
        path = self.folder / f"{self.weights}-{digest.hexdigest()[:16]}.safetensors"
        if path.is_file():
            probe.load_state_dict(load_tensors(path)[0])
            return probe.eval()
        trained = train()
        save_tensors(path, trained.state_dict(), {"probe": type(probe).__name__})
        return trained

    @torch.no_grad()
    def _write(self, items: Items, path: Path) -> None:
        """Encode all items into a file, batch by batch."""
        kept = None
        for start in range(0, len(items), BATCH):
            picked = np.arange(start, min(start + BATCH, len(items)))
            found = self.model.tokens(items.values(picked).to(self.model.device))
            tokens = found.float().cpu().numpy()
            if kept is None:
                shape = (len(items), *tokens.shape[1:])
                kept = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            kept[picked] = tokens
        if kept is None:
            with path.open("wb") as file:
                np.save(file, np.zeros((0, 1, self.model.encoder.dim), np.float32))
            return
        kept.flush()

    def pooled(self, items: Items) -> dict[str, NDArray[np.float32]]:
        """Return one vector for each item and kind of features, (items, D).

        ``cls`` is [CLS] where the encoder has one, ``mean`` the mean of the patch tokens. Of a part
        of a larger grid (``Items.boxes``) both are the mean of the tokens that it covers, so only
        ``mean`` is there.
        """
        tokens = self.of(items)
        if items.fill_grid:
            mean = batched(lambda some: tokens[some][:, 1:].mean(1), len(items), tokens.shape[2])
            if not self.model.encoder.has_cls:
                return {"mean": mean}
            return {"cls": np.ascontiguousarray(tokens[:, 0]), "mean": mean}

        def covered(some: NDArray[np.int64]) -> NDArray[np.float32]:
            weights = shares(items.boxes(some), grid_boxes(*self._grid)).numpy()
            own: NDArray[np.float32] = np.einsum("bk,bkd->bd", weights, tokens[some][:, 1:])
            return own

        return {"mean": batched(covered, len(items), tokens.shape[2])}


class Covered:
    """Tokens of parts of larger grids, marked by a last feature that is 1 where a part lies.

    Attributes
    ----------
    shape : tuple of int
        (items, K, D + 1).

    Parameters
    ----------
    tokens : float32 (items, 1 + K, D)
        [CLS] first.
    items : Items
        The parts.
    grid : Boxes
        Of the K tokens.
    """

    def __init__(self, tokens: NDArray[np.float32], items: Items, grid: Boxes) -> None:
        self._tokens, self._items, self._grid = tokens, items, grid
        self.shape = len(tokens), tokens.shape[1] - 1, tokens.shape[2] + 1

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, items: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        some = np.arange(len(self))[items]
        marks = shares(self._items.boxes(some), self._grid).numpy() > 0
        return np.concatenate([self._tokens[some][:, 1:], marks[..., None]], 2, dtype=np.float32)


def batched(
    function: Callable[[NDArray[np.int64]], NDArray[np.float32]], count: int, dim: int
) -> NDArray[np.float32]:
    """Compute features of items (items, D) batch by batch."""
    found = np.zeros((count, dim), np.float32)
    for start in range(0, count, BATCH):
        some = np.arange(start, min(start + BATCH, count))
        found[some] = function(some)
    return found


def shares(parts: Boxes, grid: Boxes) -> Tensor:
    """Return the share of each part that lies in each box of a grid, (B, N) and (K, N) -> (B, K).

    Rows have the sum 1, for parts inside the grid.

    Examples
    --------
    >>> part = Boxes(torch.tensor([[3]]), torch.tensor([[4]]))
    >>> shares(part, grid_boxes((8,), (4,))).tolist()
    [[0.25, 0.75]]
    """
    start, stop = parts.start[:, None], (parts.start + parts.size)[:, None]
    left = torch.maximum(start, grid.start)
    right = torch.minimum(stop, grid.start + grid.size)
    common = (right - left).clamp(min=0).prod(-1).float()
    return common / common.sum(1, keepdim=True).clamp(min=1e-12)
