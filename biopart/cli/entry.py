"""The command line: one entry point, each command a few lines over its verb.

Progress goes to stderr, results to stdout (JSON with --json). Exit 0 done, 1 failed, 2 wrong use.
Verbs are imported inside their commands, so that ``prepare`` never loads torch.
"""

import gc
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import click

import biopart
from biopart.cli import data, probing, studies, training
from biopart.terminal import process_number

REPORT = "the issue tracker of the project (CONTRIBUTING.md)"


GROUPS: dict[str, tuple[click.Command, ...]] = {
    "Start here": (studies.demo, data.list_, data.info, data.check, data.runs),
    "Data": (data.simulate, data.fetch, data.prepare),
    "Train and score": (
        *(training.pretrain, training.finetune, training.detect, training.segment),
        *(training.evaluate, probing.probe),
    ),
    "Compare": (studies.curve, studies.sweep, studies.report, studies.show, studies.bench),
    "Use a model": (studies.stage, studies.serve, training.embed, training.export),
}


class Commands(click.Group):
    """A group that reports a user's mistake in one sentence, with an exit status."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by purpose, each with its first sentence."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                rows = [(str(one.name), one.get_short_help_str(limit=100)) for one in commands]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; ValueError and OSError end with status 1, without a traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has closed the pipe; click ends silently
            raise
        except (ValueError, OSError) as error:
            if process_number():  # the first of the processes that share a training says it
                raise SystemExit(1) from error
            raise click.ClickException(" ".join(str(error).split())) from error


def report_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an unexpected error, where it occurred and where to report it."""
    sys.__excepthook__(kind, error, trace)
    if issubclass(kind, KeyboardInterrupt):
        return
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "biopart" in Path(frame.filename).parts]
    place = ours[-1] if ours else frames[-1]
    click.echo(
        f"biopart {biopart.__version__} crashed in {Path(place.filename).name}, line "
        f"{place.lineno} ({place.name}). This is a bug in biopart: please report it with the lines "
        f"above in {REPORT}",
        err=True,
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(biopart.__version__, prog_name="biopart")
def main() -> None:
    """Self-supervised pretraining on biosignals and images: PART on grids with N axes."""
    sys.excepthook = report_crash
    # Libraries make a million objects that stay; looking through them again and again takes 0.7 s
    # of the 6 that staging a night takes.
    gc.set_threshold(50_000, 20, 50)


for _commands in GROUPS.values():
    for _command in _commands:
        main.add_command(_command)
