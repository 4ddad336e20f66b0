"""Embeddings of windows, recordings or images, for other tools."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from joblib import Parallel, delayed
from numpy.typing import NDArray

from biopart.compute import open_fabric
from biopart.data import Source, as_trained, open_cohort
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
SHARE = 64 * BATCH  # items of a store that a process encodes at a time


def embed(
    run: Run,
    what: Path,
    out: Path,
    *,
    patches: bool = False,
    device: str = "auto",
    jobs: int = 1,
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
    jobs : int
        Processes that encode a store; more or fewer inside ``calls_on`` a cluster.

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
    model = Model.load(run)
    if is_store(what):
        count = len(store_source(what, model))
        shares = [range(start, min(start + SHARE, count)) for start in range(0, count, SHARE)]
        there, store = Run(run.path.absolute()), what.absolute()  # workers are in other folders
        parts = Parallel(n_jobs=jobs)(
            delayed(encode_share)(there, store, share, patches=patches, device=device)
            for share in shares
        )
    else:
        items = recording_items(what, model)
        parts = [encode_items(items, on_device(model, device), patches=patches)]
    data = as_dataset(parts, model)
    data.attrs |= {"run": str(run.path), "source": what.name, "recipe": model.about.recipe}
    with whole(out) as beside:
        if table:
            as_table(data).to_parquet(beside, index=False)
        else:
            data.to_zarr(beside, zarr_format=3, consolidated=False)
    return {"file": str(out), "items": data.sizes["item"], "features": data.sizes["feature"]}


Columns = dict[str, list[Any]]
Items = Iterator[tuple[NDArray[Any], Columns]]


@dataclass
class Encoded:
    """Embeddings of some items.

    Attributes
    ----------
    arrays : dict
        ``embedding`` and ``cls`` (item, feature), and with patches ``patch`` (item, patch,
        feature), float32.
    columns : dict
        What is known of each item.
    """

    arrays: dict[str, NDArray[np.float32]]
    columns: Columns


def on_device(model: Model, device: str) -> Model:
    """Return a model on a device: auto, cpu or cuda:N."""
    settings = checked(ComputeSettings, {"device": device, "precision": "float32"}, "--device")
    return model.to(open_fabric(settings).device)


def store_source(path: Path, model: Model) -> Source:
    """Return the items of a store, bad ones included; ValueError where they do not fit."""
    cohort, about, shape = open_cohort(path), model.about, model.encoder.shape
    if len(cohort.shape) == 1:
        check_fit(about, cohort, prepared=bool(about.prepared))
    window_s = cohort.kind.window_s(shape[0], about.sfreq_hz)
    source = cohort.source(about.channels, window_s, keep_bad=True, by_recording=about.by_recording)
    if source.shape != shape:
        raise ValueError(
            f"{path} has {cohort.kind.items} of shape {source.shape}; the encoder takes {shape}"
        )
    return source


def encode_share(run: Run, path: Path, share: range, *, patches: bool, device: str) -> Encoded:
    """Encode some items of a store; a process or a worker of a cluster calls it."""
    model = on_device(Model.load(run), device)
    return encode_items(store_items(path, model, share), model, patches=patches)


def store_items(path: Path, model: Model, share: range) -> Items:
    """Yield items of a store with their columns: person or name, record, label, onset."""
    source, about = store_source(path, model), model.about
    names, recordings = open_cohort(path).records, len(source.shape) == 1
    for start in range(share.start, share.stop, BATCH):
        items = np.arange(start, min(start + BATCH, share.stop))
        batch = source.__getitems__(items)
        columns: Columns = {
            "person" if recordings else "name": batch.person,
            "record": [names[number] for number in source.record[items].tolist()],
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
def encode_items(items: Items, model: Model, *, patches: bool) -> Encoded:
    """Encode items; also keep the tokens of their patches, if ``patches``."""
    parts: list[Encoded] = []
    for values, columns in items:
        tokens = model.tokens(torch.from_numpy(values).to(model.device)).float().cpu().numpy()
        arrays = {"embedding": tokens[:, 1:].mean(1), "cls": tokens[:, 0]}
        parts.append(Encoded(arrays | ({"patch": tokens[:, 1:]} if patches else {}), columns))
    return joined(parts)


def joined(parts: Sequence[Encoded]) -> Encoded:
    """Join embeddings in order."""
    first = parts[0]
    return Encoded(
        {key: np.concatenate([part.arrays[key] for part in parts]) for key in first.arrays},
        {key: [one for part in parts for one in part.columns[key]] for key in first.columns},
    )


def as_dataset(parts: Sequence[Encoded], model: Model) -> xr.Dataset:
    """Return embeddings and columns as one data set of ``item``."""
    encoded = joined(parts)
    data = xr.Dataset()
    for key, array in encoded.arrays.items():
        data[key] = (("item", *(["patch"] if array.ndim == 3 else []), "feature"), array)
    for key, column in encoded.columns.items():
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
