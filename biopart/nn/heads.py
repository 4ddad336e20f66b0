"""Heads of methods that compare views: DINO's, and the projectors of BYOL and MoBY."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biopart.nn.batch_norm import BatchNorm


class DinoHead(nn.Module):
    """Three layers, a unit vector, and its similarities to prototypes of unit length.

    DINO (arXiv 2104.14294; facebookresearch/dino, ``DINOHead`` without batch normalisation): GELU
    between the layers, their weights from N(0, 0.02), rows of the last one normalised to length 1.

    Parameters
    ----------
    dim, hidden, bottleneck, prototypes : int
        Features of a token, of the hidden layers, of the unit vector, and outputs.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.last = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.kaiming_uniform_(self.last, a=5**0.5)  # torch's own, as in the released code

    def forward(self, tokens: Tensor, *, frozen: bool = False) -> Tensor:
        """Return logits (..., prototypes) of tokens (..., D); ``frozen`` holds the last layer."""
        unit = F.normalize(self.mlp(tokens).float(), dim=-1)
        last = F.normalize(self.last, dim=-1)
        if frozen:  # a gradient of zero, not none: all processes expect one
            last = last.detach() + 0 * last
        return F.linear(unit, last)


def projector(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Return BYOL's projector or predictor: Linear, batch normalisation, ReLU, Linear.

    BYOL (arXiv 2006.07733, section 3.3): 4096 hidden and 256 output features.
    """
    return nn.Sequential(
        nn.Linear(dim, hidden),
        BatchNorm(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


def everywhere(head: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Apply a head of rows to every token, (B, K, D) -> (B, K, out), as a 1 x 1 convolution."""
    result = head(tokens.flatten(0, 1))
    return result.view(*tokens.shape[:2], -1)
