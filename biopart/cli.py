"""The command line: one entry point, each command a few lines over its verb.

Progress goes to stderr, results to stdout (JSON with --json). Exit 0 done, 1 failed, 2 wrong use.
Verbs are imported inside their commands, so that ``prepare`` never loads torch.
"""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import click

import biopart
from biopart.terminal import Output, readable

Function = TypeVar("Function", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)


class Commands(click.Group):
    """A group that turns mistakes of a user into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a fault that names itself ends with status 1, without a traceback."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(biopart.__version__, prog_name="biopart")
def main() -> None:
    """Self-supervised pretraining on biosignals and images: PART on grids with N axes."""


@contextmanager
def wrong_use() -> Iterator[None]:
    """Report a wrong recipe, card or setting as wrong use: exit status 2."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error


def output_options(function: Function) -> Function:
    """Add --json and --quiet, which reach the command as one ``output``."""

    @click.option("--json", "as_json", is_flag=True, help="Results as JSON.")
    @click.option("--quiet", is_flag=True, help="No progress on stderr.")
    @functools.wraps(function)
    def command(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        return function(*args, output=Output(as_json, quiet), **options)

    return cast(Function, command)


set_option = click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replace a value; repeatable."
)
dry_option = click.option("--dry-run", is_flag=True, help="Do everything on one batch.")
run_option = click.option(
    "--run",
    "run_path",
    type=FOLDER,
    help="Run folder, or RUN/finetune/NAME; default: the newest run and fine-tuning.",
)


@main.command()
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True, help="Folder to fill.")
@output_options
def demo(out: Path, output: Output) -> None:
    """Simulate nights, prepare, pretrain, finetune, and write a page of it all."""
    from biopart.studies.demo import run_demo, table

    result = run_demo(out, output.say)
    output.emit(result, [*table(result), f"page: {result['page']}"])


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--persons", type=click.IntRange(1), default=12, show_default=True)
@click.option("--hours", type=click.FloatRange(0.2, 24), default=8.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--format", "kind", type=click.Choice(["wfdb", "edf"]), default="wfdb", show_default=True
)
@click.option("--channels", help="Comma-separated; default: all 13.")
@output_options
def simulate(
    folder: Path,
    persons: int,
    hours: float,
    seed: int,
    kind: Any,
    channels: str | None,
    output: Output,
) -> None:
    """Simulate raw nights in FOLDER, in the layout of PhysioNet 2018 or as EDF."""
    from biopart.signals.simulate import simulate_cohort

    with wrong_use():
        names = None if channels is None else [n.strip() for n in channels.split(",")]
        paths = simulate_cohort(
            folder,
            persons=persons,
            hours=hours,
            seed=seed,
            kind=kind,
            channels=names,
            report=output.say,
        )
    output.emit(
        {"simulated": [str(path) for path in paths]},
        [f"{len(paths)} simulated nights in {folder}"],
    )


@main.command()
@click.argument("card")
@click.option("--to", type=FOLDER, required=True, help="Raw folder.")
@click.option("--records", type=click.IntRange(1), help="Only the first so many records.")
@set_option
@output_options
def fetch(
    card: str, to: Path, records: int | None, changes: tuple[str, ...], output: Output
) -> None:
    """Fetch the raw files of a data set CARD, checked against the published sums."""
    from biopart.store import load_card
    from biopart.verbs.fetch import fetch as fetch_raw

    with wrong_use():
        loaded = load_card(card, changes)
    paths = fetch_raw(loaded, to, records=records, report=output.say)
    output.emit({"files": [str(path) for path in paths]}, [f"{len(paths)} files in {to}"])


@main.command()
@click.argument("card")
@click.option("--raw", type=FOLDER, required=True, help="Folder of raw recordings.")
@click.option("--out", type=FOLDER, required=True, help="Store to make or complete.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--layout", type=click.Choice(["training", "archive"]), default="training", show_default=True
)
@set_option
@output_options
def prepare(
    card: str,
    raw: Path,
    out: Path,
    jobs: int,
    layout: Any,
    changes: tuple[str, ...],
    output: Output,
) -> None:
    """Prepare raw recordings into a store, as CARD says; a second call adds what is missing."""
    from dataclasses import asdict

    from biopart.signals.ingest import ingest
    from biopart.store import load_card

    with wrong_use():
        loaded = load_card(card, changes)

    def on_record(name: str, reason: str | None) -> None:
        output.say(f"{name}: {reason or 'written'}")

    report = ingest(loaded, raw, out, jobs=jobs, layout=layout, on_record=on_record)
    lines = [
        f"{out}: {len(report.written)} written, {len(report.kept)} there before, "
        f"{len(report.refused)} refused"
    ]
    for kind in ("refused", "warnings", "left_out"):
        for name, what in getattr(report, kind).items():
            lines += [
                f"{kind} {name}: {line}" for line in ([what] if isinstance(what, str) else what)
            ]
    output.emit(asdict(report), lines)
    if report.refused:
        sys.exit(1)


@main.command()
@click.argument("what", required=False)
@click.option("--schema", is_flag=True, help="Print the JSON schema of a recipe.")
@output_options
def info(what: str | None, schema: bool, output: Output) -> None:
    """Say what a STORE, RUN, RECIPE or CARD is."""
    from biopart.verbs.info import info as describe
    from biopart.verbs.info import schema as recipe_schema

    if schema:
        click.echo(json.dumps(recipe_schema(), indent=2))
        return
    if what is None:
        raise click.UsageError("give a store, a run or a recipe, or --schema")
    with wrong_use():
        values = describe(what)
    output.emit(values)


@main.command()
@click.argument("what")
@click.option("--leak", is_flag=True, help="Measure position leaks of a store.")
@output_options
def check(what: str, leak: bool, output: Output) -> None:
    """Say what is wrong with a STORE, RUN, RECIPE or CARD."""
    from biopart.verbs import check as checks
    from biopart.verbs.info import info as describe

    path = Path(what)
    if checks.is_store(path):
        from biopart.store import Store

        values = checks.check_store(Store(path))
        if leak:
            values["leak"] = checks.check_leak(Store(path))
            if values["leak"]["leaks"]:
                values["problems"].append("the edges of windows can be told from their middle")
    elif leak:
        raise click.UsageError(f"--leak looks at a store; {what} is none")
    elif checks.is_run(path):
        from biopart.run import Run

        values = checks.check_run(Run(path))
    else:
        with wrong_use():
            values = {"name": describe(what)["name"], "problems": [], "remarks": []}
    output.emit(values)
    if values["problems"]:
        sys.exit(1)


@main.command()
@click.argument("recipe", required=False)
@set_option
@click.option("--out", type=FOLDER, help="Run folder; default runs/<name>/<time>.")
@click.option("--resume", is_flag=True, help="Go on with --out, or with the newest run.")
@click.option("--device", help="auto, cpu or cuda:N.")
@dry_option
@output_options
def pretrain(
    recipe: str | None,
    changes: tuple[str, ...],
    out: Path | None,
    resume: bool,
    device: str | None,
    dry_run: bool,
    output: Output,
) -> None:
    """Pretrain an encoder by a RECIPE: a path, or the name of a shipped one."""
    from biopart.recipe import load_recipe
    from biopart.verbs import pretrain as verb
    from biopart.verbs.info import run_info

    if resume and (recipe or changes or device or dry_run):
        raise click.UsageError("--resume goes on with a run as it was begun; give --out alone")
    if not resume and recipe is None:
        raise click.UsageError("give a recipe, for instance: biopart pretrain demo")
    changes = (*changes, *([f"compute.device={device}"] if device else []))
    with output.progress("pretrain") as report:
        if resume:
            run = verb.resume(out, report)
        else:
            with wrong_use():
                loaded = load_recipe(str(recipe), changes)
            run = verb.pretrain(loaded, out=out, dry_run=dry_run, report=report)
    if dry_run:
        output.emit({"dry_run": "done"}, ["dry run: one batch went through, nothing was kept"])
        return
    output.emit(run_info(run))


@main.command()
@run_option
@click.option("--subjects", type=click.IntRange(1), help="Labelled persons; default: the recipe's.")
@click.option("--seed", type=click.IntRange(0), help="Draws the persons; default: the recipe's.")
@click.option("--from-scratch", is_flag=True, help="The supervised baseline.")
@click.option("--context", type=int, default=1, show_default=True, help="Windows per decision.")
@set_option
@dry_option
@output_options
def finetune(
    run_path: Path | None,
    subjects: int | None,
    seed: int | None,
    from_scratch: bool,
    context: int,
    changes: tuple[str, ...],
    dry_run: bool,
    output: Output,
) -> None:
    """Fine-tune a run on the labels of a few persons and score it on test persons."""
    from biopart.run import find_run
    from biopart.verbs.finetune import finetune as tune
    from biopart.verbs.pretrain import stored_recipe

    run = find_run(run_path)
    changes = (*changes, f"finetune.context={context}")
    with wrong_use():
        stored_recipe(run.pretrained(), changes)
    with output.progress("finetune") as report:
        target = tune(
            run,
            subjects=subjects,
            seed=seed,
            from_scratch=from_scratch,
            changes=changes,
            dry_run=dry_run,
            report=report,
        )
    if dry_run:
        output.emit({"dry_run": "done"}, ["dry run: one batch went through, nothing was kept"])
        return
    result = target.result()
    for warning in result["warnings"]:
        output.say(f"warning: {warning}")
    output.emit({"run": str(target.path), **result})


@main.command()
@run_option
@click.option("--store", type=FOLDER, required=True, help="Prepared store.")
@click.option("--persons", help="Comma-separated; default: everybody in the store.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@output_options
def evaluate(
    run_path: Path | None, store: Path, persons: str | None, device: str, output: Output
) -> None:
    """Score a fine-tuned model on persons that it has never seen."""
    from biopart.run import find_run
    from biopart.verbs.evaluate import evaluate as score

    names = None if persons is None else [n.strip() for n in persons.split(",") if n.strip()]
    output.emit(score(find_run(run_path), store, names, device=device))


@main.command()
@run_option
@click.option("--subjects", type=click.IntRange(1), help="Labelled persons; default: the recipe's.")
@click.option("--seed", type=click.IntRange(0), help="Draws the persons; default: the recipe's.")
@set_option
@output_options
def probe(
    run_path: Path | None,
    subjects: int | None,
    seed: int | None,
    changes: tuple[str, ...],
    output: Output,
) -> None:
    """Probe the frozen encoder, beside an untrained one and band powers, on the same persons."""
    from biopart.run import find_run
    from biopart.verbs.probe import probe as fit_probes

    results = fit_probes(find_run(run_path), subjects=subjects, seed=seed, changes=changes)
    shown = ("kappa", "kappa_ci95", "kappa_mean", "macro_f1", "accuracy")
    lines = readable({name: {k: r[k] for k in shown} for name, r in results.items()})
    output.emit(results, lines)


@main.command()
@click.argument("what", type=click.Choice(["signals", "part"]))
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@output_options
def bench(what: str, repeats: int, output: Output) -> None:
    """Measure the speed of the path from a raw night to windows, or of a PART step."""
    from biopart.studies import bench as benches

    measure = benches.bench_signals if what == "signals" else benches.bench_part
    output.emit(measure(repeats, output.say))
