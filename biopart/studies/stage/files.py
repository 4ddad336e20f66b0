"""The files that a staged night becomes."""

import csv
import io
from datetime import datetime
from pathlib import Path
from typing import Any

import edfio
import xarray as xr

from biopart.run import write_json, write_text
from biopart.signals.hypnogram import stage_text


def write_files(
    night: xr.Dataset,
    statistics: dict[str, Any],
    folder: Path,
    *,
    quality: xr.Dataset | None = None,
) -> list[Path]:
    """Write ``hypnogram.csv``, ``hypnogram.edf`` and ``summary.json`` of a night into a folder.

    With the quality of every patch ``quality.csv`` too.
    """
    paths = [folder / name for name in ("hypnogram.csv", "hypnogram.edf", "summary.json")]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(paths[0], as_csv(night))
    write_edf(night, paths[1])
    write_json(paths[2], statistics)
    if quality is not None:
        paths.append(folder / "quality.csv")
        write_text(paths[-1], quality.to_dataframe().to_csv(index=False, float_format="%.4g"))
    return paths


def as_csv(night: xr.Dataset) -> str:
    """Return a row per epoch: number, onset, stage, confidence, probability of each stage."""
    names = [str(name) for name in night["class"].values]
    probability = night["probability"].values
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "onset_s", "stage", "confidence", *(f"p_{name}" for name in names)])
    for epoch, (onset_s, code) in enumerate(
        zip(night["onset_s"].values, night["hypnogram"].values, strict=True)
    ):
        shares = [f"{share:.4f}" for share in probability[epoch]]
        confidence = f"{probability[epoch].max():.4f}"
        writer.writerow([epoch, f"{onset_s:g}", names[code], confidence, *shares])
    return text.getvalue()


def write_edf(night: xr.Dataset, path: Path) -> None:
    """Write the stages as annotations of an EDF+ file, whole or not at all.

    Texts are EDF+'s own, ``Sleep stage N2``; the file names nobody.
    """
    names = [str(name) for name in night["class"].values]
    notes = [
        edfio.EdfAnnotation(float(onset_s), float(night.attrs["epoch_s"]), stage_text(names[code]))
        for onset_s, code in zip(night["onset_s"].values, night["hypnogram"].values, strict=True)
    ]
    start = datetime.fromisoformat(night.attrs["start"]) if night.attrs["start"] else None
    recording = None if start is None else edfio.Recording(startdate=start.date())
    clock = None if start is None else start.time()
    beside = path.with_name(f".{path.name}.part")
    edfio.Edf([], recording=recording, starttime=clock, annotations=notes).write(beside)
    beside.replace(path)
