"""How the authors of each method fine-tune what it pretrained."""

from dataclasses import dataclass

from biopart.recipe.words import Pool, Position

HEAD_STD = 0.01
"""Deviation of the weights that a linear layer starts with, where a method does not say."""


@dataclass(frozen=True)
class Protocol:
    """Settings of fine-tuning that belong to a method; the defaults are those of DeiT.

    One protocol for all methods would take away what some of them rely on.

    Attributes
    ----------
    position : "learned", "sincos" or "none"
        Positions of the encoder.
    keep_positions : bool
        Start from those of the pretraining.
    pool : "cls" or "mean"
        What is classified.
    betas : (float, float)
        Of AdamW.
    layer_decay : float
        Factor of the rate per layer from the top.
    head_std : float
        Deviation of the weights that the linear layer starts with.
    """

    position: Position = "learned"
    keep_positions: bool = False
    pool: Pool = "cls"
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 1.0
    head_std: float = HEAD_STD


SUPERVISED = Protocol()
"""Training from scratch, as DeiT (arXiv 2012.12877)."""

KEPT = Protocol(keep_positions=True)
"""Fine-tuning of methods with a teacher: DeiT's, from the positions of the pretraining (DINO)."""

MASKED = Protocol(
    position="learned", keep_positions=True, pool="mean", layer_decay=0.75, head_std=2e-5
)
"""MAE's fine-tuning (facebookresearch/mae, ``main_finetune.py``), which DropPos takes over.

The table of sines and cosines is where its positions start from; they are trained like all weights.
"""
