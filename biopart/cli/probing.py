"""The command that asks frozen encoders: probe."""

from pathlib import Path
from typing import Any

import click

from biopart.cli.options import (
    STORE,
    cache_options,
    jobs_option,
    output_options,
    run_option,
    scheduler_option,
    set_option,
    store_option,
)
from biopart.cli.training import seed_option, subjects_option
from biopart.terminal import Output, readable

SUITE_KEYS = (
    "encoders",
    "suite",
    "data",
    "raw",
    "weights",
    "items",
    "query_in_gallery",
    "baseline",
    "out",
)


def suite_options(command: Any) -> Any:
    """Add what --suite needs to a command."""
    for add in reversed(
        (
            click.argument("encoders", nargs=-1),
            click.option(
                "--suite",
                type=click.Choice(["part-aware"]),
                help="Ask ENCODERS (runs, timm:NAME) about objects and parts, and write a page.",
            ),
            click.option(
                "--data",
                type=STORE,
                help="Of --suite: a store, or a card of annotated images.",
            ),
            click.option(
                "--raw", type=click.Path(path_type=Path), help="Folder of the annotated images."
            ),
            click.option(
                "--weights",
                type=click.Path(path_type=Path, exists=True),
                multiple=True,
                help="File of weights for each timm:NAME, in order.",
            ),
            click.option(
                "--items",
                type=click.IntRange(2),
                help="Items of a task to fit on, and to score; default 20000.",
            ),
            click.option(
                "--query-in-gallery",
                is_flag=True,
                help="Retrieval as released: a query finds itself.",
            ),
            click.option(
                "--baseline",
                help="Encoder to compare with; by default an untrained one like each run.",
            ),
            click.option(
                "--out",
                type=click.Path(path_type=Path),
                help="Folder of the page; suite/DATA by default.",
            ),
        )
    ):
        command = add(command)
    return command


@click.command()
@run_option
@subjects_option
@seed_option
@set_option
@store_option
@click.option(
    "--robustness", is_flag=True, help="Score on corrupted items instead, and write a page."
)
@suite_options
@jobs_option
@scheduler_option
@cache_options
@output_options
def probe(
    run_path: Path | None,
    robustness: bool,
    scheduler: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Probe a frozen encoder (ENCODERS: one run), or ask several about parts with --suite."""
    from biopart.executor import calls_on
    from biopart.run import as_run, find_run
    from biopart.verbs.probe import probe as fit_probes

    asked = {key: options.pop(key) for key in SUITE_KEYS}
    if asked["suite"] is not None:
        ask_suite(asked, run_path, output, robustness=robustness, scheduler=scheduler, **options)
        return
    encoders = asked.pop("encoders")
    given = [key for key, value in asked.items() if value not in (None, (), False)]
    if given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} needs --suite part-aware")
    if len(encoders) + (run_path is not None) > 1:
        raise click.UsageError("give one run, or --suite part-aware for several encoders")
    run = as_run(encoders[0]) if encoders else find_run(run_path)
    if robustness:
        from biopart.studies.robustness import lines_of, run_robustness

        if scheduler or options.pop("jobs") > 1:
            raise click.UsageError("--robustness runs in one process; leave out the processes")
        scores = run_robustness(run, **options)
        output.emit(scores, lines_of(scores))
        return
    with calls_on(scheduler):
        results = fit_probes(run, **options)
    shown = ("kappa", "kappa_ci95", "kappa_mean", "macro_f1", "accuracy")
    lines = readable({n: {k: r[k] for k in shown if k in r} for n, r in results.items()})
    output.emit(results, lines)


def ask_suite(asked: dict[str, Any], run_path: Path | None, output: Output, **others: Any) -> None:
    """Ask encoders about objects and parts."""
    from biopart.probing.encoders import timm_candidates
    from biopart.run import as_run, find_run
    from biopart.studies.suite import Options, free_folder, lines_of, run_suite
    from biopart.verbs.suite import ITEMS, Data

    unused = [key for key in ("subjects", "robustness", "scheduler", "store") if others.get(key)]
    unused += ["jobs"] if others["jobs"] > 1 else []
    if unused:
        raise click.UsageError(f"--{unused[0]} has no effect with --suite")
    if asked["data"] is None:
        raise click.UsageError("--suite needs --data: a store, or a card of annotated images")
    named = [one for one in asked["encoders"] if one.startswith("timm:")]
    runs = [as_run(one) for one in asked["encoders"] if not one.startswith("timm:")]
    runs += [find_run(run_path)] if run_path is not None or not asked["encoders"] else []
    data = Data(asked["data"], asked["raw"], asked["items"] or ITEMS)
    seed = others["seed"] or 0
    options = Options(
        changes=others["changes"],
        seed=seed,
        own_included=asked["query_in_gallery"],
        baseline=asked["baseline"],
    )
    result = run_suite(
        runs,
        data,
        asked["out"] or free_folder(asked["data"]),
        options=options,
        others=timm_candidates(named, asked["weights"]),
        on_task=output.say,
    )
    output.emit(result, lines_of(result))
