"""Export the weights of a run: safetensors, timm, ONNX, Hugging Face hub."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from biopart.files import whole, write_json, write_text
from biopart.nn import Model
from biopart.nn.hub import HubModel
from biopart.nn.normalise import IMAGENET
from biopart.nn.weights import save_tensors
from biopart.run import Run

Target = Literal["safetensors", "timm", "onnx", "hub"]
TOLERANCE = 1e-4  # of ONNX Runtime's output against ours, relative to the largest value
_NOTICE = "Made by biopart. For research; not a medical device."


def export(run: Run, to: Target, out: Path) -> dict[str, Any]:
    """Export the weights of a run to another tool.

    Parameters
    ----------
    run : Run
        A pretraining, whose encoder is exported, or a fine-tuning, whose classifier is exported.
    to : str
        "safetensors": a folder with the weights and the model's arguments. "timm": a folder that
        ``timm.create_model("local-dir:FOLDER", pretrained=True)`` opens; two axes only. "onnx": a
        file with a free batch size, normalisation included. "hub": a folder that
        ``biopart.nn.hub.HubModel.from_pretrained`` opens.
    out : Path
        New folder or file.

    Returns
    -------
    dict
        ``files``, and for ONNX the largest ``difference`` from our own output.

    Raises
    ------
    FileNotFoundError
        If the run has no weights yet.
    ValueError
        If the encoder is not of images and the target is timm, the extra ``onnx`` is not installed,
        ONNX Runtime gives another result, or ``out`` exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists already; give another --out or delete it")
    model = Model.load(run)
    if model.context > 1 and to != "safetensors":
        raise ValueError(
            f"{run.path} classifies from {model.context} windows at once, which --to {to} does not "
            "support; use --to safetensors, or export the fine-tuning without context"
        )
    with whole(out) as beside:
        extra = _write(to, model, beside)
        files = [beside] if beside.is_file() else sorted(beside.iterdir())
    if model.about.by_recording:
        remark = (
            "the model expects values normalised by the median and interquartile range of their "
            "whole recording; biopart.data.deviations computes them"
        )
        extra["notes"] = [*extra.get("notes", []), remark]
    return {"files": [str(out / f.relative_to(beside)) for f in files], **extra}


def _write(to: Target, model: Model, out: Path) -> dict[str, Any]:
    """Write an export and return a summary of it."""
    if to == "timm":
        return _to_timm(model, out)
    if to == "safetensors":
        out.mkdir(parents=True)
        model.save(out / "model.safetensors")
        write_json(out / "config.json", {**model.about.to_json(), **model.structure})
        return {}
    whole_model = hub_model(model)
    if to == "onnx":
        return _to_onnx(whole_model, out)
    whole_model.save_pretrained(out)
    write_text(out / "README.md", card(model))
    return {}


def hub_model(model: Model) -> HubModel:
    """Return the model in the layout of the hub."""
    made = HubModel(
        model.encoder.arguments,
        model.about.normalise,
        classes=model.classes,
        pool="cls" if model.single is None else model.single.pool,
        channels=model.about.channels,
        sfreq_hz=model.about.sfreq_hz,
    )
    made.net.load_state_dict(model.net.state_dict())
    return made.eval()


def check_timm(encoder: Mapping[str, Any]) -> None:
    """Refuse an encoder that timm's ViT cannot take over, given by its arguments; ValueError."""
    others = "use --to safetensors, hub or onnx"
    if len(encoder["shape"]) != 2:
        raise ValueError(
            f"timm's ViT takes images; this encoder takes items of {tuple(encoder['shape'])}, so "
            f"{others}"
        )
    if encoder["name"] != "vit":
        raise ValueError(f"timm has no encoder {encoder['name']} with these kernels; {others}")
    if not encoder["cls"] or not encoder["final_norm"]:
        raise ValueError(
            f"timm's ViT has [CLS] and a final norm, and this encoder lacks one of them; {others}"
        )


def _to_timm(model: Model, out: Path) -> dict[str, Any]:
    """Write timm's own folder: config.json and model.safetensors."""
    encoder, about, classes = model.encoder.arguments, model.about, list(model.classes)
    check_timm(encoder)
    state = {k.removeprefix("encoder."): value for k, value in model.net.state_dict().items()}
    for kind in ("weight", "bias"):
        if classes:
            state[f"head.{kind}"] = state.pop(f"final_layer.{kind}")
    channels, scale = encoder["channels"], 1 / 255 if about.normalise == "none" else 1.0
    mean, deviation = IMAGENET  # of values from 0 to 1, as timm's transforms give them
    if about.normalise != "imagenet":
        mean, deviation = (0.0,) * channels, (scale,) * channels
    arguments = {
        "img_size": encoder["shape"],
        "patch_size": encoder["patch"],
        "in_chans": encoder["channels"],
        "embed_dim": encoder["dim"],
        "depth": encoder["depth"],
        "num_heads": encoder["heads"],
        "mlp_ratio": encoder["mlp_ratio"],
        "global_pool": {"cls": "token", "mean": "avg"}[model.structure.get("pool", "cls")],
        "fc_norm": False,  # the norm comes before the mean, as in ours
    }
    relative = encoder["position"] == "relative"
    if relative:
        arguments |= {"class_token": True, "rel_pos_type": "bias"}
        arguments |= {"qkv_bias": True, "init_values": 0}  # not 1e-6: no layer scale
    else:
        arguments["pos_embed"] = "none" if encoder["position"] == "none" else "learn"
    config = {
        "architecture": f"vit{'_relpos' if relative else ''}_base_patch16_224",
        "num_classes": len(classes),
        "num_features": encoder["dim"],
        "global_pool": arguments["global_pool"],
        "model_args": arguments,
        "label_names": classes,
        "pretrained_cfg": {
            "input_size": [encoder["channels"], *encoder["shape"]],
            "fixed_input_size": True,
            "mean": mean,
            "std": deviation,
            "num_classes": len(classes),
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": None,
        },
        "biopart": {**about.to_json(), **model.structure},
    }
    out.mkdir(parents=True)
    save_tensors(out / "model.safetensors", state, config["biopart"])
    write_json(out / "config.json", config)
    note = []
    if about.normalise == "window":
        note = ["each image was normalised by its own mean and deviation, which timm does not do"]
    return {"notes": note}


def _to_onnx(model: HubModel, out: Path) -> dict[str, Any]:
    """Write one ONNX file with a free batch size; compare ONNX Runtime's output with ours."""
    absent = [m for m in ("onnx", "onnxruntime", "onnxscript") if not importlib.util.find_spec(m)]
    if absent:
        raise ValueError(
            f'ONNX needs {", ".join(absent)}; install the extra: pip install "biopart[onnx]"'
        )
    import onnxruntime

    encoder = model.encoder
    shape = (encoder.channels, *encoder.shape)
    generator = torch.Generator().manual_seed(0)
    values = 40 * torch.randn(2, *shape, generator=generator)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        (values,),
        out,
        input_names=["values"],
        output_names=["logits" if model.classes else "tokens"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    difference = 0.0
    for count in (1, 3):
        inputs = 40 * torch.randn(count, *shape, generator=generator)
        inputs[0, 0].flatten()[:5] = torch.nan
        with torch.no_grad():
            expected = model(inputs).numpy()
        (actual,) = session.run(None, {"values": inputs.numpy()})
        scale = max(float(np.abs(expected).max()), 1.0)
        difference = max(difference, float(np.abs(actual - expected).max()) / scale)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"ONNX Runtime differs from PyTorch by {difference:.2g} of the largest value, more "
            f"than {TOLERANCE:g}, so nothing was written; report it with the versions of both"
        )
    return {"difference": difference}


def card(model: Model) -> str:
    """Write a model card: training data, inputs and outputs."""
    about, encoder, classes = model.about, model.encoder.arguments, model.classes
    shape = (encoder["channels"], *encoder["shape"])
    gives = f"logits of {', '.join(classes)}" if classes else "tokens, [CLS] first"
    rate = f" at {about.sfreq_hz:g} Hz" if about.sfreq_hz else ""
    simulated = "\n**Trained on simulated recordings: only for trying the software.**\n"
    normalises = f"normalises by itself ({about.normalise})"
    if about.by_recording:
        normalises = "in deviations of their recording from its median (`biopart.data.deviations`)"
    return f"""---
library_name: biopart
tags: [self-supervised-learning, vision-transformer]
---

# {about.recipe}
{simulated if about.simulated else ""}
{_NOTICE}

- takes values (batch, {", ".join(map(str, shape))}){rate}, channels
  {", ".join(about.channels)}; {normalises}
- gives {gives}
- encoder {encoder["name"]} of width {model.encoder.dim}, patches of {encoder["patch"]}
- {about.seen.count} {about.kind.units} were used in training; `biopart evaluate` refuses them

```python
from biopart.nn.hub import HubModel

model = HubModel.from_pretrained("FOLDER")
```

How the data were prepared: `{json.dumps(about.prepared)}`
"""
