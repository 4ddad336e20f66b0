"""Commands that run several trainings, write a page or measure: curve, show, stage, bench ..."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from biopart.cli.options import (
    FOLDER,
    RUN,
    STORE,
    cache_options,
    jobs_option,
    output_options,
    run_option,
    scheduler_option,
    set_option,
    workers_options,
    wrong_use,
)
from biopart.terminal import Output

BENCHES = ["signals", "images", "part", "objectives", "teachers", "gpu", "beside"]

if TYPE_CHECKING:
    from biopart.recipe import Recipe


@click.command()
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True, help="Folder to fill.")
@output_options
def demo(out: Path, output: Output) -> None:
    """Simulate nights, prepare, pretrain and fine-tune, and write a page about the results."""
    from biopart.studies.demo import run_demo, table

    result = run_demo(out, output.say)
    output.emit(result, [*table(result), f"page: {result['page']}"])


@contextmanager
def stoppable() -> Iterator[None]:
    """After Ctrl-C, print how to continue and exit with the status of an interrupt, 130."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped; the same command continues with the remaining trainings", err=True)
        sys.exit(130)


def changes_of(
    section: str,
    changes: tuple[str, ...],
    repeats: int | None,
    store: Path | None,
    **lists: str | None,
) -> tuple[str, ...]:
    """Return the options of a curve or sweep as settings of its recipe; --set comes last.

    Examples
    --------
    >>> changes_of("curve", ("seed=1",), 3, None, methods="part,mae", sizes=None)
    ('curve.methods=[part, mae]', 'curve.repeats=3', 'seed=1')
    """
    spelled = [
        f"{section}.{key}=[{', '.join(item.strip() for item in text.split(','))}]"
        for key, text in lists.items()
        if text is not None
    ]
    spelled += [] if repeats is None else [f"{section}.repeats={repeats}"]
    spelled += [] if store is None else [f"data.store={json.dumps(str(store), ensure_ascii=False)}"]
    return (*spelled, *changes)


@click.command()
@click.argument("recipe")
@click.option("--methods", help="Comma-separated; default: the recipe's.")
@click.option(
    "--sizes", "--subjects", "sizes", help="Labelled persons, or images per class, e.g. 1,2,5,10."
)
@click.option("--lengths", help="Steps of pretraining to compare, e.g. 600,3000.")
@click.option("--repeats", type=click.IntRange(1), help="Seeds; default: the recipe's.")
@click.option("--store", type=STORE, help="Prepared store; default: the recipe's.")
@click.option(
    "--run", "runs", type=RUN, multiple=True, help="Finished pretraining to reuse; repeatable."
)
@click.option("--out", type=FOLDER, help="Folder of the curve; default curves/<name>.")
@workers_options
@set_option
@click.option("--dry-run", is_flag=True, help="Print the plan and an estimate of the time.")
@cache_options
@output_options
def curve(
    recipe: str,
    out: Path | None,
    runs: tuple[Path, ...],
    how: dict[str, Any],
    dry_run: bool,
    output: Output,
    **wanted: Any,
) -> None:
    """Compare methods of a RECIPE by labelled persons; repeat the command to continue."""
    from biopart.recipe import load_recipe

    with wrong_use():
        loaded = load_recipe(recipe, changes_of("curve", **wanted))
    folder = out or Path("curves") / loaded.name
    run_or_announce("curve", loaded, folder, output, runs=runs, dry_run=dry_run, **how)


@click.command()
@click.argument("recipe")
@click.option("--over", multiple=True, metavar="KEY=A,B,C", help="Key and values; repeatable.")
@click.option("--repeats", type=click.IntRange(1), help="Seeds; default: the recipe's.")
@click.option("--store", type=STORE, help="Prepared store; default: the recipe's.")
@click.option("--out", type=FOLDER, help="Folder of the sweep; default sweeps/<name>.")
@workers_options
@set_option
@click.option("--dry-run", is_flag=True, help="Print the plan and an estimate of the time.")
@cache_options
@output_options
def sweep(
    recipe: str,
    over: tuple[str, ...],
    out: Path | None,
    how: dict[str, Any],
    dry_run: bool,
    output: Output,
    **wanted: Any,
) -> None:
    """Compare values of keys of a RECIPE, all else equal; repeat the command to continue."""
    from biopart.recipe import load_recipe
    from biopart.studies.compare.variants import parse_grid, settings_of

    with wrong_use():
        listed = [f"sweep.over={json.dumps(parse_grid(over), ensure_ascii=False)}"] if over else []
        loaded = load_recipe(recipe, (*listed, *changes_of("sweep", **wanted)))
        settings_of(loaded)
    folder = out or Path("sweeps") / loaded.name
    run_or_announce("sweep", loaded, folder, output, dry_run=dry_run, **how)


def run_or_announce(
    kind: Literal["curve", "sweep"],
    recipe: "Recipe",
    folder: Path,
    output: Output,
    *,
    runs: tuple[Path, ...] = (),
    dry_run: bool,
    **how: Any,
) -> None:
    """Run a study, or print its plan; exit status 1 if a training failed."""
    from biopart.studies.compare.study import announce, lines_of, run_study
    from biopart.studies.compare.work import Workers

    with stoppable(), output.trainings(kind) as progress:
        workers = Workers(say=output.say, progress=progress, **how)
        if dry_run:
            output.emit(announce(kind, recipe, folder, workers, runs=runs))
            return
        result = run_study(kind, recipe, folder, workers, runs=runs)
    output.emit(result, lines_of(result))
    if result["failed"]:
        sys.exit(1)


@click.command()
@click.argument("run", type=RUN, required=False)
@click.option(
    "--view",
    "views",
    type=click.Choice(
        ["reconstruction", "uncertainty", "symmetry", "scale", "attention", "similarity"]
    ),
    multiple=True,
    help="Repeatable; default: every view that the run allows.",
)
@click.option(
    "--items",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Windows or images to draw.",
)
@click.option("--store", type=STORE, help="The store, if it has moved.")
@click.option("--out", type=FOLDER, help="Folder; default RUN/show.")
@cache_options
@output_options
def show(
    run: Path | None, views: Any, items: int, store: Path | None, out: Path | None, output: Output
) -> None:
    """Draw what a RUN (default: the newest) makes of held-out windows or images."""
    from biopart.run import find_run
    from biopart.studies.show import lines_of, run_show

    result = run_show(find_run(run), out, views=views, items=items, store=store)
    output.emit(result, lines_of(result))


@click.command()
@click.argument("night", type=STORE)
@run_option
@click.option(
    "--out", type=FOLDER, default=Path("night"), show_default=True, help="Results folder."
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="EEG=C4-A1",
    help="Use C4-A1 as the model's channel EEG; repeat it to average over several.",
)
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Expert's hypnogram, or a folder of them."
)
@click.option("--lights-off", metavar="22:30", help="Clock time; default: the recording's start.")
@click.option("--lights-on", metavar="06:30", help="Clock time; default: the recording's end.")
@click.option("--quality", is_flag=True, help="Also measure how well each second fits its context.")
@click.option("--codes", help="Numeric codes of the truth: aasm, rk, rem4, ucddb or dreams.")
@click.option(
    "--bad-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Largest share of a good epoch that is flat, clipped or missing.",
)
@click.option("--clear", is_flag=True, help="Replace the results of another night in the folder.")
@jobs_option
@scheduler_option
@cache_options
@output_options
def stage(
    night: Path,
    run_path: Path | None,
    out: Path,
    channels: tuple[str, ...],
    output: Output,
    lights_off: str | None,
    lights_on: str | None,
    **options: Any,
) -> None:
    """Stage a NIGHT, a folder of nights or a store: hypnogram, probabilities, statistics, page."""
    from biopart.executor import calls_on
    from biopart.run import find_run
    from biopart.studies.stage import StagingOptions, channels_of, lines_of, stage_nights

    if options["codes"] and options["truth"] is None:
        raise click.UsageError("--codes says what the numbers of --truth mean; give --truth too")
    with wrong_use():
        chosen = channels_of(channels)
    try:
        run = find_run(run_path).finetuned()
    except FileNotFoundError as error:
        raise click.UsageError(
            f"{error} (no weights are shipped; train a model with biopart pretrain RECIPE, then "
            "biopart finetune)"
        ) from error
    how = {key: options.pop(key) for key in ("jobs", "scheduler")}
    staging = StagingOptions(channels=chosen, lights=(lights_off, lights_on), **options)
    source = click.get_current_context().get_parameter_source("out")
    named = source is click.core.ParameterSource.DEFAULT
    if how["scheduler"]:  # workers are in other folders
        night, out = night.absolute(), out.absolute()
    with calls_on(how["scheduler"]):
        results = stage_nights(
            night, run, out, staging, named=named, jobs=how["jobs"], say=output.say
        )
    output.emit({"nights": results}, lines_of(results))
    if any("error" in one for one in results):
        sys.exit(1)


@click.command()
@click.argument("run", type=RUN)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; all but this machine's own need --token.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--token", envvar="BIOPART_TOKEN", help="Required from every visitor; or set BIOPART_TOKEN."
)
@click.option(
    "--limit-mb", type=click.IntRange(1), default=500, show_default=True, help="Largest upload, MB."
)
@click.option(
    "--keep-min",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="Minutes until results are deleted.",
)
@output_options
def serve(run: Path, output: Output, **options: Any) -> None:
    """Serve a local web page that stages nights with a fine-tuned RUN, until Ctrl-C."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "python_multipart")):
        raise click.UsageError(
            'serve needs the extra serve; install it: pip install "biopart[serve]"'
        )
    from biopart.run import find_run
    from biopart.studies.serve import serve as run_server

    run_server(find_run(run), say=lambda line: output.emit({"address": line}, [line]), **options)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Page to write.",
)
@output_options
def report(runs: tuple[Path, ...], out: Path, output: Output) -> None:
    """Write one page about RUNS: settings side by side, curves, results, provenance."""
    from biopart.studies.report import report as write_report

    path = write_report(runs, out)
    output.emit({"page": str(path)}, [f"page: {path}"])


@click.command()
@click.argument(
    "what",
    type=click.Choice(BENCHES),
)
@click.option(
    "--repeats", type=click.IntRange(1), default=5, show_default=True, help="Timed rounds."
)
@output_options
def bench(what: str, repeats: int, output: Output) -> None:
    """Measure speed: a night, images, steps of objectives, a GPU, beside other libraries."""
    from biopart.studies import bench as benches

    measures: dict[str, Callable[..., dict[str, Any]]]
    measures = {
        "signals": benches.bench_signals,
        "images": benches.bench_images,
        "part": benches.bench_part,
        "objectives": benches.bench_objectives,
        "teachers": benches.bench_teachers,
        "gpu": benches.bench_gpu,
        "beside": benches.bench_beside,
    }
    output.emit(measures[what](repeats, output.say))
