"""Encoders of timm, with weights in the layouts of their authors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from biopart.nn.encoder import Encoder
from biopart.recipe import Normalisation

WHY = {
    "head": "the head of the pretraining or of a classifier",
    "head_dist": "the head of a classifier",
    "fc_norm": "normalises the pooled vector alone",
    "mask_token": "stands for hidden patches in pretraining",
    "masked_embed": "stands for hidden patches in pretraining",
    "lm_head": "the head of the pretraining",
    "decoder": "the decoder of the pretraining",
    "relative_position_index": "follows from the grid",
}
"""Parts of published files that are not of the encoder."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the weights of a file.

    Attributes
    ----------
    matched : tuple of str
        Names in the encoder that the file has.
    left : dict
        Name in the file -> why it is not needed; "" = not known.
    """

    matched: tuple[str, ...]
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """What became of the weights, for a reader: a line for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, why in self.left.items():
            reasons.setdefault(why or "unknown", []).append(name)
        lines = [f"{len(self.matched)} tensors taken"]
        for why, names in reasons.items():
            more = f" and {len(names) - 3} others" if len(names) > 3 else ""
            lines.append(f"left out, {why}: {', '.join(names[:3])}{more}")
        return lines

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Names in the file of which nothing is known."""
        return tuple(name for name, why in self.left.items() if not why)


class TimmEncoder(Encoder):
    """A transformer of timm on two axes, by its name there.

    Parameters
    ----------
    model : str
        Such as ``vit_small_patch16_224`` or ``beit_base_patch16_224``.
    options : mapping, optional
        Arguments of ``timm.create_model`` beside it.

    Raises
    ------
    ValueError
        If timm has no such model, or it gives no map of patch tokens.
    """

    name = "timm"

    def __init__(self, model: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        import timm  # here, since few encoders are of timm's

        if model not in timm.list_models():
            close = get_close_matches(model, timm.list_models(), n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise ValueError(f"timm has no model {model!r}{hint}")
        self.model, self.options = model, dict(options or {})
        self.trunk: Any = timm.create_model(model, num_classes=0, **self.options)
        if not issubclass(type(self.trunk), plain_transformers()):
            raise ValueError(
                f"{model} of timm is not a plain vision transformer, ViT or BEiT; choose one"
            )
        embed = self.trunk.patch_embed
        self.patch = tuple(embed.patch_size)
        self.shape = tuple(g * p for g, p in zip(embed.grid_size, self.patch, strict=True))
        self.channels, self.dim = embed.proj.in_channels, self.trunk.embed_dim
        self.heads: int = self.trunk.blocks[0].attn.num_heads
        self.position = "none" if getattr(self.trunk, "pos_embed", None) is None else "learned"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that rebuild this encoder, ready for JSON."""
        return {"name": self.name, "model": self.model, "options": self.options}

    @property
    def takes_patches(self) -> bool:
        """False: it takes whole images."""
        return False

    @property
    def has_cls(self) -> bool:
        """Whether the first token is a [CLS]."""
        return getattr(self.trunk, "cls_token", None) is not None

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the stem, then the blocks, then what follows."""
        blocks = [list(block.parameters()) for block in self.trunk.blocks]
        above = (self.trunk.norm, self.trunk.fc_norm)
        after = [parameter for part in above for parameter in part.parameters()]
        known = {id(p) for part in (*blocks, after) for p in part}
        return [[p for p in self.trunk.parameters() if id(p) not in known], *blocks, after]

    def encode(self, values: Tensor) -> Tensor:
        """Encode images (B, C, y, x) -> (B, 1 + K, D), after the final norm.

        [CLS] first, or the mean of the patch tokens where there is none; registers and
        distillation tokens are left out.
        """
        tokens: Tensor = self.trunk.forward_features(values)
        if tokens.dim() == 4:  # of images of another size
            tokens = tokens.flatten(1, 2)
        patches = tokens[:, self.trunk.num_prefix_tokens :]
        first = tokens[:, :1] if self.has_cls else patches.mean(1, keepdim=True)
        return torch.cat([first, patches], 1)

    def forward(
        self,
        patches: Tensor,
        positions: Tensor | None = None,
        context: Tensor | None = None,
        *,
        unknown: Tensor | None = None,
    ) -> Tensor:
        """Refuse: patches alone are not taken (``takes_patches``)."""
        raise ValueError(f"{self.model} of timm takes whole images, not patches; use encode")


def plain_transformers() -> tuple[type, ...]:
    """Return the classes of timm whose features are tokens: those of patches come last."""
    from timm.models.beit import Beit
    from timm.models.vision_transformer import VisionTransformer

    return (VisionTransformer, Beit)


def colours_of(model: str) -> Normalisation:
    """Return how the colours of a model were normalised in its authors' pretraining.

    BEiT and CAE take colours from -1 to 1, the others ImageNet's mean and deviation.
    """
    return "half" if model.startswith("beit") else "imagenet"


def variant(model: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the options of a timm model that weights are of: [CLS], norm, positions, scales.

    Examples
    --------
    >>> variant("vit_small_patch16_224", {"cls_token": Tensor(), "norm.weight": Tensor()})
    {'dynamic_img_size': True}
    >>> variant("beit_base_patch16_224", {"cls_token": Tensor(), "pos_embed": Tensor()})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'global_pool': 'token', 'use_abs_pos_emb': True, 'use_rel_pos_bias': False,
     'use_shared_rel_pos_bias': False, 'init_values': None}
    """
    if model.startswith("beit"):
        own = any(".attn.relative_position_bias_table" in name for name in state)
        pooled = "norm.weight" not in state and "fc_norm.weight" in state  # fine-tuned
        scaled = any(name.endswith("gamma_1") for name in state)
        return {
            "global_pool": "avg" if pooled else "token",
            "use_abs_pos_emb": "pos_embed" in state,
            "use_rel_pos_bias": own,
            "use_shared_rel_pos_bias": "rel_pos_bias.relative_position_bias_table" in state,
            "init_values": 0.1 if scaled else None,
        }
    options: dict[str, Any] = {"dynamic_img_size": True}
    if "cls_token" not in state:
        options |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    if "norm.weight" not in state:
        options |= {"final_norm": False}
    return options


def load_timm(
    model: str, state: Mapping[str, Tensor], *, options: Mapping[str, Any] | None = None
) -> tuple[TimmEncoder, LoadReport]:
    """Build an encoder of timm for weights, and load them.

    Parameters
    ----------
    model : str
        Name in timm.
    state : mapping
        In timm's names, without a prefix, as of ``read_weights``.
    options : mapping, optional
        Arguments of ``timm.create_model`` beside those that the weights tell.

    Raises
    ------
    ValueError
        If shapes differ (name and both shapes), or the encoder has weights that the file lacks.
    """
    encoder = TimmEncoder(model, {**variant(model, state), **(options or {})})
    own = encoder.trunk.state_dict()
    wrong = [
        f"{name} {tuple(value.shape)} and {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    if wrong:
        raise ValueError(
            f"the weights and {model} differ: {'; '.join(wrong[:3])}; choose the model of timm "
            "that they are of"
        )
    absent = [name for name in own if name not in state]
    if absent:
        more = f" and {len(absent) - 3} others" if len(absent) > 3 else ""
        raise ValueError(
            f"the weights lack {', '.join(absent[:3])}{more} of {model}; choose the model of timm "
            "that they are of"
        )
    encoder.trunk.load_state_dict({name: state[name] for name in own})
    left = {name: reason(name) for name in state if name not in own}
    return encoder.eval(), LoadReport(tuple(own), left)


def reason(name: str) -> str:
    """Return why an encoder does not need a tensor of a file; "" if it is not known.

    Examples
    --------
    >>> reason("decoder_blocks.0.norm1.weight"), reason("blocks.99.norm1.weight")
    ('the decoder of the pretraining', '')
    """
    parts: Sequence[str] = name.split(".")
    for part in parts:
        for word, why in WHY.items():
            if part == word or (part.startswith(f"{word}_") and word == "decoder"):
                return why
    return ""
