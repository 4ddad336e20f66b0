"""Commands that train, score and export: pretrain, finetune, detect, evaluate, embed, export."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from biopart.cli.options import (
    FOLDER,
    RUN,
    STORE,
    cache_options,
    dry_option,
    jobs_option,
    output_options,
    run_option,
    scheduler_option,
    set_option,
    store_option,
    wrong_use,
)
from biopart.terminal import Output, readable

subjects_option = click.option(
    "--subjects",
    type=click.IntRange(1),
    help="Labelled persons, or images per class; default: the recipe's.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    help="Seed of the draw of persons or images; default: the recipe's.",
)


def processes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --devices, --nodes and --strategy to a command."""
    strategy = click.option(
        "--strategy",
        type=click.Choice(["ddp", "fsdp"]),
        help="Each device has all weights (ddp, the default) or a share of them (fsdp).",
    )
    nodes = click.option(
        "--nodes", type=click.IntRange(1), help="Machines that run this command together."
    )
    devices = click.option(
        "--devices",
        type=click.IntRange(1),
        help="Processes on this machine, a GPU each if it has any.",
    )
    return devices(nodes(strategy(command)))


def given_processes(options: dict[str, Any]) -> dict[str, Any]:
    """Take from options what was given about processes, for the section ``compute``."""
    given = {key: options.pop(key) for key in ("devices", "nodes", "strategy")}
    chosen = {key: value for key, value in given.items() if value is not None}
    if chosen:  # else torch warns, for every process, of a step where all parameters take part
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return chosen


def spelled(processes: Mapping[str, Any]) -> list[str]:
    """Return what was given about processes as settings of a recipe.

    Examples
    --------
    >>> spelled({"devices": 8})
    ['compute.devices=8']
    """
    return [f"compute.{key}={value}" for key, value in processes.items()]


@click.command()
@click.argument("recipe", required=False)
@set_option
@click.option("--out", type=FOLDER, help="Run folder; default runs/<name>/<time>.")
@click.option("--resume", is_flag=True, help="Continue the run in --out, or the newest run.")
@click.option("--device", help="auto, cpu or cuda:N.")
@processes_option
@dry_option
@cache_options
@output_options
def pretrain(
    recipe: str | None,
    changes: tuple[str, ...],
    out: Path | None,
    resume: bool,
    device: str | None,
    dry_run: bool,
    output: Output,
    **processes: Any,
) -> None:
    """Pretrain an encoder with a RECIPE, given as a path or as the name of a shipped recipe."""
    given = given_processes(processes)
    from biopart.recipe import load_recipe
    from biopart.train import Stop, Stopped
    from biopart.verbs import pretrain as verb
    from biopart.verbs.info import run_info

    if resume and (device or dry_run or (changes and recipe is None)):
        raise click.UsageError(
            "--resume continues a run with its own settings; give only --out and its own recipe"
        )
    if not resume and recipe is None:
        raise click.UsageError("give a recipe, for instance: biopart pretrain demo")
    changes = (*changes, *([f"compute.device={device}"] if device else []))
    changes = (*changes, *spelled(given))
    with output.progress("pretrain") as report, Stop() as stop:
        with wrong_use():
            loaded = None if recipe is None else load_recipe(recipe, changes)
        try:
            if resume:
                run = verb.resume(out, report, recipe=loaded, processes=given, stop=stop)
            else:
                assert loaded is not None
                run = verb.pretrain(loaded, out=out, dry_run=dry_run, report=report, stop=stop)
        except Stopped as stopped:
            again = "biopart pretrain --resume" + ("" if out is None else f" --out {out}")
            emit_requeue(output, stopped.step, again, interrupted=stop.interrupted)
            return
    if dry_run:
        output.emit({"dry_run": "done"}, ["dry run: one batch was processed, nothing was saved"])
        return
    output.emit(run_info(run))


def emit_requeue(output: Output, step: int, command: str, *, interrupted: bool) -> None:
    """State after which step a training was stopped, and the command that continues it.

    A scheduler finds exit status 0 and "requeue"; after Ctrl-C the status is an interrupt's, 130.
    """
    line = f"stopped after step {step}; continue with: {command}"
    output.emit(
        {"stopped": step, "requeue": command}, [line if interrupted else f"requeue: {line}"]
    )
    if interrupted:
        sys.exit(130)


@click.command()
@run_option
@subjects_option
@seed_option
@click.option("--from-scratch", is_flag=True, help="Train the supervised baseline.")
@click.option(
    "--context",
    type=int,
    help="Windows that each is classified from, itself included; default: the recipe's.",
)
@set_option
@store_option
@processes_option
@dry_option
@cache_options
@output_options
def finetune(
    run_path: Path | None,
    subjects: int | None,
    seed: int | None,
    from_scratch: bool,
    context: int | None,
    dry_run: bool,
    output: Output,
    **options: Any,
) -> None:
    """Fine-tune a run on the labels of a few persons and score it on test persons."""
    changes, store = options.pop("changes"), options.pop("store")
    given = given_processes(options)
    from biopart.experiment.stored import stored_recipe
    from biopart.run import find_run
    from biopart.verbs.finetune import finetune as tune

    run = find_run(run_path)
    own = [] if context is None else [f"finetune.context={context}"]
    changes = (*changes, *own, *spelled(given))
    with wrong_use():
        stored_recipe(run.pretrained(), changes, store)
    with output.progress("finetune") as report:
        target = tune(
            run,
            subjects=subjects,
            seed=seed,
            from_scratch=from_scratch,
            changes=changes,
            store=store,
            dry_run=dry_run,
            report=report,
        )
    if dry_run:
        output.emit({"dry_run": "done"}, ["dry run: one batch was processed, nothing was saved"])
        return
    result = target.result()
    for warning in result["warnings"]:
        output.say(f"warning: {warning}")
    values = {"run": str(target.path), **result}
    output.emit(values, score_lines(values))


def score_lines(values: Mapping[str, Any]) -> list[str]:
    """Return a score as lines; the tables of single persons or images are only in the JSON.

    Examples
    --------
    >>> score_lines({"kappa": 0.5, "confusion_by_person": {"p1": [[3, 1], [0, 2]]}})
    ['kappa: 0.5']
    """
    return readable({k: v for k, v in values.items() if not k.startswith("confusion_by_")})


@click.command()
@run_option
@click.option("--store", type=STORE, required=True, help="Prepared store.")
@click.option("--persons", help="Comma-separated; default: all in the store.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@cache_options
@output_options
def evaluate(
    run_path: Path | None, store: Path, persons: str | None, device: str, output: Output
) -> None:
    """Score a fine-tuned model on persons who were not used to train it."""
    from biopart.run import find_run
    from biopart.verbs.evaluate import evaluate as score

    names = None if persons is None else [n.strip() for n in persons.split(",") if n.strip()]
    values = score(find_run(run_path), store, names, device=device)
    output.emit(values, score_lines(values))


def section_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what ``run_section`` needs to a command."""
    weights = "Run, timm checkpoint file or timm model name; default: the recipe's."
    for add in (
        output_options,
        dry_option,
        processes_option,
        click.option("--resume", is_flag=True, help="Continue the run in --out."),
        click.option("--out", type=FOLDER, help="Run folder; default runs/<name>/<time>."),
        set_option,
        click.option("--weights", help=weights),
    ):
        command = add(command)
    return command


EXAMPLES = {"detect": "coco_maskrcnn", "segment": "mitdb_segment"}


def run_section(
    section: str,
    train: Callable[..., Any],
    recipe: str | None,
    output: Output,
    *,
    given: Mapping[str, str | None],
    **options: Any,
) -> None:
    """Train by a section of a recipe in a run folder of its own, and print the scores."""
    many = given_processes(options)
    from biopart.recipe import Recipe, load_recipe
    from biopart.run import find_run
    from biopart.train import Stop, Stopped

    changes, resume = options.pop("changes"), options["resume"]
    if resume and recipe is not None:
        raise click.UsageError(f"--resume takes the recipe of the run in --out; leave out {recipe}")
    if resume == (recipe is not None) or (resume and options["out"] is None):
        raise click.UsageError(
            f"give a recipe, for instance {EXAMPLES[section]}, or --resume --out RUN"
        )
    own = [
        f"{section}.{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in given.items()
        if value
    ]
    with wrong_use():
        if recipe is not None and section not in load_recipe(recipe, changes).model_fields_set:
            raise ValueError(
                f"recipe {recipe} has no section {section}; take {EXAMPLES[section]}, or add one"
            )
        every = (*own, *changes, *spelled(many))
        loaded = Recipe() if recipe is None else load_recipe(recipe, every)
    options |= {"processes": many} if resume else {}
    with output.progress(section) as report, Stop() as stop:
        try:
            run = train(loaded, **options, report=report, stop=stop)
        except Stopped as stopped:
            folder = options["out"] or find_run(None).path
            again = f"biopart {section} --resume --out {folder}"
            emit_requeue(output, stopped.step, again, interrupted=stop.interrupted)
            return
    if options["dry_run"]:
        output.emit({"dry_run": "done"}, ["dry run: one batch was processed, nothing was saved"])
        return
    result = run.result()
    output.emit({"run": str(run.path), **result}, place_lines(run.path, result))


def place_lines(path: Path, result: Mapping[str, Any]) -> list[str] | None:
    """Return the scores of a segmentation, a line each; None of others."""
    if "scores" not in result:
        return None
    lines = [f"run: {path}"]
    for name, score in result["scores"].items():
        ends = score["ci95"]
        interval = "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
        lines.append(f"{name}: {score['value']:.3f}{interval}")
    lines += [f"IoU of {name}: {value:.3f}" for name, value in result["iou"].items()]
    return [*lines, f"seconds: {result['seconds']:.0f}"]


@click.command()
@click.argument("recipe", required=False)
@click.option("--images", type=FOLDER, help="COCO folder; default: detect.root of the recipe.")
@section_options
def detect(
    recipe: str | None,
    images: Path | None,
    weights: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Train Mask R-CNN with a RECIPE on images in COCO format, and score it on test images."""
    from biopart.verbs.detect import detect as train

    given = {"root": None if images is None else str(images), "weights": weights}
    run_section("detect", train, recipe, output, given=given, **options)


@click.command()
@click.argument("recipe", required=False)
@click.option("--raw", type=FOLDER, help="Folder of annotated images; default: the recipe's.")
@section_options
def segment(
    recipe: str | None,
    raw: Path | None,
    weights: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Train a model that classifies every pixel of images, or sample of recordings, by a RECIPE."""
    from biopart.verbs.segment import segment as train

    given = {"raw": None if raw is None else str(raw), "weights": weights}
    run_section("segment", train, recipe, output, given=given, **options)


@click.command()
@click.argument("run", type=RUN)
@click.option(
    "--to", "target", type=click.Choice(["safetensors", "timm", "onnx", "hub"]), required=True
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder, or ONNX file.")
@output_options
def export(run: Path, target: Any, out: Path, output: Output) -> None:
    """Export the encoder of a RUN, or the classifier of RUN/finetune/NAME, to another library."""
    from biopart.run import find_run
    from biopart.verbs.export import export as write

    output.emit(write(find_run(run), target, out))


@click.command()
@click.argument("what", type=STORE)
@run_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="New folder that ends in .zarr, or file that ends in .parquet.",
)
@click.option("--patches", is_flag=True, help="Also write the tokens of all patches.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@jobs_option
@scheduler_option
@cache_options
@output_options
def embed(
    what: Path,
    run_path: Path | None,
    out: Path,
    scheduler: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Write the encoder's embeddings of WHAT, a store or a recording, as zarr or Parquet."""
    from biopart.executor import calls_on
    from biopart.run import find_run
    from biopart.verbs.embed import embed as write

    run = find_run(run_path)
    with calls_on(scheduler):
        output.emit(write(run, what, out, **options))
