"""Ending a training when the machine asks for it, so that it can go on later."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = ("SIGTERM", "SIGUSR1")
"""What schedulers send before they end a job: SLURM's are SIGTERM, and with --signal any other."""


class Stopped(Exception):  # noqa: N818  # not an error
    """A training that was asked to end has written its checkpoint.

    Attributes
    ----------
    step : int
        Steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Stop:
    """Whether this process was asked to end, while the context lasts; only in the main thread.

    Attributes
    ----------
    asked : bool
        A signal has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                if hasattr(signal, name):  # Windows has no SIGUSR1
                    number = signal.Signals[name]
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
