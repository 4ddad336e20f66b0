"""Tokens of items by a frozen encoder, computed once and kept in files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopart.data.items import Items
from biopart.files import whole
from biopart.grid import Boxes, grid_boxes
from biopart.nn import Model

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
        shape, patch = self.model.encoder.shape, self.model.encoder.patch

        def covered(some: NDArray[np.int64]) -> NDArray[np.float32]:
            weights = shares(items.boxes(some), grid_boxes(shape, patch)).numpy()
            own: NDArray[np.float32] = np.einsum("bk,bkd->bd", weights, tokens[some][:, 1:])
            return own

        return {"mean": batched(covered, len(items), tokens.shape[2])}


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
