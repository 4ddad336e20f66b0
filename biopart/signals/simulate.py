"""Write cohorts of simulated nights: the layout of PhysioNet/CinC 2018, or EDF+ pairs.

The files have the real formats, so that everything from fetching on can be tested without a
download; ``SIMULATED.txt`` at the root and a line in every header mark them as simulated. A night
is written to a temporary path and renamed; an existing night is not simulated again.
"""

import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording
from numpy.typing import NDArray

from biopart.codes import EDF_UNSCORED, STAGES, edf_text
from biopart.files import whole
from biopart.signals.simulate_night import (
    CHANNELS,
    UNITS,
    SimulatedNight,
    begin_night,
    simulate_night,
)
from biopart.signals.simulate_tracks import SFREQ_HZ

__all__ = ["MARKER", "SimulatedNight", "simulate_cohort", "simulate_night"]

MARKER = "SIMULATED.txt"
_VERSION = 1  # of the simulated values; increase it when they change

# Digital = physical * gain + baseline, within +-30,000: +-1 mV EEG, 0-100 % SaO2. Baselines
# differ in the WFDB files, as in real ones, so that a reader that ignores them fails.
_LIMIT = 30_000
_GAINS = (30, 30, 30, 30, 30, 30, 30, 30, 20, 20, 20, 300, 8000)
_BASELINES = (0, -40, 25, 0, 110, -75, 0, 15, 0, -200, 60, 0, 350)


def simulate_cohort(
    folder: Path,
    *,
    persons: int,
    hours: float,
    seed: int,
    kind: Literal["wfdb", "edf"] = "wfdb",
    channels: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> list[Path]:
    """Write one simulated night per person and return their header files.

    Parameters
    ----------
    folder
        New, empty, or started by an earlier call with the same arguments; finished nights are
        kept.
    persons
        Number of nights, at least 1; does not affect the night of a person.
    hours
        Length of each night, 0.2 to 24, including its unscored lead-in of 6 to 9 minutes.
    seed
        Non-negative; the same seed gives the same bytes.
    kind
        "wfdb": ``training/tr03-0005/tr03-0005.hea`` with ``.mat`` and ``.arousal``,
        ``training/RECORDS`` and ``age-sex.csv``; "edf": ``tr03-0005-PSG.edf`` and
        ``tr03-0005-Hypnogram.edf``.
    channels
        Names to write, in this order; all 13 by default.
    report
        Called with one line per night.

    Returns
    -------
    list of Path
        The ``.hea`` or ``-PSG.edf`` files in the order of persons.

    Raises
    ------
    ValueError
        For an unknown channel or kind, fewer than one person, or a folder with other files.
    """
    rows = _rows(channels)
    if persons < 1:
        raise ValueError(f"persons is {persons}; simulate at least 1")
    if kind not in ("wfdb", "edf"):
        raise ValueError(f"kind is {kind!r}; write 'wfdb' or 'edf'")
    records = [f"tr03-{5 + person:04d}" for person in range(persons)]
    people = [begin_night(seed, person, hours)[1].person for person in range(persons)]
    signals = " ".join(CHANNELS[row] for row in rows)
    _mark(folder, f"{kind=!s} {seed=} {persons=} {hours=:g}\nsignals: {signals}\n")
    files = []
    for person, record in enumerate(records):
        file = _wfdb_file(folder, record) if kind == "wfdb" else folder / f"{record}-PSG.edf"
        if not file.exists():
            write = _write_wfdb if kind == "wfdb" else _write_edf
            write(file, record, simulate_night(seed, person, hours), rows)
        report(f"{record}: night {person + 1} of {persons}")
        files.append(file)
    lines = [f"{r},{who.age},{who.sex}\n" for r, who in zip(records, people, strict=True)]
    (folder / "age-sex.csv").write_text("Record,Age,Sex\n" + "".join(lines))
    if kind == "wfdb":
        (folder / "training" / "RECORDS").write_text("".join(f"{r}/\n" for r in records))
    return files


def _rows(channels: Sequence[str] | None) -> list[int]:
    if channels is None:
        return list(range(len(CHANNELS)))
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown or not channels or len(set(channels)) < len(channels):
        given = ", ".join(unknown or channels) or "nothing"
        raise ValueError(
            f"channels has {given}; choose some of {', '.join(CHANNELS)}, each at most once"
        )
    return [CHANNELS.index(name) for name in channels]


def _mark(folder: Path, settings: str) -> None:
    """Claim the folder for these settings; never write among other files."""
    text = "Simulated by biopart: no person was recorded. Not for any claim about sleep.\n"
    text += f"simulator={_VERSION} {settings}"
    marker = folder / MARKER
    if marker.is_file():
        if marker.read_text() != text:
            raise ValueError(f"{folder} has other simulated nights; choose another folder")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} has files that are not simulated; choose an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(text)


def _digital(night: SimulatedNight, row: int, baseline: int) -> NDArray[np.int16]:
    scaled = np.rint(night.signals[row] * np.float32(_GAINS[row]) + np.float32(baseline))
    return np.asarray(np.clip(scaled, -_LIMIT, _LIMIT), np.int16)


def _wfdb_file(folder: Path, record: str) -> Path:
    return folder / "training" / record / f"{record}.hea"


def _write_wfdb(file: Path, record: str, night: SimulatedNight, rows: list[int]) -> None:
    """Write header, signals and annotations into a folder beside, then rename it."""
    digital = np.empty((night.signals.shape[1], len(rows)), "<i2")
    lines = [f"{record} {len(rows)} {SFREQ_HZ} {len(digital)}"]
    for column, row in enumerate(rows):
        values = digital[:, column] = _digital(night, row, _BASELINES[row])
        lines.append(_signal_line(record, row, values))
    lines.append("#simulated by biopart, no person was recorded")
    with whole(file.parent) as part:
        part.mkdir()
        (part / file.name).write_text("\n".join(lines) + "\n")
        _write_mat(part / f"{record}.mat", digital)
        _write_annotations(part, record, night)


def _signal_line(record: str, row: int, values: NDArray[np.int16]) -> str:
    """Describe one signal in the form of WFDB's header(5); 16+24 skips the MATLAB header."""
    total = int(values.sum(dtype=np.int64)) & 0xFFFF
    checksum = total - 0x10000 if total & 0x8000 else total
    scale = f"{_GAINS[row]}({_BASELINES[row]})/{UNITS[row]}"
    return f"{record}.mat 16+24 {scale} 16 0 {values[0]} {checksum} 0 {CHANNELS[row]}"


def _write_mat(path: Path, digital: NDArray[np.int16]) -> None:
    """Write ``val`` (signals, time) as a MATLAB level-4 matrix; data begin at byte 24.

    MATLAB MAT-File Format, level 4: type 30 = little-endian, column-wise, int16; rows, columns,
    0 = real, length of the name with its null.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<5i4s", 30, digital.shape[1], len(digital), 0, 4, b"val\0"))
        digital.tofile(file)


def _write_annotations(folder: Path, record: str, night: SimulatedNight) -> None:
    """Write stage changes and event pairs in order of time as notes of ``.arousal``."""
    notes = [(float(onset), STAGES[stage]) for onset, _, stage in _stage_runs(night)]
    for event in night.events:
        notes += [(event.start_s, f"({event.kind}"), (event.stop_s, f"{event.kind})")]
    notes.sort(key=lambda note: note[0])
    with warnings.catch_warnings():
        # wfdb 4.3 uses a keyword that pandas 3 deprecates, at import and in wrann.
        warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame")
        from wfdb import wrann

        wrann(
            record,
            "arousal",
            np.array([round(onset * SFREQ_HZ) for onset, _ in notes]),
            symbol=['"'] * len(notes),
            aux_note=[text for _, text in notes],
            write_dir=str(folder),
        )


def _stage_runs(night: SimulatedNight) -> list[tuple[int, int, int]]:
    """List (onset, duration, stage) of the runs of one stage, in whole seconds."""
    changes = [0, *(np.flatnonzero(np.diff(night.stages)) + 1).tolist()]
    onsets = [night.lead_in_s + epoch * night.epoch_s for epoch in changes]
    ends = [*onsets[1:], night.signals.shape[1] // night.sfreq_hz]
    stages = [int(night.stages[epoch]) for epoch in changes]
    return [(on, end - on, s) for on, end, s in zip(onsets, ends, stages, strict=True)]


def _write_edf(file: Path, record: str, night: SimulatedNight, rows: list[int]) -> None:
    """Write the hypnogram, then the signals, each beside and renamed."""
    marks = [EdfAnnotation(0, night.lead_in_s, EDF_UNSCORED)]
    for onset, duration, stage in _stage_runs(night):
        marks.append(EdfAnnotation(onset, duration, edf_text(STAGES[stage])))
    signals = [_edf_signal(night, row) for row in rows]
    about = Recording(equipment_code="simulated")
    hypnogram = Edf([], patient=Patient(), recording=about, annotations=marks)
    psg = Edf(signals, patient=Patient(), recording=about, data_record_duration=1)
    for edf, kind in ((hypnogram, "Hypnogram"), (psg, "PSG")):
        target = file.with_name(f"{record}-{kind}.edf")
        with whole(target) as beside:
            edf.write(beside)


def _edf_signal(night: SimulatedNight, row: int) -> EdfSignal:
    limit = _LIMIT / _GAINS[row]
    return EdfSignal.from_digital(
        _digital(night, row, 0),
        night.sfreq_hz,
        label=CHANNELS[row],
        physical_dimension=UNITS[row],
        physical_range=(-limit, limit),
        digital_range=(-_LIMIT, _LIMIT),
    )
