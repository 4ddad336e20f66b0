"""Ending a training when the machine or its user asks for it, so that it can go on later."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
"""What a scheduler sends before it ends a job (SLURM: SIGTERM; others by --signal), and Ctrl-C."""


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
    interrupted : bool
        It was Ctrl-C; a second one raises KeyboardInterrupt, as without this context.
    """

    def __init__(self) -> None:
        self.asked = self.interrupted = False
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
        if number == signal.SIGINT:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            if "LOCAL_RANK" not in os.environ or os.environ["LOCAL_RANK"] == "0":
                # Print could interrupt a print; of several processes one says it.
                os.write(2, b"\nending after a checkpoint; press Ctrl-C again to end at once\n")
        self.asked = True
