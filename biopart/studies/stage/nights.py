"""Nights from files to folders: staged, compared with an expert where there is one, told."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopart.data import open_cohort
from biopart.experiment.fitting import check_fit
from biopart.files import read_json
from biopart.nn import Model
from biopart.nn.model import load
from biopart.run import Run
from biopart.signals.readers import open_recording
from biopart.store import Record
from biopart.store.attributes import is_store
from biopart.store.seen import Seen
from biopart.studies.stage.files import write_files
from biopart.studies.stage.page import write_night
from biopart.studies.stage.summary import expert, model_of, seen_before, summary
from biopart.verbs.quality import Quality, open_quality
from biopart.verbs.stage import (
    BAD_SHARE,
    Channels,
    Staged,
    stage,
    stage_record,
    stager,
    staging_cards,
)

# Taken from a folder where nothing fits the rule of the model's own data set.
SUFFIXES = (".edf", ".bdf", ".hea", ".vhdr", ".set", ".fif")
OURS = ("hypnogram.csv", "hypnogram.edf", "summary.json", "quality.csv", "night.html")


@dataclass(frozen=True)
class Wishes:
    """How nights are to be staged.

    Attributes
    ----------
    channels : mapping, optional
        The model's channel -> what to take for it, or several to average over.
    truth : Path, optional
        An expert's hypnogram; of a folder of nights the folder of theirs, found by the card's rule.
        A store has its own.
    codes : str, optional
        What the numbers of the expert's hypnogram mean: aasm, rk, rem4, ucddb or dreams.
    lights : tuple of str
        Clock times of lights off and on, ``22:30``; the recording by default.
    quality : bool
        Whether to look at every patch by the run's relative encoder too.
    bad_share : float
        An epoch is bad where more than this share of it is flat, clipped or missing.
    clear : bool
        Whether the results of another night are removed from a folder of the same name.
    """

    channels: Channels | None = None
    truth: Path | None = None
    codes: str | None = None
    lights: tuple[str | None, str | None] = (None, None)
    quality: bool = False
    bad_share: float = BAD_SHARE
    clear: bool = False


@dataclass(frozen=True)
class Found:
    """A night that was staged, the expert's stages, and the hash of its file."""

    staged: Staged
    known: NDArray[np.int8] | None
    source_sha256: str | None


def stage_nights(
    night: Path,
    run: Run,
    out: Path,
    wishes: Wishes = Wishes(),
    *,
    named: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Stage a night, every night of a folder, or every record of a store.

    Parameters
    ----------
    night : Path
        A recording, a folder of some, or a store prepared as the model's was.
    run : Run
        A fine-tuning, or a run whose newest is taken.
    out : Path
        Folder of the results; of several nights each has one in it, named after its recording.
    wishes : Wishes
        Channels, an expert's hypnogram, lights and the rest.
    named : bool
        Whether a single night has a folder of its name in ``out`` too.
    say : callable
        Gets the name of each night, and why one could not be staged.

    Returns
    -------
    list of dict
        Of each night what summary.json holds, and ``files``; of one of several that could not be
        staged ``night`` and ``error``.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    ValueError
        If the only night cannot be staged.
    """
    model = load(run)
    about = stager(model)
    origin = model_of(run, about)
    seconds = open_quality(run) if wishes.quality else None
    nights = _nights(night, model, wishes)
    results = []
    for name, open_night in nights:
        say(name)
        folder = out / name if named or len(nights) > 1 else out
        try:
            found = open_night()
            results.append(
                _written(found, folder, wishes, seen=about.seen, model=origin, seconds=seconds)
            )
        except (ValueError, OSError) as error:
            if len(nights) == 1:
                raise
            reason = " ".join(str(error).split())
            say(f"{name}: {reason}")
            results.append({"night": name, "error": reason})
    return results


def stage_recording(night: Path, run: Run, out: Path, wishes: Wishes = Wishes()) -> Found:
    """Stage one recording, write its results into a folder, and return what was found."""
    model = load(run)
    about = stager(model)
    found = of_file(night, model, wishes)
    _written(found, out, wishes, seen=about.seen, model=model_of(run, about))
    return found


Named = tuple[str, Callable[[], Found]]


def _nights(night: Path, model: Model, wishes: Wishes) -> list[Named]:
    """Return the name of every night, and what stages it."""
    if is_store(night):
        if wishes.channels or wishes.truth is not None or any(wishes.lights):
            raise ValueError(
                "a store has its channels, labels and no clock; leave --channel, --truth and "
                "--lights away"
            )
        return list(of_store(night, model, wishes))
    paths = recordings_of(night, (stager(model).card or {})["recordings"])
    stems = Counter(path.stem for path in paths)
    return [
        (path.stem if stems[path.stem] == 1 else path.name, partial(of_file, path, model, wishes))
        for path in paths
    ]


def _written(
    found: Found,
    folder: Path,
    wishes: Wishes,
    *,
    seen: Seen,
    model: Mapping[str, Any],
    seconds: Quality | None = None,
) -> dict[str, Any]:
    """Write the files of a night into its folder, all or none; return what is said of it."""
    staged = found.staged
    told = summary(staged, found.known, wishes.lights, model)
    told |= {"source_sha256": found.source_sha256}
    told["warnings"] += seen_before(Path(told["source"]).stem, staged, model["dataset"], seen)
    track = None if seconds is None else seconds.track(staged.record, staged.card)
    make_room(folder, told, clear=wishes.clear)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        beside = Path(name)
        files = write_files(staged.dataset, told, beside, quality=track)
        page = beside / "night.html"
        write_night(page, staged, found.known, told=told, quality=track)
        folder.mkdir(exist_ok=True)
        written = [path.replace(folder / path.name) for path in (*files, page)]
    return {"night": told["source"], **told, "files": [str(path) for path in written]}


def make_room(folder: Path, told: Mapping[str, Any], *, clear: bool) -> None:
    """Remove the results of the same night from a folder; of another night only if asked to.

    Raises ValueError where the folder holds another night.
    """
    ours = [folder / name for name in OURS if (folder / name).is_file()]
    if not ours:
        return
    known: dict[str, Any] = {}
    if (folder / "summary.json").is_file():
        known = read_json(folder / "summary.json")
    keys = ("source", "source_sha256")
    same = known and all(known.get(key, told[key]) == told[key] for key in keys)
    if not same and not clear:
        raise ValueError(
            f"{folder} holds the night {known.get('source', '(without its summary.json)')}; give "
            "another --out, or --clear to replace it"
        )
    for path in ours:
        path.unlink()


def channels_of(spelled: Sequence[str]) -> dict[str, list[str]]:
    """Read choices of channels, MODEL=FILE; of several for one channel all are kept.

    Raises ValueError where one is spelled otherwise.

    Examples
    --------
    >>> channels_of(["EEG=C4-A1", "EEG = C3-A2"])
    {'EEG': ['C4-A1', 'C3-A2']}
    """
    chosen: dict[str, list[str]] = {}
    for one in spelled:
        name, sign, source = (part.strip() for part in one.partition("="))
        if not (name and sign and source):
            raise ValueError(
                f"{one!r} names no channel: --channel takes MODEL=FILE, for instance EEG=C4-A1"
            )
        chosen.setdefault(name, []).append(source)
    return chosen


def recordings_of(night: Path, globs: Sequence[str]) -> list[Path]:
    """Return the recordings that a path means; FileNotFoundError where a folder has none."""
    if not night.is_dir() or night.suffix == ".mff":
        return [night]
    fitting = {path for glob in globs for path in night.glob(glob)}
    found = fitting or {
        path
        for path in night.iterdir()
        if path.suffix.lower() in SUFFIXES and "hypnogram" not in path.stem.lower()
    }
    if not found:
        raise FileNotFoundError(
            f"{night} holds no recording that fits {', '.join(globs)} or ends in "
            f"{', '.join(SUFFIXES)}"
        )
    return sorted(found)


def of_file(path: Path, model: Model, wishes: Wishes) -> Found:
    """Stage a recording, with an expert's stages where there are some."""
    about = stager(model)
    recording = open_recording(path, staging_cards(about)[0].table)
    staged = stage(recording, model, wishes.channels, bad_share=wishes.bad_share)
    known = None
    if wishes.truth is not None:
        known, said = expert(wishes.truth, recording, about.card or {}, staged, codes=wishes.codes)
        staged.dataset.attrs["warnings"] = [*staged.dataset.attrs["warnings"], *said]
    digest = None
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Found(staged, known, digest)


def of_store(path: Path, model: Model, wishes: Wishes) -> Iterator[Named]:
    """Give the records of a store, which has the expert's stages itself."""
    about, cohort = stager(model), open_cohort(path)
    if len(cohort.shape) != 1:
        raise ValueError(f"{path} holds {cohort.kind.name}; stage needs recordings")
    check_fit(about, cohort)
    (card,) = staging_cards(about)
    rows = [cohort.channels.index(name) for name in about.channels]

    def opened(name: str) -> Found:
        signal, scale = cohort.signal(name)[rows], cohort.scale(name)[rows]
        label, said = cohort.label(name).astype(np.int8), cohort.about(name)
        units = str(cohort[name]["signal"].attrs["units"])
        record = Record(signal, scale, label, cohort.bad(name), said, units)
        staged = stage_record(record, card, model, bad_share=wishes.bad_share)
        staged.dataset.attrs["source"] = name
        known = label[: staged.dataset.sizes["epoch"]]
        return Found(staged, known if (known >= 0).any() else None, said.get("source_sha256"))

    for name in cohort:
        yield name, partial(opened, name)


def lines_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was found as lines for a reader."""
    lines = []
    for told in results:
        if "error" in told:
            lines.append(f"{told['night']}: not staged, {told['error']}")
            continue
        parts = [f"{told['night']}: {told['epochs']} epochs, confidence {told['confidence']:.2f}"]
        if "statistics" in told:
            said = told["statistics"]
            parts.append(
                f"sleep {said['total_sleep_time']:.0f} min, efficiency "
                f"{said['sleep_efficiency']:.0%}"
            )
        if "agreement" in told:
            kappa = told["agreement"]["kappa"]
            parts.append(
                f"accuracy {told['agreement']['accuracy']:.3f}, kappa "
                + ("undefined" if kappa is None or np.isnan(kappa) else f"{kappa:.3f}")
            )
        lines.append(", ".join(parts))
        lines += [f"  {line}" for line in told["warnings"]]
        lines.append(f"page: {told['files'][-1]}")
    return lines
