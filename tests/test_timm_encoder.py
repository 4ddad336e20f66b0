"""Weights in the layouts of their authors, against a forward pass written out here."""

import math

import pytest
import torch
from torch.nn import functional as F

from biopart.experiment.weights import read_weights
from biopart.nn import build_encoder
from biopart.nn.timm_encoder import TimmEncoder, load_timm
from biopart.probing.encoders import timm_candidates

DIM, DEPTH, HEADS, SIDE, PATCH = 24, 2, 3, 16, 4
GRID = SIDE // PATCH
SMALL = {
    "img_size": SIDE,
    "patch_size": PATCH,
    "embed_dim": DIM,
    "depth": DEPTH,
    "num_heads": HEADS,
}


def weights(seed=0, *, cls=True, norm=True, beit=False, table=None, scaled=False, absolute=True):
    """Return random weights of a small transformer in timm's names."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 0.2 * torch.randn(*shape, generator=generator)

    state = {
        "patch_embed.proj.weight": draw(DIM, 3, PATCH, PATCH),
        "patch_embed.proj.bias": draw(DIM),
    }
    if cls:
        state["cls_token"] = draw(1, 1, DIM)
    if absolute:
        state["pos_embed"] = draw(1, GRID**2 + cls, DIM)
    entries = (2 * GRID - 1) ** 2 + 3
    for k in range(DEPTH):
        block = {
            "norm1.weight": 1 + draw(DIM),
            "norm1.bias": draw(DIM),
            "attn.qkv.weight": draw(3 * DIM, DIM),
            "attn.proj.weight": draw(DIM, DIM),
            "attn.proj.bias": draw(DIM),
            "norm2.weight": 1 + draw(DIM),
            "norm2.bias": draw(DIM),
            "mlp.fc1.weight": draw(4 * DIM, DIM),
            "mlp.fc1.bias": draw(4 * DIM),
            "mlp.fc2.weight": draw(DIM, 4 * DIM),
            "mlp.fc2.bias": draw(DIM),
        }
        if beit:
            block |= {"attn.q_bias": draw(DIM), "attn.v_bias": draw(DIM)}
        else:
            block["attn.qkv.bias"] = draw(3 * DIM)
        if scaled:
            block |= {"gamma_1": draw(DIM), "gamma_2": draw(DIM)}
        if table == "own":
            block["attn.relative_position_bias_table"] = draw(entries, HEADS)
        state |= {f"blocks.{k}.{name}": value for name, value in block.items()}
    if table == "shared":
        state["rel_pos_bias.relative_position_bias_table"] = draw(entries, HEADS)
    if norm:
        state |= {"norm.weight": 1 + draw(DIM), "norm.bias": draw(DIM)}
    return state


def relative_bias(table):
    """Return BEiT's bias (heads, 1 + K, 1 + K): row of a pair by its offset, three for [CLS]."""
    places = [(y, x) for y in range(GRID) for x in range(GRID)]
    side, n = 2 * GRID - 1, GRID**2
    rows = torch.empty(n + 1, n + 1, dtype=torch.long)
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            rows[i + 1, j + 1] = (y - v + GRID - 1) * side + (x - u + GRID - 1)
    rows[0, :], rows[:, 0], rows[0, 0] = side**2, side**2 + 1, side**2 + 2
    return table[rows].permute(2, 0, 1)


def reference(state, values):
    """Encode images by the formulas alone, (B, 1 + K, D)."""

    def norm(tokens, name):
        return F.layer_norm(tokens, (DIM,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    stem = "patch_embed.proj"
    tokens = F.conv2d(values, state[f"{stem}.weight"], state[f"{stem}.bias"], stride=PATCH)
    tokens = tokens.flatten(2).transpose(1, 2)
    if "cls_token" in state:
        tokens = torch.cat([state["cls_token"].expand(len(values), -1, -1), tokens], 1)
    tokens = tokens + state.get("pos_embed", 0)
    for k in range(DEPTH):
        block = {n.removeprefix(f"blocks.{k}."): v for n, v in state.items() if f"s.{k}." in n}
        bias = block.get("attn.qkv.bias")
        if bias is None:
            bias = torch.cat([block["attn.q_bias"], torch.zeros(DIM), block["attn.v_bias"]])
        inner = F.linear(norm(tokens, f"blocks.{k}.norm1"), block["attn.qkv.weight"], bias)
        q, key, v = inner.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ key.transpose(-1, -2) / math.sqrt(DIM // HEADS)
        table = block.get("attn.relative_position_bias_table")
        table = state.get("rel_pos_bias.relative_position_bias_table", table)
        scores = scores if table is None else scores + relative_bias(table)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        mixed = F.linear(mixed, block["attn.proj.weight"], block["attn.proj.bias"])
        tokens = tokens + block.get("gamma_1", 1) * mixed
        hidden = norm(tokens, f"blocks.{k}.norm2")
        hidden = F.gelu(F.linear(hidden, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
        hidden = F.linear(hidden, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        tokens = tokens + block.get("gamma_2", 1) * hidden
    if "norm.weight" in state:
        tokens = norm(tokens, "norm")
    if "cls_token" not in state:
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
    return tokens


def named(prefix, state):
    return {prefix + name: value for name, value in state.items()}


PLAIN = weights()
BARE = weights(cls=False, norm=False)  # SelfPatch
BEIT = weights(beit=True, table="shared", scaled=True, absolute=False)
BEIT_TUNED = {  # pools the mean, which fc_norm normalises; tokens have no norm
    **weights(beit=True, table="own", scaled=True, absolute=False, norm=False),
    "fc_norm.weight": torch.ones(DIM),
    "fc_norm.bias": torch.zeros(DIM),
}
CAE = weights(beit=True, scaled=True)
OTHER = torch.zeros(3)
HEAD = {"head.weight": OTHER, "head.bias": OTHER}
# What a file holds, what of it is the encoder, what is left in it that an encoder does not need.
LAYOUTS = {
    "deit": ({"model": {**PLAIN, **HEAD}}, PLAIN, "vit", ()),
    "moco v3": (
        {
            "epoch": 300,
            "state_dict": {
                **named("module.base_encoder.", {**PLAIN, "head.0.weight": OTHER}),
                **named("module.momentum_encoder.", weights(1)),
                "module.predictor.0.weight": OTHER,
            },
        },
        PLAIN,
        "vit",
        (),
    ),
    "dino": (
        {
            "student": named("module.backbone.", weights(1)),
            "teacher": {**named("backbone.", PLAIN), "head.mlp.0.weight": OTHER},
        },
        PLAIN,
        "vit",
        (),
    ),
    "mae": (
        {"model": {**PLAIN, "mask_token": OTHER, "decoder_blocks.0.norm1.weight": OTHER}},
        PLAIN,
        "vit",
        ("mask_token", "decoder_blocks.0.norm1.weight"),
    ),
    "ibot": (
        {"teacher": {**named("backbone.", {**PLAIN, "masked_embed": OTHER}), "head.last": OTHER}},
        PLAIN,
        "vit",
        ("masked_embed",),
    ),
    "selfpatch": (
        {"teacher": {**named("module.backbone.", BARE), "module.head.cls_token": OTHER}},
        BARE,
        "vit",
        (),
    ),
    "beit": (
        {
            "model": {
                **BEIT,
                "mask_token": OTHER,
                "lm_head.weight": OTHER,
                "rel_pos_bias.relative_position_index": OTHER.long(),
            }
        },
        BEIT,
        "beit",
        ("mask_token", "lm_head.weight", "rel_pos_bias.relative_position_index"),
    ),
    "beit, fine-tuned": ({"model": {**BEIT_TUNED, **HEAD}}, BEIT_TUNED, "beit", ()),
    "cae, its first code": (
        {
            "model": {
                **named("encoder.", CAE),
                **named("alignment_encoder.", weights(1, beit=True, scaled=True)),
            }
        },
        CAE,
        "beit",
        (),
    ),
    "cae": (
        {
            "model": {
                **named("encoder.", CAE),
                **named("teacher.", weights(1, beit=True, scaled=True)),
                "regresser.norm.weight": OTHER,
                "mask_token": OTHER,
            }
        },
        CAE,
        "beit",
        (),
    ),
}
MODELS = {"vit": "vit_small_patch16_224", "beit": "beit_base_patch16_224"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_the_authors_give_what_their_formulas_give(layout, tmp_path):
    content, state, kind, left = LAYOUTS[layout]
    torch.save(content, tmp_path / "weights.pth")
    read = read_weights(str(tmp_path / "weights.pth"))
    encoder, taken = load_timm(MODELS[kind], read.state, options=SMALL)
    assert set(taken.matched) == set(state)
    assert tuple(taken.left) == left
    assert taken.unexplained == ()
    values = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.encode(values), reference(state, values), atol=1e-5, rtol=1e-4
        )
    assert encoder.has_cls == ("cls_token" in state)
    again = build_encoder(encoder.arguments)
    again.load_state_dict(encoder.state_dict())
    assert encoder.arguments["options"] == again.arguments["options"]
    assert sum(map(len, encoder.layers())) == len(list(encoder.parameters()))


def test_weights_of_another_shape_are_named_with_both_and_missing_ones_too():
    state = {**PLAIN, "blocks.0.attn.proj.bias": torch.zeros(7)}
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.proj\.bias \(7,\) and \(24,\)"):
        load_timm(MODELS["vit"], state, options=SMALL)
    state = {k: v for k, v in PLAIN.items() if "fc2" not in k}
    with pytest.raises(ValueError, match=r"lack blocks\.0\.mlp\.fc2\.weight.* and 1 others"):
        load_timm(MODELS["vit"], state, options=SMALL)
    _, taken = load_timm(MODELS["vit"], {**PLAIN, "blocks.9.x": torch.zeros(1)}, options=SMALL)
    assert taken.unexplained == ("blocks.9.x",)
    assert taken.lines[1] == "left out, unknown: blocks.9.x"


def test_models_that_are_not_vision_transformers_or_unknown_are_refused(tmp_path):
    with pytest.raises(ValueError, match="timm has no model 'vit_smal'; did you mean"):
        TimmEncoder("vit_smal")
    for other in ("resnet18", "cait_xxs24_224", "samvit_base_patch16_224"):
        with pytest.raises(ValueError, match=f"{other} of timm is not a plain vision transformer"):
            TimmEncoder(other)
    encoder = TimmEncoder(MODELS["vit"], SMALL)
    with pytest.raises(ValueError, match="takes whole images, not patches"):
        encoder(torch.zeros(1, 16, 3, 4, 4))
    with pytest.raises(ValueError, match=r"each timm:NAME, in order \(names: 1, files: 0\)"):
        timm_candidates(["timm:vit_small_patch16_224"], [])


def test_colours_and_heads_are_those_of_the_authors_or_as_given(tmp_path):
    small = ",".join(f"{key}={value}" for key, value in SMALL.items())
    torch.save(PLAIN, tmp_path / "plain.pth")
    torch.save(BEIT, tmp_path / "beit.pth")
    names = [f"timm:{MODELS[kind]},{small}" for kind in ("vit", "beit")]
    plain, beit = timm_candidates(names, [tmp_path / "plain.pth", tmp_path / "beit.pth"])
    assert (plain.model.about.normalise, beit.model.about.normalise) == ("imagenet", "half")
    assert "plain.pth: 3 attention heads, which no shape tells" in plain.notes
    grey = torch.full((1, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    torch.testing.assert_close(beit.model.normalise(grey), torch.ones(1, 3, SIDE, SIDE))
    other = timm_candidates(
        [f"{names[0]},num_heads=6,normalise=half".replace("num_heads=3,", "")],
        [tmp_path / "plain.pth"],
    )[0]
    assert (other.model.encoder.heads, other.model.about.normalise) == (6, "half")


def test_registers_and_distillation_tokens_are_left_out():
    options = {**SMALL, "reg_tokens": 4}
    encoder = TimmEncoder(MODELS["vit"], options).eval()
    values = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        tokens, own = encoder.trunk.forward_features(values), encoder.encode(values)
    assert tokens.shape[1] == 1 + 4 + GRID**2
    torch.testing.assert_close(own[:, 0], tokens[:, 0])
    torch.testing.assert_close(own[:, 1:], tokens[:, 5:])
