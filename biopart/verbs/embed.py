"""What an encoder makes of windows, recordings or images, for other tools."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from biopart.compute import open_fabric
from biopart.data import Source, open_cohort
from biopart.files import whole
from biopart.grid import patchify
from biopart.nn import Encoder, Normalise
from biopart.nn.weights import load_encoder, load_model, load_tensors
from biopart.recipe import ComputeSettings
from biopart.run import Run
from biopart.settings import checked
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.store.attributes import is_store
from biopart.verbs.evaluate import check_fit
from biopart.verbs.inference import windows_of
from biopart.verbs.pretrain import stored_recipe
from biopart.verbs.stage import staging_cards

BATCH = 256


def embed(
    run: Run, what: Path, out: Path, *, patches: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Write the embeddings of a store or of one recording.

    Parameters
    ----------
    run : Run
        A pretraining, whose encoder is taken without positions where it was trained so, or a
        fine-tuning.
    what : Path
        A store, prepared as the run's was, or a recording.
    out : Path
        A new zarr folder, for ``xarray.open_zarr(out, consolidated=False)``; a name that ends in
        .parquet becomes one table (extra ``parquet``).
    patches : bool
        The tokens of all patches too; not in a table.
    device : str
        auto, cpu or cuda:N.

    Returns
    -------
    dict
        ``file`` and what is in it: ``items``, ``features``.

    Raises
    ------
    FileNotFoundError
        If the run has no weights or there is nothing to embed.
    ValueError
        If the store does not fit, ``out`` is there, or a table is asked for patches.
    """
    table = out.suffix == ".parquet"
    if out.exists():
        raise ValueError(f"{out} is there already; give another --out or remove it")
    if table and patches:
        raise ValueError("a table has no room for patches; give a folder by --out")
    if table and importlib.util.find_spec("pyarrow") is None:
        raise ValueError('Parquet needs pyarrow; install it: pip install "biopart[parquet]"')
    encode, about = encoder_of(run, device)
    items = of_store(what, about) if is_store(what) else of_recording(what, about)
    data = collected(items, encode, about, patches=patches)
    data.attrs |= {"run": str(run.path), "source": what.name, "recipe": about["recipe"]}
    with whole(out) as beside:
        if table:
            as_table(data).to_parquet(beside, index=False)
        else:
            data.to_zarr(beside, zarr_format=3, consolidated=False)
    return {"file": str(out), "items": data.sizes["item"], "features": data.sizes["feature"]}


Encode = Callable[[NDArray[Any]], NDArray[np.float32]]
Items = Iterator[tuple[NDArray[Any], dict[str, list[Any]]]]


def encoder_of(run: Run, device: str) -> tuple[Encode, dict[str, Any]]:
    """Return a function from stored values (B, C, *S) to tokens (B, 1 + K, D), [CLS] first."""
    settings = checked(ComputeSettings, {"device": device, "precision": "float32"}, "--device")
    fabric = open_fabric(settings)
    hinted = True
    if run.model.is_file():
        model, about = load_model(run.model)
        single: Any = getattr(model, "classifier", model)
        encoder: Encoder = single.encoder
    else:
        origin = run.pretrained()
        if not origin.encoder.is_file():
            raise FileNotFoundError(f"{origin.path} has no weights yet; finish it first")
        encoder, (_, about) = load_encoder(origin.encoder), load_tensors(origin.encoder)
        hinted = stored_recipe(origin).pretrain.objective.uses_positions
    encoder, prepare = encoder.to(fabric.device).eval(), Normalise(about["normalise"])

    @torch.no_grad()
    def encode(values: NDArray[Any]) -> NDArray[np.float32]:
        patches = patchify(prepare(torch.from_numpy(values).to(fabric.device)), encoder.patch)
        positions: Tensor | None = None
        if not hinted and encoder.position != "none":
            shape = (*patches.shape[:2], len(encoder.patch))
            positions = torch.full(shape, torch.nan, device=fabric.device)
        tokens: NDArray[np.float32] = encoder(patches, positions).float().cpu().numpy()
        return tokens

    return encode, about


def of_store(path: Path, about: dict[str, Any]) -> Items:
    """Yield the items of a store with what is known of them."""
    cohort = open_cohort(path)
    images = cohort.holds_images
    if not images:
        check_fit({"prepared": {}, **about}, cohort)
    window_s = None if images else about["encoder"]["shape"][0] / cohort.sfreq_hz
    source: Source = cohort.source(about["channels"], window_s, keep_bad=True)
    if source.shape != tuple(about["encoder"]["shape"]):
        raise ValueError(
            f"{path} has images of {source.shape}; the encoder takes {about['encoder']['shape']}"
        )
    epoch_s = 0.0 if images else float(cohort.attributes["epoch_s"])
    records = [cohort.records[number] for number in source.record.tolist()]
    for start in range(0, len(source), BATCH):
        items = np.arange(start, min(start + BATCH, len(source)))
        batch = source.__getitems__(items)
        told: dict[str, list[Any]] = {
            "name" if images else "person": batch.person,
            "record": [records[item] for item in items.tolist()],
            "label": batch.label.tolist(),
        }
        if not images:
            told["onset_s"] = (source.place[items] * epoch_s).tolist()
        yield batch.values.numpy(), told


def of_recording(path: Path, about: dict[str, Any]) -> Items:
    """Yield the windows of a recording, prepared as the run's store was."""
    if about.get("sfreq_hz") is None or "card" not in about:
        raise ValueError(f"{path} is no store; this run's encoder needs one, prepared by its card")
    recording, (card,) = open_recording(path), staging_cards(about)
    record = prepare_recording(recording, card)
    epoch = round(about["epoch_s"] * card.sfreq_hz)
    windows = windows_of(record.signal, size=about["encoder"]["shape"][0], epoch=epoch)
    for start in range(0, len(windows), BATCH):
        part = windows[start : start + BATCH].copy()
        onsets = (np.arange(start, start + len(part)) * card.epoch_s).tolist()
        count = len(part)
        yield (
            part,
            {"record": [path.stem] * count, "label": [-1] * count, "onset_s": onsets},
        )


def collected(items: Items, encode: Encode, about: dict[str, Any], *, patches: bool) -> xr.Dataset:
    """Encode items, and put embeddings and what is known of each side by side."""
    means, heads, tokens = [], [], []
    known: dict[str, list[Any]] = {}
    for values, told in items:
        found = encode(values)
        heads.append(found[:, 0])
        means.append(found[:, 1:].mean(1))
        if patches:
            tokens.append(found[:, 1:])
        for key, column in told.items():
            known.setdefault(key, []).extend(column)
    data = xr.Dataset(
        {
            "embedding": (("item", "feature"), np.concatenate(means)),
            "cls": (("item", "feature"), np.concatenate(heads)),
        }
    )
    if patches:
        data["patch"] = (("item", "patch", "feature"), np.concatenate(tokens))
    for key, column in known.items():
        if isinstance(column[0], str):
            # zarr v3 has no settled type for text: numbers of the names in the attribute.
            names = sorted(set(column))
            code = {name: number for number, name in enumerate(names)}
            data[key] = ("item", np.array([code[one] for one in column], np.int32))
            data[key].attrs["names"] = names
        else:
            data[key] = ("item", np.array(column))
    data["label"].attrs["names"] = list(about["label_names"])
    return data


def as_table(data: xr.Dataset) -> Any:
    """Return one row per item: what is known of it, and ``f0``, ``f1`` ... of ``embedding``."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for key in data.data_vars:
        if data[key].dims == ("item",):
            names: list[str] = data[key].attrs.get("names", [])
            codes = data[key].values
            text = names and key != "label"
            columns[str(key)] = [names[code] for code in codes] if text else codes
    features = {f"f{n}": column for n, column in enumerate(data["embedding"].values.T)}
    return pd.DataFrame(columns | features)
