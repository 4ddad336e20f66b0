"""A staged night goes to MNE and to YASA with the same epochs."""

import sys
from datetime import datetime
from types import ModuleType

import mne
import numpy as np
import pytest
import xarray as xr

from biopart import to_annotations, to_yasa

STAGES = ["W", "N1", "N2", "N3", "R"]


def night(names=STAGES, start="2020-01-01T23:00:00"):
    stages = np.int8([0, 2, 2, 4])
    return xr.Dataset(
        {
            "probability": (("epoch", "class"), np.eye(len(names), dtype=np.float32)[stages]),
            "hypnogram": ("epoch", stages),
            "onset_s": ("epoch", np.arange(4) * 30.0),
        },
        coords={"class": names},
        attrs={"epoch_s": 30.0, "start": start},
    )


def test_annotations_lie_on_the_recordings_samples():
    raw = mne.io.RawArray(np.zeros((1, 12_000)), mne.create_info(["EEG"], 100.0), verbose="ERROR")
    raw.set_annotations(to_annotations(night()))
    events, codes = mne.events_from_annotations(raw, verbose="ERROR")
    assert events[:, 0].tolist() == [0, 3000, 6000, 9000]
    assert codes == {"Sleep stage N2": 1, "Sleep stage R": 2, "Sleep stage W": 3}
    assert raw.annotations.duration.tolist() == [30.0] * 4


def test_yasa_gets_stages_probabilities_and_the_start(monkeypatch):
    """A module in YASA's place keeps what it is given; the installed one is tried by hand."""
    given = {}
    module = ModuleType("yasa")
    module.Hypnogram = lambda values, **options: given.update(options, values=values)
    monkeypatch.setitem(sys.modules, "yasa", module)
    to_yasa(night())
    assert given["values"].tolist() == ["WAKE", "N2", "N2", "REM"]
    assert given["start"] == datetime(2020, 1, 1, 23)
    assert (given["freq"], given["n_stages"]) == ("30s", 5)
    assert given["proba"]["REM"].tolist() == [0, 0, 0, 1]


def test_what_yasa_cannot_take_is_refused(monkeypatch):
    with pytest.raises(
        ValueError, match="YASA needs the classes W, N1, N2, N3 and R; the night has a, b"
    ):
        to_yasa(night(list("abcde")))
    monkeypatch.setitem(sys.modules, "yasa", None)
    with pytest.raises(ImportError, match=r"pip install 'biopart\[clinical\]'"):
        to_yasa(night())
