"""Options that several commands share, and how a user's mistakes are reported."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from biopart.terminal import Output

Function = TypeVar("Function", bound=Callable[..., Any])


class Folder(click.Path):
    """A folder; ``~`` is the home folder, even if no shell has expanded it."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder that the value names."""
        return super().convert(Path(value).expanduser(), param, ctx)


class RunFolder(Folder):
    """A run folder or a folder in it; the file ``runs/latest`` names the newest run."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder that the value names."""
        from biopart.run import find_run, follow_latest

        path = Path(value).expanduser()
        if follow_latest(path) != path:
            try:
                value = find_run(path).path
            except FileNotFoundError as error:
                self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


class StorePlace(click.Path):
    """A folder or file, or an address such as ``s3://bucket/store.zarr``."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the place that the value names."""
        from biopart.addresses import place

        try:
            return place(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


FOLDER = Folder()
STORE = StorePlace()
RUN = RunFolder()


@contextmanager
def wrong_use() -> Iterator[None]:
    """Report a wrong recipe, card or setting as a usage error: exit status 2."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error


def output_options(function: Function) -> Function:
    """Add --json and --quiet, which the command gets as one argument ``output``."""

    @click.option("--json", "as_json", is_flag=True, help="Results as JSON.")
    @click.option("--quiet", is_flag=True, help="No progress on stderr.")
    @functools.wraps(function)
    def command(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        return function(*args, output=Output(as_json, quiet), **options)

    return cast(Function, command)


def workers_options(function: Function) -> Function:
    """Add --jobs, --scheduler and --retry, which the command gets as one mapping ``how``."""

    @jobs_option
    @scheduler_option
    @click.option("--retry", is_flag=True, help="Repeat failed trainings.")
    @functools.wraps(function)
    def command(*args: Any, jobs: int, scheduler: str | None, retry: bool, **options: Any) -> Any:
        how = {"jobs": jobs, "scheduler": scheduler, "retry": retry}
        return function(*args, how=how, **options)

    return cast(Function, command)


jobs_option = click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes."
)
scheduler_option = click.option(
    "--scheduler",
    metavar="tcp://HOST:8786",
    help="Use the workers of this dask cluster instead of --jobs.",
)


def cache_options(function: Function) -> Function:
    """Add --cache and --cache-gb, for stores at an address.

    They are kept in the environment, for this process and those that it starts.
    """

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        from biopart.store.cache import FOLDER, GIGABYTES

        if value is not None:
            os.environ[{"cache": FOLDER, "cache_gb": GIGABYTES}[str(param.name)]] = str(value)
        return value

    size = click.option(
        "--cache-gb",
        type=click.FloatRange(0, min_open=True),
        expose_value=False,
        callback=keep,
        help="Gigabytes of the cache; default 50.",
    )
    folder = click.option(
        "--cache",
        type=FOLDER,
        expose_value=False,
        callback=keep,
        help="Cache folder for stores at an address.",
    )
    return folder(size(function))


store_option = click.option(
    "--store", type=STORE, help="The store, if it has moved since the run was started."
)
set_option = click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replace a value; repeatable."
)
dry_option = click.option("--dry-run", is_flag=True, help="Do everything on one batch.")
run_option = click.option(
    "--run",
    "run_path",
    type=RUN,
    help="Run folder, or RUN/finetune/NAME; default: the newest run and fine-tuning.",
)
