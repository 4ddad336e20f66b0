"""The output of a command: progress on stderr, results on stdout."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

REPORT_EVERY_S = 60.0
SHOWN = (
    "train/loss",
    "train/chance_loss",
    "train/r2",
    "train/accuracy",
    "validation/r2",
    "validation/kappa",
    "probe/kappa",
)
KEPT = ("probe/kappa",)  # shown until there is a newer one


@dataclass(frozen=True)
class Output:
    """How a command prints: JSON or lines, with progress or quietly."""

    as_json: bool
    quiet: bool

    def emit(self, values: Mapping[str, Any], lines: list[str] | None = None) -> None:
        """Write results on stdout: JSON, or lines for a reader; once for all processes."""
        from biopart.files import plain

        if process_number():
            return
        if self.as_json:
            click.echo(json.dumps(plain(values), ensure_ascii=False))
            return
        for line in lines if lines is not None else readable(values):
            click.echo(line)

    def say(self, line: str) -> None:
        """Write a line of progress on stderr, once for all processes."""
        if not self.quiet and not process_number():
            click.echo(line, err=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Show a bar of a training's steps on stderr; plain lines if stderr is not a terminal."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True, quiet=self.quiet)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        alone = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes the first draws
        hidden = not (console.is_terminal and alone)
        with Progress(*columns, console=console, disable=hidden) as bar:
            task = bar.add_task(title, total=None, note="")
            kept: dict[str, Any] = {}

            def report(row: Mapping[str, Any]) -> None:
                has_scores = any(key.startswith(("validation/", "probe/")) for key in row)
                if "warning" in row:
                    self.say(f"warning: {row['warning']}")
                kept.update({key: row[key] for key in KEPT if key in row})
                row = {**kept, **row}
                note = "  ".join(f"{k} {row[k]:.3f}" for k in SHOWN if _is_number(row.get(k)))
                bar.update(task, completed=row["step"], total=row.get("steps"), note=note)
                if not console.is_terminal and has_scores:
                    self.say(f"{title} step {row['step']}: {note}")

            yield report

    @contextmanager
    def trainings(self, title: str) -> Iterator[Callable[[Any], None]]:
        """Show the progress of a study on stderr; lines at intervals if it is not a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, quiet=self.quiet)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(title, total=1.0, note="")
            begun = last_report = time.monotonic()

            def display(standing: Any) -> None:
                nonlocal last_report
                failed = f", {standing.failed} failed" if standing.failed else ""
                note = f"{standing.done} of {standing.trainings} trainings{failed}"
                bar.update(task, completed=standing.share, note=note)
                if not console.is_terminal and time.monotonic() - last_report > REPORT_EVERY_S:
                    last_report = time.monotonic()
                    self.say(f"{title}: {note} after {(last_report - begun) / 60:.0f} min")

            yield display


def process_number() -> int:
    """Return the number of this process among those that share a training; 0 = alone or first."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0
    return int(distributed.get_rank())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def readable(values: Mapping[str, Any], indent: str = "") -> list[str]:
    """Return nested values as lines of ``key: value``.

    Examples
    --------
    >>> readable({"kappa": 0.61234, "f1": {"W": 0.8, "R": None}})
    ['kappa: 0.6123', 'f1:', '  W: 0.8', '  R: none']
    """
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping | list | tuple) and not value:
            lines.append(f"{indent}{key}: none")
        elif isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *readable(value, indent + "  ")]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
            lines += [f"{indent}{key}:", *(f"{indent}  {list(row)}" for row in value)]
        elif isinstance(value, list | tuple) and any(
            mark in str(item) for item in value for mark in (", ", ": ")
        ):
            lines += [f"{indent}{key}:", *(f"{indent}  {_text(item)}" for item in value)]
        elif isinstance(value, list | tuple):
            lines.append(f"{indent}{key}: {', '.join(_text(item) for item in value)}")
        else:
            lines.append(f"{indent}{key}: {_text(value)}")
    return lines


def _text(value: object) -> str:
    """Return a value as text: floats with four digits or more, None as none."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return "none" if value is None else str(value)
