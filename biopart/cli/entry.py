"""The command line: one entry point, each command a few lines over its verb.

Progress goes to stderr, results to stdout (JSON with --json). Exit 0 done, 1 failed, 2 wrong use.
Verbs are imported inside their commands, so that ``prepare`` never loads torch.
"""

from typing import Any

import click

import biopart
from biopart.cli import data, studies, training


class Commands(click.Group):
    """A group that turns mistakes of a user into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a fault that names itself ends with status 1, without a traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has enough; click ends without a word
            raise
        except (ValueError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(biopart.__version__, prog_name="biopart")
def main() -> None:
    """Self-supervised pretraining on biosignals and images: PART on grids with N axes."""


for _command in (
    studies.demo,
    data.simulate,
    data.fetch,
    data.prepare,
    data.info,
    data.check,
    training.pretrain,
    training.finetune,
    training.detect,
    training.evaluate,
    training.probe,
    training.embed,
    training.export,
    studies.curve,
    studies.sweep,
    studies.show,
    studies.stage,
    studies.serve,
    studies.report,
    studies.bench,
):
    main.add_command(_command)
