"""A queue of nights: staged one after the other, and deleted after some time."""

import logging
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from biopart.run import Run
from biopart.studies.stage import StagingOptions, channels_of, stage_nights

MOST_WAITING = 20
State = Literal["waiting", "running", "done", "failed"]
logger = logging.getLogger(__name__)


@dataclass
class Job:
    """One night: where its files are, and its progress.

    Attributes
    ----------
    key : str
        Part of its address; cannot be guessed.
    name : str
        Name of the uploaded file.
    folder : Path
        Contains the recording until it is staged, and ``night`` with the results.
    future : Future
        Of the staging.
    recording, truth : Path
        The uploaded files; kept if staging failed, so that it can be repeated.
    others : tuple
        Key and name of the nights that were sent with it.
    """

    key: str
    name: str
    folder: Path
    future: "Future[list[dict[str, Any]]]"
    recording: Path
    truth: Path | None = None
    begun: float = field(default_factory=time.monotonic)
    others: tuple[tuple[str, str], ...] = ()

    @property
    def can_go_again(self) -> bool:
        """Whether it failed and its recording still exists."""
        return self.state == "failed" and self.recording.is_file()

    @property
    def state(self) -> State:
        """Its progress."""
        if not self.future.done():
            return "running" if self.future.running() else "waiting"
        return "failed" if self.future.exception() is not None else "done"

    @property
    def error(self) -> str:
        """What went wrong, in one sentence; empty if nothing did."""
        error = self.future.exception() if self.future.done() else None
        if error is None:
            return ""
        if isinstance(error, ValueError | OSError):
            return " ".join(str(error).split())
        return "an unexpected error occurred; see the log of the server"

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json, when the night is done."""
        return self.future.result()[0]

    @property
    def files(self) -> dict[str, Path]:
        """The results by name, when the night is done."""
        return {Path(path).name: Path(path) for path in self.summary["files"]}


class Jobs:
    """Stage nights in their order, one at a time.

    Parameters
    ----------
    run : Run
        A fine-tuning, or a run whose newest fine-tuning is used.
    keep_s : float
        How long results are kept after a night is done or has failed.
    """

    def __init__(self, run: Run, *, keep_s: float = 3600.0) -> None:
        self.run, self.keep_s = run, keep_s
        self._jobs: dict[str, Job] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="biopart-serve-")
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stage")

    def __getitem__(self, key: str) -> Job:
        return self._jobs[key]

    def __len__(self) -> int:
        return len(self._jobs)

    def new_folder(self) -> Path:
        """Return an empty folder for a recording that is being sent."""
        return Path(tempfile.mkdtemp(dir=self._folder.name))

    def add(
        self, recording: Path, name: str, *, truth: Path | None = None, options: Mapping[str, Any]
    ) -> Job:
        """Queue a recording in a folder of ``new_folder``; both are deleted later.

        Raises
        ------
        ValueError
            If too many are waiting.
        """
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= MOST_WAITING:
            raise ValueError(f"{waiting} nights are already waiting; try again in a few minutes")
        folder = recording.parent

        staging = StagingOptions(truth=truth, **options)

        def work() -> list[dict[str, Any]]:
            results = stage_nights(recording, self.run, folder / "night", staging)
            for sent in (recording, truth):  # not kept longer than needed
                if sent is not None:
                    sent.unlink(missing_ok=True)
            return results

        future = self._pool.submit(work)
        future.add_done_callback(_log_unforeseen)
        job = Job(secrets.token_urlsafe(16), name, folder, future, recording, truth)
        self._jobs[job.key] = job
        future.add_done_callback(lambda _: self._remove_later(job.key))
        return job

    def again(self, job: Job, options: Mapping[str, Any]) -> Job:
        """Queue a failed night again with other options, in place of the old job.

        Raises
        ------
        ValueError
            If it did not fail, or its recording was deleted.
        """
        if not job.can_go_again:
            raise ValueError("this night cannot be staged again; send its recording again")
        new = self.add(job.recording, job.name, truth=job.truth, options=options)
        self._jobs.pop(job.key, None)
        return new

    def before(self, job: Job) -> int:
        """Return how many nights are staged before a waiting one."""
        earlier = [other for other in self._jobs.values() if other.begun < job.begun]
        return sum(other.state in ("waiting", "running") for other in earlier)

    def remove(self, key: str) -> None:
        """Delete a night and its files; a running one is finished first."""
        job = self._jobs.pop(key, None)
        if job is None:  # already deleted by the user
            return
        if job.future.cancel() or job.future.done():
            shutil.rmtree(job.folder, ignore_errors=True)
        else:
            job.future.add_done_callback(lambda _: shutil.rmtree(job.folder, ignore_errors=True))

    def _remove_later(self, key: str) -> None:
        """Delete a night after ``keep_s``."""
        timer = threading.Timer(self.keep_s, self.remove, (key,))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Finish the running night, drop the waiting ones, and delete everything."""
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()


def _log_unforeseen(future: "Future[Any]") -> None:
    """Log the traceback of an unexpected error."""
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, ValueError | OSError):
        logger.error("staging failed", exc_info=error)


def safe_name(name: str) -> str:
    """Return a file's name without folders and special characters.

    Examples
    --------
    >>> safe_name("../../etc/Müller night.EDF"), safe_name(".edf")
    ('M_ller_night.EDF', 'night.edf')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("\\", "/").rsplit("/", 1)[-1])
    stem, dot, suffix = plain.rpartition(".")
    stem = stem.lstrip(".-")[:80] or "night"
    return f"{stem}{dot}{suffix}"


def options_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a staging from a form's fields.

    Raises ValueError if a channel is not of the form MODEL=FILE.

    Examples
    --------
    >>> options_of({"channels": "EEG=C4-A1, EEG=C3-A2", "quality": "on", "lights_off": "22:30"})
    {'channels': {'EEG': ['C4-A1', 'C3-A2']}, 'quality': True, 'lights': ('22:30', None)}
    """
    spelled = [text for text in fields.get("channels", "").split(",") if text.strip()]
    chosen = channels_of(spelled)
    lights = (fields.get("lights_off") or None, fields.get("lights_on") or None)
    return {"channels": chosen, "quality": bool(fields.get("quality")), "lights": lights}
