"""Stage nights, compare them with an expert's hypnogram if there is one, write the results."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
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
from biopart.studies.stage.summary import describe_model, read_expert, summarise, warnings_if_seen
from biopart.verbs.quality import Quality, open_quality
from biopart.verbs.stage import (
    BAD_SHARE,
    Channels,
    StagedNight,
    require_stager,
    stage,
    stage_record,
    staging_cards,
)

# Used for a folder in which no file matches the rule of the model's own data set.
SUFFIXES = (".edf", ".bdf", ".hea", ".vhdr", ".set", ".fif")
RESULT_FILES = ("hypnogram.csv", "hypnogram.edf", "summary.json", "quality.csv", "night.html")


@dataclass(frozen=True)
class StagingOptions:
    """How nights are to be staged.

    Attributes
    ----------
    channels : mapping, optional
        The model's channel -> the channel of the file to use, or several to average over.
    truth : Path, optional
        An expert's hypnogram; for a folder of nights the folder of their hypnograms, matched by the
        card's rule. A store has its own.
    codes : str, optional
        What the numbers of the expert's hypnogram mean: aasm, rk, rem4, ucddb or dreams.
    lights : tuple of str
        Clock times of lights off and on, ``22:30``; by default start and end of the recording.
    quality : bool
        Whether the run's relative encoder also measures the quality of every patch.
    bad_share : float
        An epoch is bad where more than this share of it is flat, clipped or missing.
    clear : bool
        Whether the results of another night in the same folder are removed.
    """

    channels: Channels | None = None
    truth: Path | None = None
    codes: str | None = None
    lights: tuple[str | None, str | None] = (None, None)
    quality: bool = False
    bad_share: float = BAD_SHARE
    clear: bool = False


@dataclass(frozen=True)
class NightResult:
    """A night that was staged, the expert's stages, and the hash of its file."""

    staged: StagedNight
    expert_stages: NDArray[np.int8] | None
    source_sha256: str | None


def stage_nights(
    night: Path,
    run: Run,
    out: Path,
    options: StagingOptions = StagingOptions(),
    *,
    named: bool = False,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Stage a night, every night of a folder, or every record of a store.

    Parameters
    ----------
    night : Path
        A recording, a folder of recordings, or a store prepared as the model's was.
    run : Run
        A fine-tuning, or a run whose newest fine-tuning is used.
    out : Path
        Folder of the results; each of several nights has a subfolder named after its recording.
    options : StagingOptions
        Channels, an expert's hypnogram, lights and the rest.
    named : bool
        Whether a single night also has a subfolder of its name in ``out``.
    jobs : int
        Nights at a time, in processes; more or fewer inside ``calls_on`` a cluster.
    say : callable
        Gets the name of each night, and why one could not be staged.

    Returns
    -------
    list of dict
        For each night the content of summary.json, and ``files``; for one of several nights that
        could not be staged, ``night`` and ``error``.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    ValueError
        If the only night cannot be staged.
    """
    model = load(run)
    about = require_stager(model)
    model_facts = describe_model(run, about)
    seconds = open_quality(run) if options.quality else None
    nights = _nights(night, model, options)
    write = partial(_write, options=options, seen=about.seen, model=model_facts, seconds=seconds)
    if len(nights) == 1:
        ((name, open_night),) = nights
        say(name)
        return [write(open_night(), out / name if named else out)]
    calls = (delayed(_stage_one)(name, stage_it, out / name, write) for name, stage_it in nights)
    results = []
    for result in Parallel(n_jobs=jobs, return_as="generator")(calls):
        say(f"{result['night']}: {result['error']}" if "error" in result else result["night"])
        results.append(result)
    return results


def _stage_one(
    name: str,
    stage_it: Callable[[], NightResult],
    folder: Path,
    write: Callable[[NightResult, Path], dict[str, Any]],
) -> dict[str, Any]:
    """Stage one of several nights; return its summary, or its name and why it cannot be staged."""
    try:
        return write(stage_it(), folder)
    except (ValueError, OSError) as error:
        return {"night": name, "error": " ".join(str(error).split())}


def stage_recording(
    night: Path, run: Run, out: Path, options: StagingOptions = StagingOptions()
) -> NightResult:
    """Stage one recording, write its results into a folder, and return them."""
    model = load(run)
    about = require_stager(model)
    result = of_file(night, model, options)
    _write(result, out, options=options, seen=about.seen, model=describe_model(run, about))
    return result


NamedNight = tuple[str, Callable[[], NightResult]]


def _nights(night: Path, model: Model, options: StagingOptions) -> list[NamedNight]:
    """Return the name of every night, and what stages it."""
    if is_store(night):
        if options.channels or options.truth is not None or any(options.lights):
            raise ValueError(
                "a store has channels and labels of its own and no clock; leave out --channel, "
                "--truth, --lights-off and --lights-on"
            )
        return list(of_store(night, model, options))
    paths = recordings_of(night, (require_stager(model).card or {})["recordings"])
    stems = Counter(path.stem for path in paths)
    return [
        (path.stem if stems[path.stem] == 1 else path.name, partial(of_file, path, model, options))
        for path in paths
    ]


def _write(
    night: NightResult,
    folder: Path,
    *,
    options: StagingOptions,
    seen: Seen,
    model: Mapping[str, Any],
    seconds: Quality | None = None,
) -> dict[str, Any]:
    """Write all files of a night into its folder, or none; return its summary."""
    staged = night.staged
    summary = summarise(staged, night.expert_stages, options.lights, model)
    summary |= {"source_sha256": night.source_sha256}
    source = Path(summary["source"])
    summary["warnings"] += warnings_if_seen(source, staged, model["dataset"], seen)
    track = None if seconds is None else seconds.track(staged.record, staged.card)
    clear_folder(folder, summary, clear=options.clear)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        beside = Path(name)
        files = write_files(staged.dataset, summary, beside, quality=track)
        page = beside / "night.html"
        write_night(page, staged, night.expert_stages, summary=summary, quality=track)
        folder.mkdir(exist_ok=True)
        written = [path.replace(folder / path.name) for path in (*files, page)]
    return {"night": summary["source"], **summary, "files": [str(path) for path in written]}


def clear_folder(folder: Path, summary: Mapping[str, Any], *, clear: bool) -> None:
    """Remove the results of the same night from a folder; those of another night only on request.

    Raises ValueError if the folder contains the results of another night.
    """
    files = [folder / name for name in RESULT_FILES if (folder / name).is_file()]
    if not files:
        return
    previous: dict[str, Any] = {}
    if (folder / "summary.json").is_file():
        previous = read_json(folder / "summary.json")
    keys = ("source", "source_sha256")
    same = previous and all(previous.get(key, summary[key]) == summary[key] for key in keys)
    if not same and not clear:
        raise ValueError(
            f"{folder} contains the results of {previous.get('source', 'an unknown night')}; "
            "choose another --out, or replace them with --clear"
        )
    for path in files:
        path.unlink()


def channels_of(spelled: Sequence[str]) -> dict[str, list[str]]:
    """Read choices of channels, MODEL=FILE; several for one channel are all kept.

    Raises ValueError if a choice has another form.

    Examples
    --------
    >>> channels_of(["EEG=C4-A1", "EEG = C3-A2"])
    {'EEG': ['C4-A1', 'C3-A2']}
    """
    chosen: dict[str, list[str]] = {}
    for choice in spelled:
        name, sign, source = (part.strip() for part in choice.partition("="))
        if not (name and sign and source):
            raise ValueError(
                f"{choice!r} does not name a channel; --channel takes MODEL=FILE, for instance "
                "EEG=C4-A1"
            )
        chosen.setdefault(name, []).append(source)
    return chosen


def recordings_of(night: Path, globs: Sequence[str]) -> list[Path]:
    """Return the recordings at a path; FileNotFoundError if a folder has none."""
    if not night.is_dir() or night.suffix == ".mff":
        return [night]
    fitting = {path for glob in globs for path in night.glob(glob)}
    recordings = fitting or {
        path
        for path in night.iterdir()
        if path.suffix.lower() in SUFFIXES and "hypnogram" not in path.stem.lower()
    }
    if not recordings:
        raise FileNotFoundError(
            f"{night} contains no recording that matches {', '.join(globs)} or ends in "
            f"{', '.join(SUFFIXES)}"
        )
    return sorted(recordings)


def of_file(path: Path, model: Model, options: StagingOptions) -> NightResult:
    """Stage a recording, with an expert's stages if given."""
    about = require_stager(model)
    recording = open_recording(path, staging_cards(about)[0].reading)
    staged = stage(recording, model, options.channels, bad_share=options.bad_share)
    expert_stages = None
    if options.truth is not None:
        expert_stages, warnings = read_expert(
            options.truth, recording, about.card or {}, staged, codes=options.codes
        )
        staged.dataset.attrs["warnings"] = [*staged.dataset.attrs["warnings"], *warnings]
    digest = None
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return NightResult(staged, expert_stages, digest)


def of_store(path: Path, model: Model, options: StagingOptions) -> Iterator[NamedNight]:
    """Yield the records of a store, which has the expert's stages itself."""
    about, cohort = require_stager(model), open_cohort(path)
    if len(cohort.shape) != 1:
        raise ValueError(f"{path} contains {cohort.kind.name}; stage needs recordings")
    check_fit(about, cohort)
    (card,) = staging_cards(about)
    rows = [cohort.channels.index(name) for name in about.channels]

    def stage_of_record(name: str) -> NightResult:
        signal, scale = cohort.signal(name)[rows], cohort.scale(name)[rows]
        label, attributes = cohort.label(name).astype(np.int8), cohort.about(name)
        units = str(cohort[name]["signal"].attrs["units"])
        record = Record(signal, scale, label, cohort.bad(name), attributes, units)
        staged = stage_record(record, card, model, bad_share=options.bad_share)
        staged.dataset.attrs["source"] = name
        expert_stages = label[: staged.dataset.sizes["epoch"]]
        return NightResult(
            staged,
            expert_stages if (expert_stages >= 0).any() else None,
            attributes.get("source_sha256"),
        )

    for name in cohort:
        yield name, partial(stage_of_record, name)


def lines_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the results as lines for a reader."""
    lines = []
    for summary in results:
        if "error" in summary:
            lines.append(f"{summary['night']}: not staged, {summary['error']}")
            continue
        parts = [f"{summary['night']}: {summary['epochs']} epochs"]
        parts.append(f"confidence {summary['confidence']:.2f}")
        if "statistics" in summary:
            statistics = summary["statistics"]
            parts.append(
                f"sleep {statistics['total_sleep_time']:.0f} min, efficiency "
                f"{statistics['sleep_efficiency']:.0%}"
            )
        if "agreement" in summary:
            kappa = summary["agreement"]["kappa"]
            parts.append(
                f"accuracy {summary['agreement']['accuracy']:.3f}, kappa "
                + ("undefined" if kappa is None or np.isnan(kappa) else f"{kappa:.3f}")
            )
        lines.append(", ".join(parts))
        lines += [f"  {line}" for line in summary["warnings"]]
        lines.append(f"page: {summary['files'][-1]}")
    return lines
