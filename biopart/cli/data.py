"""Commands on recordings and stores: simulate, fetch, prepare, info, check."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from biopart.cli.options import (
    FOLDER,
    STORE,
    cache_options,
    jobs_option,
    output_options,
    scheduler_option,
    set_option,
    wrong_use,
)
from biopart.terminal import Output


@click.command()
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


@click.command()
@click.argument("card")
@click.option("--to", type=FOLDER, required=True, help="Raw folder.")
@click.option("--records", type=click.IntRange(1), help="Fetch only the first N records.")
@set_option
@output_options
def fetch(
    card: str, to: Path, records: int | None, changes: tuple[str, ...], output: Output
) -> None:
    """Download the raw files of a data set CARD and verify their published checksums."""
    from biopart.store import load_card
    from biopart.store.image_card import is_image_card
    from biopart.verbs.fetch import fetch as fetch_raw

    with wrong_use():
        if is_image_card(card):
            raise ValueError(
                f"{card} is a card of images, which fetch does not download; unpack them into a "
                f"folder, then: biopart prepare {card} --raw FOLDER --out STORE"
            )
        loaded = load_card(card, changes)
    paths = fetch_raw(loaded, to, records=records, report=output.say)
    output.emit({"files": [str(path) for path in paths]}, [f"{len(paths)} files in {to}"])


@click.command()
@click.argument("card")
@click.option("--raw", type=FOLDER, required=True, help="Folder of raw recordings or images.")
@click.option(
    "--out", type=STORE, required=True, help="Store to create or update: a folder or an address."
)
@jobs_option
@scheduler_option
@click.option(
    "--layout",
    type=click.Choice(["training", "archive"]),
    help="Default: training, or archive for an address.",
)
@set_option
@click.option(
    "--verify", is_flag=True, help="Compare the bytes of all source files, not size and time."
)
@output_options
def prepare(
    card: str,
    changes: tuple[str, ...],
    output: Output,
    scheduler: str | None,
    **options: Any,
) -> None:
    """Prepare raw files into a store by a CARD; a second call updates what has changed."""
    from dataclasses import asdict

    from biopart.addresses import is_address
    from biopart.executor import calls_on
    from biopart.images import ingest_images
    from biopart.signals import ingest
    from biopart.store import load_card
    from biopart.store.image_card import is_image_card, load_image_card

    def on_record(name: str, reason: str | None) -> None:
        output.say(f"{name}: {reason or 'written'}")

    with wrong_use():
        images = is_image_card(card)
        loaded: Any = load_image_card(card, changes) if images else load_card(card, changes)
    if options["layout"] is None:
        options["layout"] = "archive" if is_address(options["out"]) else "training"
    with calls_on(scheduler):
        report = (ingest_images if images else ingest)(loaded, on_record=on_record, **options)
    updated = f"{len(report.updated)} updated, " if report.updated else ""
    lines = [
        f"{options['out']}: {len(report.written)} written, {updated}{len(report.kept)} already "
        f"present, {len(report.refused)} refused"
    ]
    lines += grouped_lines("updated", report.updated)
    lines += grouped_lines("refused", report.refused)
    lines += grouped_lines("warning for", report.warnings)
    lines += grouped_lines("skipped in", report.left_out)
    output.emit(asdict(report), lines)
    if report.refused:
        sys.exit(1)


def grouped_lines(kind: str, remarks: Mapping[str, str | Sequence[str]]) -> list[str]:
    """Return remarks about records as lines, each remark once with its number of records.

    Examples
    --------
    >>> grouped_lines("skipped", {"a": ["no EOG", "flat"], "b": ["no EOG"]})
    ['skipped a and 1 other: no EOG', 'skipped a: flat']
    """
    names: dict[str, list[str]] = {}
    for name, sentences in remarks.items():
        for line in [sentences] if isinstance(sentences, str) else sentences:
            names.setdefault(line, []).append(name)
    return [f"{kind} {_first_of(records)}: {line}" for line, records in names.items()]


def _first_of(names: Sequence[str]) -> str:
    """Return the first of several names and the number of the others."""
    others = len(names) - 1
    return names[0] + (f" and {others} other{'s' if others > 1 else ''}" if others else "")


@click.command()
@click.argument("what", required=False)
@click.option("--schema", is_flag=True, help="Print the JSON schema of a recipe.")
@cache_options
@output_options
def info(what: str | None, schema: bool, output: Output) -> None:
    """Describe a STORE, RUN, RECIPE, CARD, recording or raw folder."""
    from biopart.verbs.info import info as describe
    from biopart.verbs.info import schema as recipe_schema

    if schema:
        click.echo(json.dumps(recipe_schema(), indent=2))
        return
    if what is None:
        raise click.UsageError("give a store, run, recipe, card, recording or folder, or --schema")
    with wrong_use():
        values = describe(what)
    output.emit(values)


@click.command("list")
@click.argument("what", type=click.Choice(["recipes", "cards", "objectives", "encoders"]))
@output_options
def list_(what: Any, output: Output) -> None:
    """List the shipped recipes or cards, the objectives or the encoders."""
    from biopart.verbs.listing import choices

    names = choices(what)
    width = max(map(len, names))
    output.emit(names, [f"{name:{width}}  {line}".rstrip() for name, line in names.items()])


@click.command()
@click.argument("folder", type=FOLDER, default=Path("runs"))
@output_options
def runs(folder: Path, output: Output) -> None:
    """Show the runs in FOLDER (default: runs) as a table: recipe, steps, kappa, age."""
    from biopart.verbs.listing import lines_of, runs_in

    with wrong_use():
        rows = runs_in(folder)
    output.emit({"runs": rows}, lines_of(rows) if rows else [f"no runs in {folder}"])


@click.command()
@click.argument("what")
@click.option("--leak", is_flag=True, help="Measure position leaks of a store.")
@click.option(
    "--artefacts",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of nights; measure whether a PART run detects artefacts added to them.",
)
@click.option("--raw", type=FOLDER, help="Raw files to compare a STORE with, or to try a CARD on.")
@cache_options
@output_options
def check(what: str, leak: bool, artefacts: Path | None, raw: Path | None, output: Output) -> None:
    """List the problems of a STORE, RUN, RECIPE, CARD, recording or raw folder."""
    from biopart.addresses import is_address, place
    from biopart.run import Run, follow_latest, is_run
    from biopart.store.attributes import is_store

    path = place(what)
    if not is_address(path):
        path = follow_latest(path)
    of_store, of_run = is_store(path), not is_address(path) and is_run(path)
    if leak and not of_store:
        raise click.UsageError(f"--leak needs a store; {what} is not a store")
    if artefacts is not None and not of_run:
        raise click.UsageError(f"--artefacts needs a run; {what} is not a run")
    if raw is not None and of_run:
        raise click.UsageError(f"--raw needs a store or a card; {what} is a run")
    if of_store:
        values = _check_store(path, leak, raw)
    elif of_run:
        from biopart.verbs.check import check_run

        values = check_run(Run(path))
        if artefacts is not None:
            from biopart.studies.stage.artefacts import check_artefacts

            values["artefacts"] = check_artefacts(Run(path), artefacts, say=output.say)
    else:
        values = _check_other(what, raw)
    output.emit(values)
    if values["problems"]:
        sys.exit(1)


def _check_store(path: Path, leak: bool, raw: Path | None) -> dict[str, Any]:
    """Check a store."""
    from biopart.store import Store
    from biopart.verbs import check as checks

    store = Store(path, cached=False)
    leak_result = checks.check_leak(store) if leak else None  # first: it may raise
    values = checks.check_store(store, raw)
    if leak_result is not None:
        values["leak"] = leak_result
        if leak_result["leaks"]:
            values["problems"].append("the edges of windows can be distinguished from their middle")
    return values


def _check_other(what: str, raw: Path | None) -> dict[str, Any]:
    """Check a recipe, a card, a recording or a raw folder."""
    from biopart.store import load_card
    from biopart.store.image_card import is_image_card, load_image_card
    from biopart.verbs.info import info as describe

    card: Any
    with wrong_use():
        if raw is not None:
            card = load_image_card(what) if is_image_card(what) else load_card(what)
        else:
            about = describe(what)
    if raw is not None:
        from biopart.verbs.inspect import try_card

        return try_card(card, raw)
    if "name" in about:
        return {"name": about["name"], "problems": [], "remarks": []}
    faults = (
        [f"{c}: {v['fault']}" for c, v in about["channels"].items() if "fault" in v]
        if ("recording" in about)
        else [f"{name}: {reason}" for name, reason in about["refused"].items()]
    )
    return {**about, "problems": faults, "remarks": about.get("warnings", [])}
