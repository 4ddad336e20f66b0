"""Write the result files of a staged night."""

import csv
import io
from datetime import date, datetime
from pathlib import Path
from typing import Any

import edfio
import xarray as xr

from biopart.codes import EDF_UNSCORED, edf_text
from biopart.files import whole, write_json, write_text
from biopart.signals.clock import read_start


def write_files(
    night: xr.Dataset,
    statistics: dict[str, Any],
    folder: Path,
    *,
    quality: xr.Dataset | None = None,
) -> list[Path]:
    """Write ``hypnogram.csv``, ``hypnogram.edf`` and ``summary.json`` of a night into a folder.

    If the quality of every patch is given, also ``quality.csv``.
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
    """Return a row per epoch: number, onset, stage, confidence, bad, probability of each stage.

    ``bad`` is 1 if the epoch is flat, clipped or missing: its stage is meaningless.
    """
    names = [str(name) for name in night["class"].values]
    probability = night["probability"].values
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["epoch", "onset_s", "stage", "confidence", "bad"]
    writer.writerow([*columns, *(f"p_{name}" for name in names)])
    bad = night["bad"].values
    for epoch, (onset_s, code) in enumerate(
        zip(night["onset_s"].values, night["hypnogram"].values, strict=True)
    ):
        shares = [f"{share:.4f}" for share in probability[epoch]]
        confidence = f"{probability[epoch].max():.4f}"
        writer.writerow([epoch, f"{onset_s:g}", names[code], confidence, int(bad[epoch]), *shares])
    return text.getvalue()


def write_edf(night: xr.Dataset, path: Path) -> None:
    """Write the stages as annotations of an EDF+ file, which is complete or absent.

    Texts are EDF+'s own, ``Sleep stage N2``, for bad epochs ``Sleep stage ?``; the file contains
    no name. A date that EDF+ cannot state, before 1985 or after 2084, becomes 1 January 1985.
    """
    names = [str(name) for name in night["class"].values]
    length = float(night.attrs["epoch_s"])
    rows = zip(night["onset_s"].values, night["hypnogram"].values, night["bad"].values, strict=True)
    notes = [
        edfio.EdfAnnotation(float(onset_s), length, EDF_UNSCORED if bad else edf_text(names[code]))
        for onset_s, code, bad in rows
    ]
    start = read_start(night.attrs["start"])
    day = None if start is None else date_of_edf(start)
    recording = None if day is None else edfio.Recording(startdate=day)
    clock = None if start is None else start.time()
    with whole(path) as beside:
        edfio.Edf([], recording=recording, starttime=clock, annotations=notes).write(beside)


def date_of_edf(start: datetime) -> date:
    """Return the date of a start, or 1 January 1985 where EDF+ cannot state it."""
    return start.date() if has_edf_date(start) else date(1985, 1, 1)


def has_edf_date(start: datetime) -> bool:
    """Tell whether EDF+ can state a date: from 1985 to 2084."""
    return 1985 <= start.year <= 2084
