"""Embeddings of windows, recordings or images, for other tools."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from biopart.compute import open_fabric
from biopart.data import as_trained, open_cohort
from biopart.experiment.fitting import check_fit
from biopart.files import whole
from biopart.nn import Model
from biopart.recipe import ComputeSettings
from biopart.run import Run
from biopart.settings import checked
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.store.attributes import is_store
from biopart.verbs.stage import staging_cards, windows_of

BATCH = 256


def embed(
    run: Run, what: Path, out: Path, *, patches: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Write the embeddings of a store or of one recording.

    Parameters
    ----------
    run : Run
        A pretraining, whose encoder gets no positions if it was trained without, or a
        fine-tuning.
    what : Path
        A store prepared like the run's, or a recording.
    out : Path
        A new zarr folder, for ``xarray.open_zarr(out, consolidated=False)``, whose name ends in
        .zarr or has no ending; a name that ends in .parquet gives one table (extra ``parquet``).
    patches : bool
        Also write the tokens of all patches; not in a table.
    device : str
        auto, cpu or cuda:N.

    Returns
    -------
    dict
        ``file`` and its numbers of ``items`` and ``features``.

    Raises
    ------
    FileNotFoundError
        If the run has no weights or ``what`` does not exist.
    ValueError
        If the store does not fit, ``out`` exists or ends otherwise, or patches are to go into a
        table.
    """
    table = out.suffix == ".parquet"
    if out.suffix not in ("", ".zarr", ".parquet"):
        raise ValueError(
            f"--out {out} ends in {out.suffix}; give a name that ends in .zarr or .parquet"
        )
    if out.exists():
        raise ValueError(f"{out} exists already; give another --out or delete it")
    if table and patches:
        raise ValueError("a Parquet table cannot store patches; give a folder as --out")
    if table and importlib.util.find_spec("pyarrow") is None:
        raise ValueError('Parquet needs pyarrow; install it: pip install "biopart[parquet]"')
    settings = checked(ComputeSettings, {"device": device, "precision": "float32"}, "--device")
    model = Model.load(run).to(open_fabric(settings).device)
    items = store_items(what, model) if is_store(what) else recording_items(what, model)
    data = encode_items(items, model, patches=patches)
    data.attrs |= {"run": str(run.path), "source": what.name, "recipe": model.about.recipe}
    with whole(out) as beside:
        if table:
            as_table(data).to_parquet(beside, index=False)
        else:
            data.to_zarr(beside, zarr_format=3, consolidated=False)
    return {"file": str(out), "items": data.sizes["item"], "features": data.sizes["feature"]}


Items = Iterator[tuple[NDArray[Any], dict[str, list[Any]]]]


def store_items(path: Path, model: Model) -> Items:
    """Yield the items of a store with their columns: person, record, label, onset."""
    cohort, about, shape = open_cohort(path), model.about, model.encoder.shape
    recordings = len(cohort.shape) == 1
    if recordings:
        check_fit(about, cohort, prepared=bool(about.prepared))
    window_s = cohort.kind.window_s(shape[0], about.sfreq_hz)
    source = cohort.source(about.channels, window_s, keep_bad=True, by_recording=about.by_recording)
    if source.shape != shape:
        raise ValueError(
            f"{path} has {cohort.kind.items} of shape {source.shape}; the encoder takes {shape}"
        )
    records = [cohort.records[number] for number in source.record.tolist()]
    for start in range(0, len(source), BATCH):
        items = np.arange(start, min(start + BATCH, len(source)))
        batch = source.__getitems__(items)
        columns: dict[str, list[Any]] = {
            "person" if recordings else "name": batch.person,
            "record": [records[item] for item in items.tolist()],
            "label": batch.label.tolist(),
        }
        if recordings:
            columns["onset_s"] = (source.place[items] * float(about.epoch_s or 0)).tolist()
        yield batch.values.numpy(), columns


def recording_items(path: Path, model: Model) -> Items:
    """Yield the windows of a recording, prepared like the run's store."""
    about = model.about
    if about.sfreq_hz is None or about.epoch_s is None or about.card is None:
        raise ValueError(
            f"{path} is not a store; this run's encoder needs one, prepared by its card"
        )
    (card,) = staging_cards(about)
    record = prepare_recording(open_recording(path, card.reading), card)
    epoch = round(about.epoch_s * card.sfreq_hz)
    signal = as_trained(record.signal, about.normalise)
    windows = windows_of(signal, size=model.encoder.shape[0], epoch=epoch)
    for start in range(0, len(windows), BATCH):
        part = windows[start : start + BATCH].copy()
        onsets = (np.arange(start, start + len(part)) * card.epoch_s).tolist()
        count = len(part)
        yield (
            part,
            {"record": [card.name_of(path)] * count, "label": [-1] * count, "onset_s": onsets},
        )


@torch.no_grad()
def encode_items(items: Items, model: Model, *, patches: bool) -> xr.Dataset:
    """Encode items; return their embeddings and columns in one data set."""
    means, heads, tokens = [], [], []
    attributes: dict[str, list[Any]] = {}
    for values, columns in items:
        encoded = model.tokens(torch.from_numpy(values).to(model.device)).float().cpu().numpy()
        heads.append(encoded[:, 0])
        means.append(encoded[:, 1:].mean(1))
        if patches:
            tokens.append(encoded[:, 1:])
        for key, column in columns.items():
            attributes.setdefault(key, []).extend(column)
    data = xr.Dataset(
        {
            "embedding": (("item", "feature"), np.concatenate(means)),
            "cls": (("item", "feature"), np.concatenate(heads)),
        }
    )
    if patches:
        data["patch"] = (("item", "patch", "feature"), np.concatenate(tokens))
    for key, column in attributes.items():
        if isinstance(column[0], str):
            # zarr v3 has no standard type for text: store numbers, and their names as an attribute.
            names = sorted(set(column))
            code = {name: number for number, name in enumerate(names)}
            data[key] = ("item", np.array([code[name] for name in column], np.int32))
            data[key].attrs["names"] = names
        else:
            data[key] = ("item", np.array(column))
    data["label"].attrs["names"] = list(model.about.label_names)
    return data


def as_table(data: xr.Dataset) -> Any:
    """Return one row per item: its columns, and ``f0``, ``f1`` ... of ``embedding``."""
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
